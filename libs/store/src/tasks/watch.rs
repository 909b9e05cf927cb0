//! Tasks whose moves, or whose rest, somebody wants to be told.

use chrono::{DateTime, Utc};
use tasker_domain::TaskId;

use crate::{Store, StoreError};

impl Store {
    /// Has the moves of a task announced from now on, and returns when it was born. What is read
    /// afterwards misses nothing. `None`: there is no such task.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn watch_task(&self, task: TaskId) -> Result<Option<DateTime<Utc>>, StoreError> {
        let mut line = self.relaxed_lines.take().await?;
        let born = sqlx::query_file_scalar!("sql/tasks/watch.sql", task.0)
            .fetch_optional(&mut *line)
            .await;
        line.done(born)
    }

    /// Has a task's coming to rest announced from now on. Says whether it was on its way and nobody had
    /// asked: if so, its rest will be told. If not, look. `None`: there is no such task.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn await_task(&self, task: TaskId) -> Result<Option<bool>, StoreError> {
        let mut line = self.relaxed_lines.take().await?;
        let asked = sqlx::query_file_scalar!("sql/tasks/await.sql", task.0)
            .fetch_optional(&mut *line)
            .await;
        line.done(asked)
    }
}
