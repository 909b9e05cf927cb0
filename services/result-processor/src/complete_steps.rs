//! Takes good results.

use tasker_stack::gather::Stage;
use tasker_store::{Completion, StoreError, Verdict};
use tasker_trace::TraceContext;
use uuid::Uuid;

use crate::announce::Outlets;

/// The verb: completes the steps that their workers still hold, and makes their unlocked children ready.
pub struct CompleteSteps {
    pub outlets: Outlets,
}

impl Stage for CompleteSteps {
    type Item = Completion;
    type Answer = Verdict;
    type Error = StoreError;
    type Key = (Uuid, i32);

    fn key(item: &Completion) -> (Uuid, i32) {
        (item.held.task_id, item.held.ordinal)
    }

    async fn apply(&self, items: &[Completion]) -> Result<Vec<Verdict>, StoreError> {
        let (_spans, items): (Vec<_>, Vec<_>) = items.iter().cloned().map(traced).unzip();
        let judged = self.outlets.database.store.complete_steps(&items, &self.outlets.actor).await;
        self.outlets.tell(judged)
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
