//! Tasks as operators and clients see them.

use chrono::{DateTime, Utc};
use tasker_domain::{StepCounts, TaskId, TaskState};
use uuid::Uuid;

use crate::{Payload, Store, StoreError};

/// A task as lists show it.
#[derive(Debug, Clone)]
pub struct TaskRow {
    /// Which.
    pub task_id: TaskId,
    /// Of its template.
    pub namespace: String,
    /// Of its template.
    pub name: String,
    /// Of its template.
    pub version: String,
    /// Where it stands.
    pub state: TaskState,
    /// Larger goes first.
    pub priority: i16,
    /// How many of its steps are where.
    pub counts: StepCounts,
    /// When it was born.
    pub created_at: DateTime<Utc>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// As the caller named it; may be empty.
    pub correlation_id: String,
}

/// What a list leaves out.
#[derive(Debug, Clone)]
pub struct TaskDetails {
    /// What its steps work on.
    pub context: Payload,
    /// May be empty.
    pub idempotency_key: String,
    /// May be empty.
    pub requested_by: String,
    /// May be empty.
    pub reason: String,
    /// Where its trace begins; may be empty.
    pub traceparent: String,
    /// May be empty.
    pub tracestate: String,
}

/// Which tasks to list; what is empty does not narrow.
#[derive(Debug, Clone, Default)]
pub struct TaskFilter {
    /// Of the template.
    pub namespace: String,
    /// Of the template.
    pub name: String,
    /// Of the template.
    pub version: String,
    /// Any of them.
    pub states: Vec<TaskState>,
    /// Later than this.
    pub created_after: Option<DateTime<Utc>>,
    /// Earlier than this.
    pub created_before: Option<DateTime<Utc>>,
    /// Exactly.
    pub correlation_id: String,
}

impl Store {
    /// Tasks, newest first, older than `before`.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn list_tasks(
        &self,
        filter: &TaskFilter,
        before: Option<TaskId>,
        count: i64,
    ) -> Result<Vec<TaskRow>, StoreError> {
        let states: Vec<String> = filter.states.iter().map(ToString::to_string).collect();
        self.read_tasks(filter, &states, None, before, count).await
    }

    /// Where a task stands.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn task(&self, task: TaskId) -> Result<Option<TaskRow>, StoreError> {
        Ok(self.read_tasks(&TaskFilter::default(), &[], Some(task), None, 1).await?.pop())
    }

    async fn read_tasks(
        &self,
        filter: &TaskFilter,
        states: &[String],
        one: Option<TaskId>,
        before: Option<TaskId>,
        count: i64,
    ) -> Result<Vec<TaskRow>, StoreError> {
        let rows = sqlx::query!(
            r#"SELECT task_id, search.namespace, search.name, search.version, tasks.state::text AS "state!",
                priority, total, ready, in_flight, waiting_for_retry, failed, satisfied,
                created_at, ended_at, correlation_id
            FROM task_search AS search JOIN tasks USING (task_id)
            WHERE ($1 = '' OR search.namespace = $1) AND ($2 = '' OR search.name = $2)
              AND ($3 = '' OR search.version = $3)
              AND ($4::text[] = '{}' OR tasks.state::text = ANY($4))
              AND ($5::timestamptz IS NULL OR created_at > $5)
              AND ($6::timestamptz IS NULL OR created_at < $6)
              AND ($7 = '' OR correlation_id = $7)
              AND ($8::uuid IS NULL OR task_id = $8)
              AND ($9::uuid IS NULL OR task_id < $9)
            ORDER BY task_id DESC LIMIT $10"#,
            filter.namespace,
            filter.name,
            filter.version,
            states,
            filter.created_after,
            filter.created_before,
            filter.correlation_id,
            one.map(|task| task.0),
            before.map(|task| task.0),
            count
        )
        .fetch_all(&self.relaxed)
        .await?;
        let corrupt = |what: String| StoreError::Corrupt { table: "tasks", what };
        rows.into_iter()
            .map(|row| {
                Ok(TaskRow {
                    task_id: TaskId(row.task_id),
                    namespace: row.namespace,
                    name: row.name,
                    version: row.version,
                    state: row.state.parse().map_err(|error| corrupt(format!("{error}")))?,
                    priority: row.priority,
                    counts: StepCounts {
                        total: row.total,
                        ready: row.ready,
                        in_flight: row.in_flight,
                        waiting_for_retry: row.waiting_for_retry,
                        failed: row.failed,
                        satisfied: row.satisfied,
                    },
                    created_at: row.created_at,
                    ended_at: row.ended_at,
                    correlation_id: row.correlation_id,
                })
            })
            .collect()
    }

    /// What a list leaves out of a task.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn task_details(&self, task: TaskId) -> Result<Option<TaskDetails>, StoreError> {
        let row = sqlx::query!(
            "SELECT content_type, context, metadata, idempotency_key, requested_by, reason, traceparent,
                tracestate
            FROM task_details WHERE task_id = $1",
            task.0
        )
        .fetch_optional(&self.relaxed)
        .await?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(TaskDetails {
            context: Payload::from_columns(
                "task_details",
                row.content_type,
                row.context,
                row.metadata,
            )?,
            idempotency_key: row.idempotency_key,
            requested_by: row.requested_by,
            reason: row.reason,
            traceparent: row.traceparent,
            tracestate: row.tracestate,
        }))
    }

    /// Which template each of these tasks was made from.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn templates_of(&self, tasks: &[Uuid]) -> Result<Vec<(Uuid, Uuid)>, StoreError> {
        let rows =
            sqlx::query!("SELECT task_id, template_id FROM tasks WHERE task_id = ANY($1)", tasks)
                .fetch_all(&self.relaxed)
                .await?;
        Ok(rows.into_iter().map(|row| (row.task_id, row.template_id)).collect())
    }
}
