//! Workers give steps back that are to go on later, with what they go on from.

use tasker_domain::Rank;
use tasker_stack::gather::Stage;
use tasker_store::{Announcement, StoreError, ToYield, Verdict};
use uuid::Uuid;

use crate::deliver::Deliveries;

/// The most bytes of checkpoints in one transaction.
const MAX_BYTES: usize = 8 << 20;

/// The verb.
pub struct YieldSteps {
    pub deliveries: Deliveries,
}

impl Stage for YieldSteps {
    type Item = ToYield;
    type Answer = Verdict;
    type Error = StoreError;
    type Key = (Uuid, i32);

    const MAX_WEIGHT: usize = MAX_BYTES;

    fn weight(item: &ToYield) -> usize {
        item.checkpoint.as_ref().map_or(0, Vec::len)
    }

    fn key(item: &ToYield) -> (Uuid, i32) {
        (item.held.task_id, item.held.ordinal)
    }

    async fn apply(&self, items: &[ToYield]) -> Result<Vec<Verdict>, StoreError> {
        let Deliveries { database, roster, announcer, .. } = &self.deliveries;
        let yielded = database.store.yield_steps(items).await;
        let yielded = yielded.inspect_err(|error| database.noticed(error))?;
        yielded.queued.iter().for_each(|namespace| roster.wait_in(namespace, Rank::FIRST));
        if yielded.delayed {
            roster.delays.wake();
        }
        announcer.announce(Announcement {
            tasks: yielded.watched.into_iter().collect(),
            waiting: yielded.queued.into_iter().map(|name| (name, Rank::FIRST)).collect(),
            delays: yielded.delayed,
            ..Announcement::default()
        });
        Ok(yielded.verdicts)
    }

    fn may_be_one_items_fault(error: &StoreError) -> bool {
        !error.is_unavailable()
    }
}
