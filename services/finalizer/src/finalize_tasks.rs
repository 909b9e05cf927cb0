//! Ends tasks in which nothing moves any more, or says why they rest.

use tasker_stack::gather::{Gather, Stage};
use tasker_stage::{Announcer, Database, work_off};
use tasker_store::{Finalization, Store, StoreError};
use tasker_trace::TraceContext;

use crate::watches::Watches;

/// What is read where no call came.
pub const QUEUE: &str = "orchestration_task_finalizations";

/// The verb.
pub struct FinalizeTasks {
    pub database: Database,
    /// Who is named in the history.
    pub actor: String,
    pub watches: Watches,
    pub announcer: Announcer,
}

impl Stage for FinalizeTasks {
    type Item = Finalization;
    type Answer = ();
    type Error = StoreError;
    type Key = i64;

    fn key(item: &Finalization) -> i64 {
        item.message_id
    }

    async fn apply(&self, items: &[Finalization]) -> Result<Vec<()>, StoreError> {
        let _spans: Vec<_> = items.iter().map(span).collect();
        let finalized = self.database.store.finalize_tasks(items, &self.actor).await;
        let finalized = finalized.inspect_err(|error| self.database.noticed(error))?;
        let watched = || finalized.iter().filter(|task| task.watched).map(|task| task.task_id.0);
        // Those who watch here are told at once, those elsewhere by announcement.
        self.watches.moved(watched());
        self.announcer.rest(watched());
        Ok(vec![(); items.len()])
    }

    fn may_be_one_items_fault(error: &StoreError) -> bool {
        !error.is_unavailable()
    }
}

fn span(item: &Finalization) -> tracing::Span {
    let span = tracing::info_span!("task.finalize", task.id = %item.task_id);
    TraceContext { traceparent: item.traceparent.clone(), ..TraceContext::default() }.adopt(&span);
    span
}

/// Works off one batch of the queue. Says whether there may be more.
pub async fn read(
    store: &Store,
    tasks: &Gather<FinalizeTasks>,
    batch: usize,
) -> Result<bool, StoreError> {
    let items = store.read_finalizations(i32::try_from(batch).unwrap_or(i32::MAX)).await?;
    let full = items.len() == batch;
    let items = items.into_iter().map(|item| (item.message_id, item)).collect();
    Ok(work_off(store, QUEUE, items, tasks).await?.all_well && full)
}
