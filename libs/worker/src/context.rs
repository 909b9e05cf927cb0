//! What a handler is given: the step, its inputs, and the sign to stop.

use std::{collections::BTreeMap, fmt, sync::Arc};

use serde::de::DeserializeOwned;
use tasker_api::v1::{self, Delivery, Payload, StepError};
use tasker_client::json;
use tasker_trace::TraceContext;
use tokio_util::sync::CancellationToken;
use tracing::Span;

use crate::{checkpoint::Checkpoint, failure::HandlerError, saves::Saver};

/// One attempt at one step. Clones are cheap, and of the same attempt.
#[derive(Clone)]
pub struct StepContext {
    delivery: Arc<Delivery>,
    cancellation: CancellationToken,
    /// None under test.
    saver: Option<Saver>,
}

impl StepContext {
    /// Of a delivery; for handlers under test, too.
    #[must_use]
    pub fn new(delivery: Delivery) -> Self {
        let cancellation = CancellationToken::new();
        Self { delivery: Arc::new(delivery), cancellation, saver: None }
    }

    pub(crate) fn with_saver(self, saver: Saver) -> Self {
        Self { saver: Some(saver), ..self }
    }

    /// What the task was submitted with; `{}` if it was submitted with nothing.
    ///
    /// # Errors
    /// Permanent, `INVALID_INPUT`: it is not JSON, or not a `T`.
    pub fn input<T: DeserializeOwned>(&self) -> Result<T, HandlerError> {
        parse("the task's context", self.delivery.context.as_ref())
    }

    /// What the template configures this handler with; `{}` if with nothing.
    ///
    /// # Errors
    /// Permanent, `INVALID_INPUT`: it is not a `T`.
    pub fn initialization<T: DeserializeOwned>(&self) -> Result<T, HandlerError> {
        parse("the handler's initialization", self.delivery.initialization.as_ref())
    }

    /// The result of a step that this one depends on.
    ///
    /// # Errors
    /// Permanent, `INVALID_INPUT`: there is no such dependency, or its result is not a `T`.
    pub fn dependency<T: DeserializeOwned>(&self, step: &str) -> Result<T, HandlerError> {
        let what = format!("the result of `{step}`");
        let Some(result) = self.delivery.dependency_results.get(step) else {
            return Err(HandlerError::permanent("INVALID_INPUT", format!("{what}: there is none")));
        };
        parse(&what, Some(result))
    }

    /// The results of all steps that this one depends on, by their names.
    ///
    /// # Errors
    /// Permanent, `INVALID_INPUT`: one of them is not a `T`.
    pub fn dependencies<T: DeserializeOwned>(&self) -> Result<BTreeMap<String, T>, HandlerError> {
        let names = self.delivery.dependency_results.keys();
        names.map(|name| Ok((name.clone(), self.dependency(name)?))).collect()
    }

    /// What the step goes on from: what it had saved last when it was delivered. None at first.
    #[must_use]
    pub fn checkpoint(&self) -> Option<Checkpoint> {
        self.delivery.checkpoint.clone().map(Checkpoint::from)
    }

    /// Saves how far the step has come, for the next attempt to go on from. Returns when it is durable;
    /// while there is no connection, it waits.
    ///
    /// A handler under test, without a worker, has nobody to save it: it is told at once that it is saved.
    ///
    /// # Errors
    /// Retryable, `LEASE_LOST`: the step is not this worker's any more, and whatever the handler returns is
    /// refused. Permanent, `CHECKPOINT_REFUSED`: it is too large, or not what the contract allows; what was
    /// saved before stands. Retryable, `WORKER_STOPPED`.
    pub async fn save_checkpoint(
        &self,
        checkpoint: impl Into<v1::Checkpoint>,
    ) -> Result<(), HandlerError> {
        let Some(saver) = &self.saver else { return Ok(()) };
        saver.save(self.delivery.delivery_token.clone(), checkpoint.into()).await
    }

    /// Why workers of batches that this step depends on have failed for good, by their names: where the
    /// template says `continue_on_failure`.
    #[must_use]
    pub fn failures(&self) -> &BTreeMap<String, StepError> {
        &self.delivery.dependency_failures
    }

    /// What the worker of a batch is to work on, as its batchable step has given it.
    ///
    /// # Errors
    /// Permanent, `INVALID_INPUT`: the step is none of a batch, has nothing to do, or it is not a `T`.
    pub fn cursor<T: DeserializeOwned>(&self) -> Result<T, HandlerError> {
        let cursor = self.delivery.batch.as_ref().and_then(|batch| batch.cursor.as_ref());
        let Some(cursor) = cursor else {
            return Err(HandlerError::permanent("INVALID_INPUT", "the cursor: there is none"));
        };
        parse("the cursor", Some(cursor))
    }

    /// Which batch the worker is for; none if the step is no worker of a batch.
    #[must_use]
    pub fn batch_id(&self) -> Option<&str> {
        self.delivery.batch.as_ref().map(|batch| batch.batch_id.as_str())
    }

    /// Whether there is nothing to do: the batchable step has found no batches.
    #[must_use]
    pub fn is_no_op(&self) -> bool {
        self.delivery.batch.as_ref().is_some_and(|batch| batch.no_op)
    }

    /// The delivery as it came, for payloads that are not JSON.
    #[must_use]
    pub fn delivery(&self) -> &Delivery {
        &self.delivery
    }

    /// A UUIDv7.
    #[must_use]
    pub fn task_id(&self) -> &str {
        &self.delivery.task_id
    }

    /// Unique within the task.
    #[must_use]
    pub fn step_name(&self) -> &str {
        &self.delivery.step_name
    }

    /// Of the task's template.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.delivery.namespace
    }

    /// 1 for the first.
    #[must_use]
    pub fn attempt(&self) -> i32 {
        self.delivery.attempt
    }

    /// Attempts that the step has in all.
    #[must_use]
    pub fn max_attempts(&self) -> i32 {
        self.delivery.max_attempts
    }

    /// The same in every attempt of this step: for effects that must happen once elsewhere.
    #[must_use]
    pub fn idempotency_key(&self) -> &str {
        &self.delivery.idempotency_key
    }

    /// Cancelled when the result will not be taken any more: the lease is lost, the step has timed
    /// out or was cancelled, or the worker must stop. A handler that goes on is dropped soon after.
    #[must_use]
    pub fn cancellation(&self) -> &CancellationToken {
        &self.cancellation
    }

    /// The place in the task's trace to call others from.
    #[must_use]
    pub fn trace(&self) -> TraceContext {
        let delivered = self.delivery.trace.clone().unwrap_or_default();
        TraceContext::from(delivered).or_of(&Span::current())
    }
}

fn parse<T: DeserializeOwned>(what: &str, payload: Option<&Payload>) -> Result<T, HandlerError> {
    let nothing = || Payload { data: "{}".into(), ..Payload::default() };
    let parsed = match payload {
        Some(payload) => json::parse(payload),
        None => json::parse(&nothing()),
    };
    parsed.map_err(|error| HandlerError::invalid_input(what, &error))
}

impl fmt::Debug for StepContext {
    // Without the payloads: they are the user's, and not for logs.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("StepContext")
            .field("task_id", &self.task_id())
            .field("step_name", &self.step_name())
            .field("attempt", &self.attempt())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tasker_api::v1::Batch;

    use super::*;

    fn json(text: &'static str) -> Payload {
        Payload { data: text.into(), ..Payload::default() }
    }

    #[test]
    fn inputs_are_read_as_what_the_handler_wants() {
        let step = StepContext::new(Delivery {
            context: Some(json(r#"{"n": 6}"#)),
            dependency_results: [("a", "36"), ("b", "49")]
                .map(|(name, value)| (name.to_owned(), json(value)))
                .into(),
            ..Delivery::default()
        });
        assert_eq!(step.input::<BTreeMap<String, u8>>().unwrap()["n"], 6);
        assert_eq!(step.dependency::<u8>("a").unwrap(), 36);
        assert_eq!(step.dependencies::<u8>().unwrap().into_values().collect::<Vec<_>>(), [36, 49]);
        assert!(step.initialization::<BTreeMap<String, u8>>().unwrap().is_empty());
    }

    #[test]
    fn the_worker_of_a_batch_reads_its_cursor_and_no_other_step_has_one() {
        let batch =
            Batch { batch_id: "2".to_owned(), cursor: Some(json("[10, 19]")), no_op: false };
        let step = StepContext::new(Delivery { batch: Some(batch), ..Delivery::default() });
        assert_eq!(step.cursor::<(u8, u8)>().unwrap(), (10, 19));
        assert_eq!((step.batch_id(), step.is_no_op()), (Some("2"), false));
        let nothing = Batch { no_op: true, ..Batch::default() };
        let step = StepContext::new(Delivery { batch: Some(nothing), ..Delivery::default() });
        assert!(step.is_no_op());
        assert_eq!(step.cursor::<u8>().unwrap_err().kind(), "INVALID_INPUT");
        assert_eq!(StepContext::new(Delivery::default()).batch_id(), None);
    }

    #[test]
    fn an_input_that_does_not_fit_is_a_permanent_failure_that_says_where() {
        let context = Some(json(r#"{"n": "six"}"#));
        let step = StepContext::new(Delivery { context, ..Delivery::default() });
        let error = step.input::<BTreeMap<String, u8>>().unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), ("INVALID_INPUT", false));
        assert!(error.message().starts_with("the task's context: `n` is"), "{error}");
        let error = step.dependency::<u8>("missing").unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), ("INVALID_INPUT", false));
    }
}
