//! Takes good results.

use std::collections::HashMap;

use tasker_stack::gather::Stage;
use tasker_store::{Completion, Started, StoreError, Verdict};
use tasker_trace::TraceContext;
use uuid::Uuid;

use crate::announce::Outlets;

/// The verb: completes the steps that their workers still hold. The children that they unlock begin in
/// the places that are kept for them, or are made ready.
pub struct CompleteSteps {
    pub outlets: Outlets,
}

/// What became of a good result.
#[derive(Debug)]
pub struct Completed {
    pub verdict: Verdict,
    /// What has begun in the places that came with it.
    pub started: Vec<Started>,
    /// Of the span that judged it.
    pub traceparent: String,
}

impl Stage for CompleteSteps {
    type Item = Completion;
    type Answer = Completed;
    type Error = StoreError;
    type Key = (Uuid, i32);

    fn key(item: &Completion) -> (Uuid, i32) {
        (item.held.task_id, item.held.ordinal)
    }

    async fn apply(&self, items: &[Completion]) -> Result<Vec<Completed>, StoreError> {
        let (_spans, items): (Vec<_>, Vec<_>) = items.iter().cloned().map(traced).unzip();
        let judged = self.outlets.database.store.complete_steps(&items, &self.outlets.actor).await;
        let (verdicts, started) = self.outlets.tell(judged)?;
        let mut started: HashMap<Uuid, Started> =
            started.into_iter().map(|step| (step.held.delivery_id, step)).collect();
        let completed = items.into_iter().zip(verdicts).map(|(item, verdict)| {
            let places = item.places.iter();
            let started = places.filter_map(|place| started.remove(&place.delivery_id)).collect();
            Completed { verdict, started, traceparent: item.traceparent }
        });
        Ok(completed.collect())
    }

    fn may_be_one_items_fault(error: &StoreError) -> bool {
        !error.is_unavailable()
    }
}

/// The span of one item, which its children's messages name.
fn traced(mut item: Completion) -> (tracing::Span, Completion) {
    let span = tracing::info_span!("step.complete", task.id = %item.held.task_id, step.ordinal = item.held.ordinal);
    item.traceparent = TraceContext::through(&item.traceparent, &span);
    (span, item)
}
