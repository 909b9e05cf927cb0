//! What a step goes on from, and the wish to go on later.

use std::{fmt, time::Duration};

use serde::{Serialize, de::DeserializeOwned};
use tasker_api::v1::{self, Payload};
use tasker_client::json;

use crate::{failure::HandlerError, output::written};

/// What a step goes on from: where it stands, what is done, and what has been worked out so far.
///
/// In JSON here; [`v1::Checkpoint`] is the same with payloads of any form.
#[derive(Clone, Default, PartialEq)]
pub struct Checkpoint(v1::Checkpoint);

impl Checkpoint {
    /// Where to go on.
    ///
    /// # Errors
    /// Permanent, `INVALID_OUTPUT`: it has no form in JSON.
    pub fn at(cursor: &impl Serialize) -> Result<Self, HandlerError> {
        Ok(Self(v1::Checkpoint { cursor: Some(written(cursor)?), ..v1::Checkpoint::default() }))
    }

    /// Adds how much is done of something: at most 64 counters, with names of 1 to 64 bytes.
    #[must_use]
    pub fn with_counter(mut self, name: impl Into<String>, count: i64) -> Self {
        self.0.counters.insert(name.into(), count);
        self
    }

    /// Adds what has been worked out so far.
    ///
    /// # Errors
    /// Permanent, `INVALID_OUTPUT`: it has no form in JSON.
    pub fn with_result(mut self, result: &impl Serialize) -> Result<Self, HandlerError> {
        self.0.result = Some(written(result)?);
        Ok(self)
    }

    /// Where to go on, if it was saved with that.
    ///
    /// # Errors
    /// Permanent, `INVALID_INPUT`: it is not JSON, or not a `T`.
    pub fn cursor<T: DeserializeOwned>(&self) -> Result<Option<T>, HandlerError> {
        read("the checkpoint's cursor", self.0.cursor.as_ref())
    }

    /// How much is done of something; 0 if nothing was counted.
    #[must_use]
    pub fn counter(&self, name: &str) -> i64 {
        self.0.counters.get(name).copied().unwrap_or(0)
    }

    /// What has been worked out so far, if it was saved with that.
    ///
    /// # Errors
    /// Permanent, `INVALID_INPUT`: it is not JSON, or not a `T`.
    pub fn result<T: DeserializeOwned>(&self) -> Result<Option<T>, HandlerError> {
        read("the checkpoint's result", self.0.result.as_ref())
    }
}

fn read<T: DeserializeOwned>(
    what: &str,
    payload: Option<&Payload>,
) -> Result<Option<T>, HandlerError> {
    let parsed = payload.map(json::parse).transpose();
    parsed.map_err(|error| HandlerError::invalid_input(what, &error))
}

impl From<v1::Checkpoint> for Checkpoint {
    fn from(raw: v1::Checkpoint) -> Self {
        Self(raw)
    }
}

impl From<Checkpoint> for v1::Checkpoint {
    fn from(checkpoint: Checkpoint) -> Self {
        checkpoint.0
    }
}

impl fmt::Debug for Checkpoint {
    // Without the payloads: they are the user's, and not for logs.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Checkpoint").field("counters", &self.0.counters).finish_non_exhaustive()
    }
}

/// The end of a delivery, but not of its step: it is delivered again, with the step's whole timeout, and
/// without using up an attempt.
///
/// A handler returns it in the place of an error:
///
/// ```
/// # use std::time::Duration;
/// # use tasker_worker::{Checkpoint, HandlerError, Yield};
/// # fn example(page: u32) -> Result<u64, HandlerError> {
/// return Err(Yield::at(Checkpoint::at(&page)?).after(Duration::from_secs(60)).into());
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Yield {
    checkpoint: Option<Checkpoint>,
    delay: Duration,
}

impl Yield {
    /// Goes on from here; the checkpoint is saved in the commit that takes the step back.
    #[must_use]
    pub fn at(checkpoint: Checkpoint) -> Self {
        Self { checkpoint: Some(checkpoint), delay: Duration::ZERO }
    }

    /// Goes on from what was saved last, if anything was.
    #[must_use]
    pub fn from_last() -> Self {
        Self::default()
    }

    /// Is not delivered again before so long; at most 30 days.
    #[must_use]
    pub fn after(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }
}

impl From<Yield> for v1::StepYield {
    fn from(step: Yield) -> Self {
        Self {
            checkpoint: step.checkpoint.map(Into::into),
            // A wait that is too long to be written is longer than anyone waits.
            delay: step.delay.try_into().ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_is_read_as_it_was_written() {
        let written = Checkpoint::at(&("page", 7)).unwrap().with_counter("rows", 700);
        let written = written.with_result(&[1.5]).unwrap();
        let read = Checkpoint::from(v1::Checkpoint::from(written));
        assert_eq!(read.cursor::<(String, u8)>().unwrap(), Some(("page".to_owned(), 7)));
        assert_eq!(read.result::<Vec<f64>>().unwrap(), Some(vec![1.5]));
        assert_eq!((read.counter("rows"), read.counter("others")), (700, 0));
        assert_eq!(Checkpoint::default().cursor::<u8>().unwrap(), None);
    }

    #[test]
    fn a_checkpoint_that_does_not_fit_is_a_permanent_failure_that_says_where() {
        let error = Checkpoint::at(&"text").unwrap().cursor::<u8>().unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), ("INVALID_INPUT", false));
        assert!(error.message().starts_with("the checkpoint's cursor: "), "{error}");
    }
}
