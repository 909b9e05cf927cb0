//! Repairs steps by hand, and has their tasks go on.

use tasker_domain::{TaskId, expand::Limits};
use tasker_stack::gather::Stage;
use tasker_store::{
    Announcement, DomainEvent, Outcome, Remedy, Repaired, SettledByHand, StoreError, ToRepair,
};
use uuid::Uuid;

use crate::{
    announce::Outlets,
    events::{End, Event, events_of_ended, events_of_failed},
    expansions::by_hand,
};

/// The verb: what operators' results bring into being comes with them, and so do the events of the steps
/// that are settled, and of those that fail since the end of their task had cut them off.
pub struct RepairSteps {
    pub outlets: Outlets,
    /// How far one decision may go.
    pub limits: Limits,
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
        let Outlets { database, step_enqueuer, finalizer, announcer, events, .. } = &self.outlets;
        let repaired = self.repair(items).await;
        let (repaired, told) = repaired.inspect_err(|error| database.noticed(error))?;
        step_enqueuer.tell(repaired.ready);
        finalizer.tell(repaired.finalizations);
        announcer.announce(Announcement {
            tasks: repaired.watched.into_iter().collect(),
            cancelled: repaired.lost.into_iter().collect(),
            ..Announcement::default()
        });
        events.tell(told.into_iter().filter(|(_, way)| way.is_fast()).map(|(event, _)| event));
        Ok(repaired.outcomes)
    }

    fn may_be_one_items_fault(error: &StoreError) -> bool {
        !error.is_unavailable()
    }
}

impl RepairSteps {
    /// One transaction.
    async fn repair(&self, items: &[ToRepair]) -> Result<(Repaired, Vec<Event>), StoreError> {
        let store = &self.outlets.database.store;
        let tasks: Vec<Uuid> = items.iter().map(|item| item.task_id.0).collect();
        let mut settlement = store.begin_repairs(&tasks).await?;
        let judged = by_hand::judge(store, &mut settlement, items, &self.limits).await?;
        let repaired = store.repair_steps(&mut settlement, items, judged).await?;
        let mut events = events_of_failed(store, &repaired.cut_off).await?;
        for SettledByHand { place, step } in &repaired.settled {
            let end = match &items[*place].remedy {
                Remedy::Complete(result) => End::Success(result),
                Remedy::Resolve => End::ResolvedManually,
                // No end.
                Remedy::Reset => continue,
            };
            events.extend(events_of_ended(store, step, end).await?);
        }
        let durable = events.iter().filter(|(_, way)| way.is_durable());
        let durable: Vec<&DomainEvent> = durable.map(|(event, _)| event).collect();
        settlement.publish(&durable).await?;
        settlement.commit().await?;
        Ok((repaired, events))
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
