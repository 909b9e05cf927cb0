//! Tasks in which nothing moves any more come to rest.

use tasker_domain::{TaskId, TaskState};
use uuid::Uuid;

use crate::{Finalization, Store, StoreError};

/// A task that has come to rest.
#[derive(Debug, Clone)]
pub struct Finalized {
    /// Which.
    pub task_id: TaskId,
    /// Where it rests.
    pub state: TaskState,
    /// Whether somebody has asked to be told.
    pub watched: bool,
}

impl Store {
    /// Ends tasks, or says why they rest. Those that have moved on are not in the answer.
    ///
    /// # Errors
    /// Nothing was done.
    pub async fn finalize_tasks(
        &self,
        items: &[Finalization],
        actor: &str,
    ) -> Result<Vec<Finalized>, StoreError> {
        let message_ids: Vec<i64> = items.iter().map(|item| item.message_id).collect();
        let task_ids: Vec<Uuid> = items.iter().map(|item| item.task_id).collect();
        let mut line = self.durable_lines.take().await?;
        let rows = sqlx::query_file!("sql/tasks/finalize.sql", &message_ids, &task_ids, actor)
            .fetch_all(&mut *line)
            .await;
        let rows = line.done(rows)?;
        let corrupt = |what: String| StoreError::Corrupt { table: "tasks", what };
        rows.into_iter()
            .map(|row| {
                Ok(Finalized {
                    task_id: TaskId(row.task_id),
                    state: row.state.parse().map_err(|error| corrupt(format!("{error}")))?,
                    watched: row.watched,
                })
            })
            .collect()
    }

    /// Reads finalizations whose message nobody has taken, and hides them from others for a while.
    /// What cannot be read is parked with the reason.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn read_finalizations(&self, count: i32) -> Result<Vec<Finalization>, StoreError> {
        self.read_queue("orchestration_task_finalizations", count).await
    }
}
