//! Takes good results.

use std::collections::HashMap;

use tasker_stack::gather::{Gap, Stage};
use tasker_store::{Completion, FastVerdict, Started, StoreError, Verdict};
use tasker_trace::TraceContext;
use tracing::field::Empty;
use uuid::Uuid;

use crate::{
    announce::Outlets,
    settle_steps::{Fast, Unjudged, Unsettled},
};

/// The most bytes of results in one transaction.
const MAX_BYTES: usize = 32 << 20;

/// The verb: completes plain steps that their workers still hold. The children that they unlock begin in
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

impl Completed {
    /// A verdict that nothing has begun after.
    pub fn without_next(verdict: Verdict) -> Self {
        Self { verdict, started: Vec::new(), traceparent: String::new() }
    }
}

impl Stage for CompleteSteps {
    type Item = Completion;
    type Answer = Fast<Completed>;
    type Error = StoreError;
    type Key = (Uuid, i32);

    const MAX_WEIGHT: usize = MAX_BYTES;
    // Gathered by step-enqueuer.
    const GAP: Gap = Gap::None;

    fn weight(item: &Completion) -> usize {
        item.payload.data.len()
    }

    fn key(item: &Completion) -> (Uuid, i32) {
        (item.held.task_id, item.held.ordinal)
    }

    async fn apply(&self, items: &[Completion]) -> Result<Vec<Fast<Completed>>, StoreError> {
        let (spans, traced): (Vec<_>, Vec<_>) = items.iter().cloned().map(traced).unzip();
        let judged = self.outlets.database.store.complete_steps(&traced, &self.outlets.actor).await;
        let (verdicts, started) = self.outlets.tell(judged)?;
        let mut started = by_delivery(started);
        let answer = |(nth, verdict): (usize, FastVerdict)| match verdict {
            FastVerdict::NotPlain => {
                let item = Unjudged::Good(traced[nth].clone());
                Fast::NotPlain(Box::new(Unsettled::left(item, spans[nth].clone())))
            }
            FastVerdict::Judged(verdict) => {
                Fast::Judged(answer(&traced[nth], verdict, &mut started))
            }
        };
        Ok(verdicts.into_iter().enumerate().map(answer).collect())
    }

    fn may_be_one_items_fault(error: &StoreError) -> bool {
        !error.is_unavailable()
    }
}

/// Steps that have begun, by the places where they did.
pub fn by_delivery(started: Vec<Started>) -> HashMap<Uuid, Started> {
    started.into_iter().map(|step| (step.held.delivery_id, step)).collect()
}

/// The answer to one item, with what has begun in its places.
pub fn answer(
    item: &Completion,
    verdict: Verdict,
    started: &mut HashMap<Uuid, Started>,
) -> Completed {
    let places = item.places.iter();
    let started = places.filter_map(|place| started.remove(&place.delivery_id)).collect();
    Completed { verdict, started, traceparent: item.traceparent.clone() }
}

/// The span of one item, which its children's messages name.
pub fn traced(mut item: Completion) -> (tracing::Span, Completion) {
    let span = tracing::info_span!(
        "step.complete",
        task.id = %item.held.task_id,
        step.ordinal = item.held.ordinal,
        // Of a good result that is no good: see `fail_steps::name_for_failure`.
        step.attempt = Empty,
        error.type = Empty
    );
    item.traceparent = TraceContext::through(&item.traceparent, &span);
    (span, item)
}
