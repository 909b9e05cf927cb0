//! Domain events: what a step tells others when it has ended.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Schema, Violation};

/// Of one step.
const MAX_EVENTS: usize = 20;
/// The longest name, in bytes.
const MAX_NAME: usize = 128;

/// An event that a step publishes.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// 1 to 128 characters of `a-z 0-9 _ -`, in parts separated by dots: `orders.payment_taken`.
    pub name: String,
    /// At which end of the step.
    pub condition: Condition,
    /// By which way.
    pub delivery: Delivery,
    /// What the result must be that a success carries.
    pub schema: Option<Schema>,
}

/// At which end of its step an event is published. An attempt that is tried again is no end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// The step is complete.
    #[default]
    Success,
    /// The step has failed for good.
    Failure,
    /// Whichever end it is: also one by hand, without a result.
    Always,
}

/// How an event reaches others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// By the queue `<namespace>_domain_events`, in the commit that takes the result: exactly once.
    #[default]
    Durable,
    /// To those who subscribe at that moment, best effort.
    Fast,
    /// Both.
    Broadcast,
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is complete.
    Success,
    /// It has failed for good.
    Failure,
    /// An operator has settled it, without a result.
    ResolvedManually,
}

impl Condition {
    /// Whether an end of that kind is told.
    #[must_use]
    pub fn includes(self, outcome: Outcome) -> bool {
        match self {
            Self::Success => outcome == Outcome::Success,
            Self::Failure => outcome == Outcome::Failure,
            Self::Always => true,
        }
    }
}

impl Delivery {
    /// Whether it goes to the queue.
    #[must_use]
    pub fn is_durable(self) -> bool {
        matches!(self, Self::Durable | Self::Broadcast)
    }

    /// Whether it goes to subscribers.
    #[must_use]
    pub fn is_fast(self) -> bool {
        matches!(self, Self::Fast | Self::Broadcast)
    }
}

/// An event as people write it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Declared {
    name: String,
    #[serde(default)]
    condition: Condition,
    #[serde(default)]
    delivery: Delivery,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    schema: Option<Value>,
}

/// Compiles what a step publishes; what is wrong with it goes to `found`.
pub(super) fn compile(
    path: &str,
    declared: Vec<Declared>,
    found: &mut Vec<Violation>,
) -> Vec<Event> {
    let mut wrong = |path: String, description: String| found.push(Violation { path, description });
    if declared.len() > MAX_EVENTS {
        wrong(path.to_owned(), format!("{} events: at most {MAX_EVENTS}", declared.len()));
        return Vec::new();
    }
    let mut events: Vec<Event> = Vec::with_capacity(declared.len());
    for (nth, Declared { name, condition, delivery, schema }) in declared.into_iter().enumerate() {
        let at = |field: &str| format!("{path}[{nth}].{field}");
        if !is_name(&name) {
            let what = format!(
                "give 1 to {MAX_NAME} characters of a-z 0-9 _ -, in parts separated by dots"
            );
            wrong(at("name"), what);
        }
        if let Some(first) = events.iter().position(|event| event.name == name) {
            wrong(at("name"), format!("{name:?} is also the name of {path}[{first}]"));
        }
        if schema.is_some() && condition == Condition::Failure {
            let what = "what a failure carries is its error: leave the schema out";
            wrong(at("schema"), what.to_owned());
        }
        let schema = schema.and_then(|schema| match Schema::compile(&at("schema"), &schema) {
            Ok(schema) => Some(schema),
            Err(Violation { path, description }) => {
                wrong(path, description);
                None
            }
        });
        events.push(Event { name, condition, delivery, schema });
    }
    events
}

fn is_name(name: &str) -> bool {
    let allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
    name.len() <= MAX_NAME
        && name.split('.').all(|part| !part.is_empty() && part.bytes().all(allowed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Template;

    fn paths(events: &str) -> Vec<String> {
        let step = format!("{{name: a, handler: {{callable: c}}, publishes_events: {events}}}");
        let yaml = format!("{{namespace: n, name: t, version: 1.0.0, steps: [{step}]}}");
        let found = Template::parse(&yaml).err().unwrap_or_default();
        found.into_iter().map(|violation| violation.path).collect()
    }

    #[test]
    fn an_event_needs_no_more_than_a_name() {
        let yaml = "{namespace: n, name: t, version: 1.0.0, steps: [
            {name: a, handler: {callable: c}, publishes_events: [{name: orders.paid}]}]}";
        let template = Template::parse(yaml).unwrap();
        let event = &template.steps[0].events[0];
        assert_eq!((event.condition, event.delivery), (Condition::Success, Delivery::Durable));
        assert!(!template.steps[0].is_plain());
    }

    #[test]
    fn a_wrong_event_is_named_by_its_path() {
        let found = paths(
            "[{name: Orders}, {name: a..b}, {name: a.b}, {name: a.b},
              {name: c, condition: failure, schema: {}}, {name: d, schema: {type: nonsense}}]",
        );
        let at = |place: &str| format!("steps[0].publishes_events{place}");
        let expected =
            ["[0].name", "[1].name", "[3].name", "[4].schema", "[5].schema.type"].map(at);
        assert_eq!(found, expected);
        assert_eq!(paths("[{name: a, when: never}]"), [at("[0].when")]);
    }

    #[test]
    fn conditions_name_ends() {
        assert!(Condition::Always.includes(Outcome::Failure));
        assert!(Condition::Failure.includes(Outcome::Failure));
        assert!(!Condition::Failure.includes(Outcome::Success));
        assert!(!Condition::Success.includes(Outcome::Failure));
        // Which of both it was nobody has said.
        assert!(!Condition::Success.includes(Outcome::ResolvedManually));
        assert!(!Condition::Failure.includes(Outcome::ResolvedManually));
        assert!(Condition::Always.includes(Outcome::ResolvedManually));
    }
}
