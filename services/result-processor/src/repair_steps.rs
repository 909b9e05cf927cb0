//! Repairs steps by hand, and has their tasks go on.

use tasker_domain::TaskId;
use tasker_stack::gather::Stage;
use tasker_store::{Announcement, Outcome, StoreError, ToRepair};

use crate::announce::Outlets;

/// The verb.
pub struct RepairSteps {
    pub outlets: Outlets,
}

impl Stage for RepairSteps {
    type Item = ToRepair;
    type Answer = Outcome;
    type Error = StoreError;
    type Key = TaskId;

    fn key(item: &ToRepair) -> TaskId {
        item.task_id
    }

    async fn apply(&self, items: &[ToRepair]) -> Result<Vec<Outcome>, StoreError> {
        let _spans: Vec<_> = items.iter().map(span).collect();
        let Outlets { database, step_enqueuer, finalizer, announcer, .. } = &self.outlets;
        let repaired = database.store.repair_steps(items).await;
        let repaired = repaired.inspect_err(|error| database.noticed(error))?;
        step_enqueuer.tell(repaired.ready);
        finalizer.tell(repaired.finalizations);
        announcer.announce(Announcement {
            tasks: repaired.watched.into_iter().collect(),
            cancelled: repaired.lost.into_iter().collect(),
            ..Announcement::default()
        });
        Ok(repaired.outcomes)
    }

    fn may_be_one_items_fault(error: &StoreError) -> bool {
        !error.is_unavailable()
    }
}

fn span(item: &ToRepair) -> tracing::Span {
    tracing::info_span!(
        "step.repair",
        task.id = %item.task_id,
        step.name = item.step,
        event = ?item.remedy.event()
    )
}
