//! Tasks whose moves somebody wants to be told.

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
}
