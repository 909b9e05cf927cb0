//! Ends tasks by hand or by rule.

use tasker_domain::TaskId;
use tasker_stack::gather::Stage;
use tasker_stage::{Announcer, Database};
use tasker_store::{Announcement, Ending, StoreError, ToEnd};

use crate::watches::Watches;

/// The verb.
pub struct EndTasks {
    pub database: Database,
    pub watches: Watches,
    pub announcer: Announcer,
}

impl Stage for EndTasks {
    type Item = ToEnd;
    type Answer = Ending;
    type Error = StoreError;
    type Key = TaskId;

    fn key(item: &ToEnd) -> TaskId {
        item.task_id
    }

    async fn apply(&self, items: &[ToEnd]) -> Result<Vec<Ending>, StoreError> {
        let _spans: Vec<_> = items.iter().map(span).collect();
        let ended = self.database.store.end_tasks(items).await;
        let ended = ended.inspect_err(|error| self.database.noticed(error))?;
        self.watches.moved(ended.watched.iter().copied());
        self.announcer.rest(ended.watched);
        self.announcer.announce(Announcement {
            cancelled: ended.lost.into_iter().collect(),
            ..Announcement::default()
        });
        Ok(ended.endings)
    }

    fn may_be_one_items_fault(error: &StoreError) -> bool {
        !error.is_unavailable()
    }
}

fn span(item: &ToEnd) -> tracing::Span {
    tracing::info_span!("task.end", task.id = %item.task_id, event = ?item.event)
}
