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
        sqlx::query_file!("sql/tasks/watch.sql", &tasks).execute(&self.relaxed).await?;
        Ok(())
    }
}
