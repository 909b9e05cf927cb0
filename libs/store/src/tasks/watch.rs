//! Tasks whose moves, or whose rest, somebody wants to be told.

use chrono::{DateTime, Utc};
use tasker_domain::{StepCounts, TaskId, TaskState};

use crate::{CompletedTask, Store, StoreError, TaskRow};

/// A task that somebody waits for.
#[derive(Debug, Clone)]
pub struct AwaitedTask {
    /// Whether its rest will be told: it was on its way, and nobody had asked. If not, look.
    pub will_be_told: bool,
    /// Of its template.
    pub namespace: String,
    /// Of its template.
    pub name: String,
    /// Of its template.
    pub version: String,
    /// Larger goes first.
    pub priority: i16,
    /// When it was born.
    pub created_at: DateTime<Utc>,
    /// As the caller named it; may be empty.
    pub correlation_id: String,
}

impl AwaitedTask {
    /// The task as it stands since its last step has completed.
    #[must_use]
    pub fn completed(self, end: CompletedTask) -> TaskRow {
        TaskRow {
            task_id: TaskId(end.task_id),
            namespace: self.namespace,
            name: self.name,
            version: self.version,
            state: TaskState::Complete,
            priority: self.priority,
            paused: end.paused,
            counts: StepCounts { total: end.steps, satisfied: end.steps, ..StepCounts::default() },
            created_at: self.created_at,
            ended_at: Some(end.ended_at),
            correlation_id: self.correlation_id,
        }
    }
}

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

    /// Has a task's coming to rest told from now on. `None`: there is no such task.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn await_task(&self, task: TaskId) -> Result<Option<AwaitedTask>, StoreError> {
        let mut line = self.relaxed_lines.take().await?;
        let asked =
            sqlx::query_file!("sql/tasks/await.sql", task.0).fetch_optional(&mut *line).await;
        Ok(line.done(asked)?.map(|task| AwaitedTask {
            will_be_told: task.asked,
            namespace: task.namespace,
            name: task.name,
            version: task.version,
            priority: task.priority,
            created_at: task.created_at,
            correlation_id: task.correlation_id,
        }))
    }
}
