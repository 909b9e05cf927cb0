//! Tasks whose moves somebody wants to be told.

use tasker_domain::TaskId;
use uuid::Uuid;

use crate::{Store, StoreError};

impl Store {
    /// Has the moves of tasks announced from now on. What is read afterwards misses nothing.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn watch_tasks(&self, tasks: &[TaskId]) -> Result<(), StoreError> {
        let tasks: Vec<Uuid> = tasks.iter().map(|task| task.0).collect();
        let mut line = self.relaxed_lines.take().await?;
        let done = sqlx::query_file!("sql/tasks/watch.sql", &tasks).execute(&mut *line).await;
        line.done(done)?;
        Ok(())
    }
}
