//! What comes into being by a result, on the wire and in the domain.

use prost::Message as _;
use tasker_domain::{expand::Expansion, template::MAX_BATCHES};

use crate::{
    Invalid, field,
    v1::{self, expansion::Outcome},
};

/// The longest name of a step, in bytes.
const MAX_NAME: usize = 128;
/// The most that one result may name or plan.
const MOST: usize = MAX_BATCHES as usize;

/// Checks what a result says of what comes into being. Cursors come back as they are to be delivered.
///
/// # Errors
/// It says nothing, names nothing or too much, or a name or cursor cannot be kept.
pub fn check(path: &str, expansion: v1::Expansion) -> Result<v1::Expansion, Invalid> {
    let checked = match expansion.outcome {
        Some(Outcome::CreateSteps(steps)) => {
            let at = format!("{path}.create_steps.step_names");
            counted(&at, steps.step_names.len(), "no_branches")?;
            let name = |(nth, name)| field::text(&format!("{at}[{nth}]"), name, MAX_NAME);
            let step_names = steps.step_names.into_iter().enumerate().map(name);
            Outcome::CreateSteps(v1::CreateSteps {
                step_names: step_names.collect::<Result<_, _>>()?,
            })
        }
        Some(Outcome::CreateBatches(batches)) => {
            let at = format!("{path}.create_batches.cursors");
            counted(&at, batches.cursors.len(), "no_batches")?;
            let cursor = |(nth, cursor)| {
                let cursor = field::payload(&format!("{at}[{nth}]"), Some(cursor))?;
                let field::Payload { content_type, data, metadata } = cursor;
                Ok(v1::Payload { content_type, data, metadata })
            };
            let cursors = batches.cursors.into_iter().enumerate().map(cursor);
            Outcome::CreateBatches(v1::CreateBatches {
                cursors: cursors.collect::<Result<_, Invalid>>()?,
            })
        }
        Some(nothing @ (Outcome::NoBranches(_) | Outcome::NoBatches(_))) => nothing,
        None => return Err(Invalid::field(path, "says nothing: leave it out, or set an outcome")),
    };
    Ok(v1::Expansion { outcome: Some(checked) })
}

fn counted(path: &str, count: usize, nothing: &str) -> Result<(), Invalid> {
    match count {
        0 => Err(Invalid::field(path, format!("empty: say `{nothing}`"))),
        1..=MOST => Ok(()),
        _ => Err(Invalid::field(path, format!("{count} of them: at most {MOST}"))),
    }
}

/// What was encoded of a checked one: what it means, and the cursors of what it plans.
///
/// # Errors
/// It is none.
pub fn decode(bytes: &[u8]) -> Result<(Expansion, Vec<v1::Payload>), String> {
    let said = v1::Expansion::decode(bytes).map_err(|error| error.to_string())?;
    said.read().ok_or_else(|| "it says nothing".to_owned())
}

impl v1::Expansion {
    /// What it means, and the cursors of what it plans.
    #[must_use]
    pub fn read(self) -> Option<(Expansion, Vec<v1::Payload>)> {
        Some(match self.outcome? {
            Outcome::CreateSteps(steps) => (Expansion::CreateSteps(steps.step_names), Vec::new()),
            Outcome::NoBranches(_) => (Expansion::NoBranches, Vec::new()),
            Outcome::CreateBatches(v1::CreateBatches { cursors }) => {
                (Expansion::CreateBatches(cursors.len()), cursors)
            }
            Outcome::NoBatches(_) => (Expansion::NoBatches, Vec::new()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn violations(outcome: Option<Outcome>) -> Vec<String> {
        let invalid = check("expansion", v1::Expansion { outcome }).unwrap_err();
        invalid.violations().iter().map(|(path, _)| path.clone()).collect()
    }

    #[test]
    fn an_outcome_that_says_nothing_is_refused_with_its_path() {
        let steps = |step_names: &[String]| {
            Some(Outcome::CreateSteps(v1::CreateSteps { step_names: step_names.to_vec() }))
        };
        let names = "expansion.create_steps.step_names";
        assert_eq!(violations(None), ["expansion"]);
        assert_eq!(violations(steps(&[])), [names]);
        let long = "n".repeat(MAX_NAME + 1);
        assert_eq!(violations(steps(&["a".to_owned(), long])), [format!("{names}[1]")]);
        let cursor = v1::Payload { data: "{".into(), ..v1::Payload::default() };
        let batches = |cursors| Some(Outcome::CreateBatches(v1::CreateBatches { cursors }));
        let cursors = "expansion.create_batches.cursors";
        assert_eq!(violations(batches(vec![])), [cursors]);
        assert_eq!(violations(batches(vec![cursor])), [format!("{cursors}[0].data")]);
        let many = vec![v1::Payload::default(); MOST + 1];
        assert_eq!(violations(batches(many)), [cursors]);
    }
}
