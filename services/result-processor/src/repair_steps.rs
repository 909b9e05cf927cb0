//! Repairs steps by hand, and has their tasks go on.

use tasker_domain::{TaskId, expand::Limits, template::Delivery};
use tasker_stack::gather::Stage;
use tasker_store::{
    Announcement, DomainEvent, Outcome, Remedy, Repaired, SettledByHand, StoreError, ToRepair,
};
use uuid::Uuid;

use crate::{
    announce::Outlets,
    events::{End, Ending, events_of},
    expansions::by_hand,
};

/// The verb: what operators' results bring into being comes with them, and so do the events of the steps
/// that are settled.
pub struct RepairSteps {
    pub outlets: Outlets,
    /// How far one decision may go.
    pub limits: Limits,
}

/// An event of one of the steps, with its ways.
type Event = (DomainEvent, Delivery);

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
        let mut repaired = store.repair_steps(&mut settlement, items, judged).await?;
        let mut events = Vec::new();
        for settled in std::mem::take(&mut repaired.settled) {
            events.extend(self.events(&settled, &items[settled.place].remedy).await?);
        }
        let durable = events.iter().filter(|(_, way)| way.is_durable());
        let durable: Vec<&DomainEvent> = durable.map(|(event, _)| event).collect();
        settlement.publish(&durable).await?;
        settlement.commit().await?;
        Ok((repaired, events))
    }

    async fn events(
        &self,
        settled: &SettledByHand,
        remedy: &Remedy,
    ) -> Result<Vec<Event>, StoreError> {
        let template = self.outlets.database.store.template(settled.template_id).await?;
        let end = match remedy {
            Remedy::Complete(result) => End::Success(result),
            Remedy::Resolve => End::ResolvedManually,
            Remedy::Reset => return Ok(Vec::new()),
        };
        let Some(step) = template.step(settled.declared) else { return Ok(Vec::new()) };
        let ending = Ending {
            template: &template,
            step,
            task_id: settled.task_id.0,
            ordinal: settled.ordinal.0,
            name: &settled.name,
            attempt: settled.attempt,
            correlation_id: &settled.correlation_id,
            traceparent: &settled.traceparent,
        };
        Ok(events_of(ending, end))
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
