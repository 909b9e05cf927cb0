//! Why a step failed, in the words of its handler.

use std::{error::Error, time::Duration};

use tasker_api::v1::{StepError, step_result::Outcome};

use crate::checkpoint::Yield;

/// What the contract allows for the type of a failure, in bytes.
const LONGEST_TYPE: usize = 200;
/// What the contract keeps of a failure's message, in bytes.
const LONGEST_MESSAGE: usize = 8 * 1024;

/// Why a handler could not do a step; or, made of a [`Yield`], not yet.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{kind}: {message}")]
pub struct HandlerError {
    kind: String,
    message: String,
    retryable: bool,
    retry_after: Option<Duration>,
    yields: Option<Box<Yield>>,
}

impl HandlerError {
    /// Another attempt may help, if the step's template allows one.
    ///
    /// `kind` is for programs, for example `network_error`, at most 200 bytes; `message` is for
    /// people, at most 8 KiB. What is longer is cut off.
    pub fn retryable(kind: impl Into<String>, message: impl Into<String>) -> Self {
        let (kind, message) = (kind.into(), message.into());
        Self { kind, message, retryable: true, retry_after: None, yields: None }
    }

    /// No other attempt would help: the step fails for good.
    pub fn permanent(kind: impl Into<String>, message: impl Into<String>) -> Self {
        Self { retryable: false, ..Self::retryable(kind, message) }
    }

    /// Asks to wait this long before the next attempt, if the step's own back-off is shorter.
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..self }
    }

    /// What a handler was given does not fit: permanent, of type `INVALID_INPUT`.
    pub fn invalid_input(what: &str, error: &dyn Error) -> Self {
        let mut message = format!("{what}: {error}");
        let mut source = error.source();
        while let Some(error) = source {
            message = format!("{message}: {error}");
            source = error.source();
        }
        Self::permanent("INVALID_INPUT", message)
    }

    /// For programs.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// For people.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Whether another attempt may help.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        self.retryable
    }

    /// How long to wait before the next attempt at least.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

impl HandlerError {
    /// Whether it is no failure, but the wish to go on later.
    #[must_use]
    pub const fn is_yield(&self) -> bool {
        self.yields.is_some()
    }

    pub(crate) fn into_outcome(mut self) -> Outcome {
        match self.yields.take() {
            Some(step) => Outcome::Yielded((*step).into()),
            None => Outcome::Failure(self.into()),
        }
    }
}

impl From<Yield> for HandlerError {
    fn from(step: Yield) -> Self {
        Self {
            yields: Some(Box::new(step)),
            ..Self::retryable("YIELDED", "the step is not done yet, and goes on later")
        }
    }
}

impl From<HandlerError> for StepError {
    fn from(error: HandlerError) -> Self {
        Self {
            r#type: cut(error.kind, LONGEST_TYPE),
            message: cut(error.message, LONGEST_MESSAGE),
            retryable: error.retryable,
        }
    }
}

fn cut(mut text: String, longest: usize) -> String {
    text.truncate(text.floor_char_boundary(longest));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_is_cut_between_characters() {
        let error = StepError::from(HandlerError::permanent("ä".repeat(300), "x".repeat(9000)));
        assert_eq!(error.r#type, "ä".repeat(100));
        assert_eq!(error.message.len(), 8192);
    }
}
