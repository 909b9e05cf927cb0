//! What an attempt comes to: a result, and what a decision or a plan says of what comes into being.

use serde::Serialize;
use tasker_api::v1::{
    CreateBatches, CreateSteps, Expansion, NoBatches, NoBranches, Payload, expansion::Outcome,
};
use tasker_client::json;

use crate::failure::HandlerError;

/// The good end of an attempt, ready to be sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    pub(crate) payload: Payload,
    pub(crate) expansion: Option<Expansion>,
}

/// What a handler may return: whatever can be written as JSON, a [`Decision`], or [`Batches`].
pub trait IntoOutput {
    /// The same, ready to be sent.
    ///
    /// # Errors
    /// Permanent, `INVALID_OUTPUT`: it cannot be written as JSON.
    fn into_output(self) -> Result<Output, HandlerError>;
}

/// What a step of type `decision` decides: which of the steps that depend on it come into being.
#[derive(Clone, Debug)]
#[must_use = "a handler returns it"]
pub struct Decision {
    steps: Vec<String>,
    result: Option<Result<Payload, HandlerError>>,
}

/// What a step of type `batchable` plans: what each run of its batch worker is to work on.
#[derive(Clone, Debug)]
#[must_use = "a handler returns it"]
pub struct Batches {
    cursors: Result<Vec<Payload>, HandlerError>,
    result: Option<Result<Payload, HandlerError>>,
}

impl Decision {
    /// These steps come into being, and all that follows from them. Each must depend on the decision
    /// directly, or it fails for good, as `UNREACHABLE_STEP`.
    pub fn create_steps<N: Into<String>>(names: impl IntoIterator<Item = N>) -> Self {
        Self { steps: names.into_iter().map(Into::into).collect(), result: None }
    }

    /// None of the steps comes into being.
    pub fn no_branches() -> Self {
        Self { steps: Vec::new(), result: None }
    }

    /// What the dependants are given. Default: the names of the steps.
    pub fn with_result(self, result: &impl Serialize) -> Self {
        Self { result: Some(written(result)), ..self }
    }
}

impl Batches {
    /// One run of the worker for each cursor, which it is given. Without any, the same as [`Batches::none`].
    pub fn of<C: Serialize>(cursors: impl IntoIterator<Item = C>) -> Self {
        let cursors = cursors.into_iter().map(|cursor| written(&cursor)).collect();
        Self { cursors, result: None }
    }

    /// There is nothing to do: one run of the worker, which is told so.
    pub fn none() -> Self {
        Self { cursors: Ok(Vec::new()), result: None }
    }

    /// What the dependants are given. Default: how many batches there are.
    pub fn with_result(self, result: &impl Serialize) -> Self {
        Self { result: Some(written(result)), ..self }
    }
}

impl Output {
    /// The step's result, as its dependants are given it.
    #[must_use]
    pub fn payload(&self) -> &Payload {
        &self.payload
    }

    /// What comes into being by it, if it says so.
    #[must_use]
    pub fn expansion(&self) -> Option<&Expansion> {
        self.expansion.as_ref()
    }
}

impl From<Payload> for Output {
    fn from(payload: Payload) -> Self {
        Self { payload, expansion: None }
    }
}

impl<T: Serialize> IntoOutput for T {
    fn into_output(self) -> Result<Output, HandlerError> {
        written(&self).map(Output::from)
    }
}

impl IntoOutput for Output {
    fn into_output(self) -> Result<Output, HandlerError> {
        Ok(self)
    }
}

impl IntoOutput for Decision {
    fn into_output(self) -> Result<Output, HandlerError> {
        let Self { steps: step_names, result } = self;
        let payload = result.unwrap_or_else(|| written(&step_names))?;
        let outcome = if step_names.is_empty() {
            Outcome::NoBranches(NoBranches {})
        } else {
            Outcome::CreateSteps(CreateSteps { step_names })
        };
        Ok(Output { payload, expansion: Some(Expansion { outcome: Some(outcome) }) })
    }
}

impl IntoOutput for Batches {
    fn into_output(self) -> Result<Output, HandlerError> {
        let cursors = self.cursors?;
        let payload = self.result.unwrap_or_else(|| written(&cursors.len()))?;
        let outcome = if cursors.is_empty() {
            Outcome::NoBatches(NoBatches {})
        } else {
            Outcome::CreateBatches(CreateBatches { cursors })
        };
        Ok(Output { payload, expansion: Some(Expansion { outcome: Some(outcome) }) })
    }
}

pub(crate) fn written(value: &impl Serialize) -> Result<Payload, HandlerError> {
    json::payload(value)
        .map_err(|error| HandlerError::permanent("INVALID_OUTPUT", error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(output: impl IntoOutput) -> (String, Option<Outcome>) {
        let Output { payload, expansion } = output.into_output().unwrap();
        let text = String::from_utf8(payload.data.to_vec()).unwrap();
        (text, expansion.and_then(|it| it.outcome))
    }

    #[test]
    fn a_decision_names_what_comes_into_being_beside_its_result() {
        let (result, outcome) = said(Decision::create_steps(["approve", "notify"]));
        assert_eq!(result, r#"["approve","notify"]"#);
        let step_names = vec!["approve".to_owned(), "notify".to_owned()];
        assert_eq!(outcome, Some(Outcome::CreateSteps(CreateSteps { step_names })));
        let (result, outcome) = said(Decision::no_branches().with_result(&"too small"));
        assert_eq!(result, r#""too small""#);
        assert_eq!(outcome, Some(Outcome::NoBranches(NoBranches {})));
    }

    #[test]
    fn batches_carry_a_cursor_each_and_no_cursor_is_no_batch() {
        let (result, outcome) = said(Batches::of([(0, 9), (10, 19)]));
        assert_eq!(result, "2");
        let Some(Outcome::CreateBatches(batches)) = outcome else { panic!("{outcome:?}") };
        let cursors: Vec<_> = batches.cursors.iter().map(|cursor| cursor.data.as_ref()).collect();
        assert_eq!(cursors, [b"[0,9]".as_slice(), b"[10,19]"]);
        assert_eq!(said(Batches::of::<u8>([])), said(Batches::none()));
    }

    #[test]
    fn any_other_output_says_nothing() {
        assert_eq!(said(16), ("16".to_owned(), None));
    }
}
