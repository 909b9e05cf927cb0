//! Judges failures: another attempt after a wait, or the end.

use std::time::Duration;

use tasker_stack::gather::{Gap, Stage};
use tasker_store::{Failure, FastVerdict, StoreError, Verdict};
use tasker_trace::TraceContext;
use uuid::Uuid;

use crate::{
    announce::Outlets,
    patience::Patience,
    settle_steps::{Fast, Unjudged, Unsettled},
};

/// A failure, and what is known of how long to wait.
#[derive(Debug, Clone)]
pub struct Failed {
    pub failure: Failure,
    /// Which attempt it was.
    pub attempt: i32,
    /// What the worker asked to wait at least.
    pub retry_after: Duration,
    /// A lost lease is retried at once: the handler did not ask for patience.
    pub at_once: bool,
}

/// The verb: judges failures of plain steps.
pub struct FailSteps {
    pub outlets: Outlets,
    pub patience: Patience,
}

impl Stage for FailSteps {
    type Item = Failed;
    type Answer = Fast<Verdict>;
    type Error = StoreError;
    type Key = (Uuid, i32);

    // Gathered by step-enqueuer.
    const GAP: Gap = Gap::None;

    fn key(item: &Failed) -> (Uuid, i32) {
        (item.failure.held.task_id, item.failure.held.ordinal)
    }

    async fn apply(&self, items: &[Failed]) -> Result<Vec<Fast<Verdict>>, StoreError> {
        let waits = self
            .patience
            .waits(items)
            .await
            .inspect_err(|error| self.outlets.database.noticed(error))?;
        let with_wait = items.iter().cloned().zip(waits).map(traced);
        let (spans, failures): (Vec<_>, Vec<_>) = with_wait.unzip();
        let judged = self.outlets.database.store.fail_steps(&failures, &self.outlets.actor).await;
        let (verdicts, _) = self.outlets.tell(judged)?;
        let answer = |(nth, verdict): (usize, FastVerdict)| match verdict {
            FastVerdict::NotPlain => {
                let failure = failures[nth].clone();
                let item = Unjudged::Bad(Failed { failure, ..items[nth].clone() });
                Fast::NotPlain(Box::new(Unsettled::left(item, spans[nth].clone())))
            }
            FastVerdict::Judged(verdict) => Fast::Judged(verdict),
        };
        Ok(verdicts.into_iter().enumerate().map(answer).collect())
    }

    fn may_be_one_items_fault(error: &StoreError) -> bool {
        !error.is_unavailable()
    }
}

/// The failure with its wait, and its span.
pub fn traced((item, wait): (Failed, Duration)) -> (tracing::Span, Failure) {
    let mut failure = item.failure;
    failure.wait_ms = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
    let span = tracing::info_span!(
        "step.fail",
        task.id = %failure.held.task_id,
        step.ordinal = failure.held.ordinal,
        step.attempt = item.attempt,
        error.type = failure.error_type,
        wait_ms = failure.wait_ms
    );
    failure.traceparent = TraceContext::through(&failure.traceparent, &span);
    (span, failure)
}

/// Has the span of a good result tell of the failure that it was judged to be.
pub fn name_for_failure(span: &tracing::Span, failed: &Failed) {
    tasker_trace::rename(span, "step.fail");
    span.record("step.attempt", failed.attempt);
    span.record("error.type", &failed.failure.error_type);
}
