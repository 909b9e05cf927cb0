//! Tasks as operators and clients see them.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use sqlx::{Postgres, QueryBuilder, Row as _, postgres::PgRow};
use tasker_domain::{Ordinal, StepCounts, TaskId, TaskState, TemplateId};
use uuid::Uuid;

use crate::{Held, Payload, Store, StoreError};

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
    /// Whether nothing new of it begins.
    pub paused: bool,
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
    /// Whether that has been purged, some time after its end.
    pub purged: bool,
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
    /// Which task it runs again.
    pub rerun_of: Option<TaskId>,
    /// Which tasks run it again, oldest first.
    pub reruns: Vec<TaskId>,
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

/// What every read of a task selects.
const COLUMNS: &str =
    "SELECT task_id, search.namespace, search.name, search.version, tasks.state::text AS state,
    priority, paused, total, ready, held, in_flight, waiting_for_retry, failed, satisfied,
    created_at, ended_at, correlation_id
FROM task_search AS search JOIN tasks USING (task_id)";

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
        // Put together from the filters that there are, so that each finds its index.
        let mut query = QueryBuilder::<Postgres>::new(COLUMNS);
        query.push(" WHERE true");
        let texts = [
            (" AND search.namespace = ", &filter.namespace),
            (" AND search.name = ", &filter.name),
            (" AND search.version = ", &filter.version),
            (" AND correlation_id <> '' AND correlation_id = ", &filter.correlation_id),
        ];
        for (condition, text) in texts {
            if !text.is_empty() {
                query.push(condition).push_bind(text);
            }
        }
        if !filter.states.is_empty() {
            let rests =
                |state: &&TaskState| state.is_end() || **state == TaskState::BlockedByFailures;
            let (resting, moving): (Vec<_>, Vec<_>) = filter.states.iter().partition(rests);
            let names = |states: Vec<&TaskState>| {
                states.iter().map(ToString::to_string).collect::<Vec<_>>()
            };
            query.push(" AND (rests_in = ANY(").push_bind(names(resting)).push("::task_state[])");
            query.push(" OR (rests_in IS NULL AND tasks.state = ANY(").push_bind(names(moving));
            query.push("::task_state[])))");
        }
        if let Some(after) = filter.created_after {
            query.push(" AND created_at > ").push_bind(after);
        }
        if let Some(before) = filter.created_before {
            query.push(" AND created_at < ").push_bind(before);
        }
        if let Some(before) = before {
            query.push(" AND task_id < ").push_bind(before.0);
        }
        query.push(" ORDER BY task_id DESC LIMIT ").push_bind(count);
        let rows = query.build().fetch_all(&self.relaxed).await?;
        rows.iter().map(task_row).collect()
    }

    /// Where a task stands.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn task(&self, task: TaskId) -> Result<Option<TaskRow>, StoreError> {
        let mut query = QueryBuilder::<Postgres>::new(COLUMNS);
        query.push(" WHERE task_id = ").push_bind(task.0);
        let mut line = self.relaxed_lines.take().await?;
        let row = query.build().fetch_optional(&mut *line).await;
        let row = line.done(row)?;
        row.as_ref().map(task_row).transpose()
    }

    /// What a list leaves out of a task.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn task_details(&self, task: TaskId) -> Result<Option<TaskDetails>, StoreError> {
        let row = sqlx::query!(
            r#"SELECT content_type, context, metadata, idempotency_key, requested_by, reason, traceparent,
                tracestate,
                (SELECT rerun_of FROM task_reruns AS rerun WHERE rerun.task_id = $1) AS rerun_of,
                ARRAY(
                    SELECT rerun.task_id FROM task_reruns AS rerun WHERE rerun.rerun_of = $1
                    ORDER BY rerun.task_id LIMIT 1000
                ) AS "reruns!"
            FROM task_details WHERE task_id = $1"#,
            task.0
        )
        .fetch_optional(&self.relaxed)
        .await?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(TaskDetails {
            purged: row.content_type.is_empty(),
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
            rerun_of: row.rerun_of.map(TaskId),
            reruns: row.reruns.into_iter().map(TaskId).collect(),
        }))
    }

    /// Of these tasks, those that have been purged: what they worked on and came to is not there any more.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn purged(&self, tasks: &[TaskId]) -> Result<HashSet<TaskId>, StoreError> {
        let tasks: Vec<Uuid> = tasks.iter().map(|task| task.0).collect();
        let purged = sqlx::query_scalar!(
            "SELECT task_id FROM task_details WHERE task_id = ANY($1) AND content_type = ''",
            &tasks
        )
        .fetch_all(&self.relaxed)
        .await?;
        Ok(purged.into_iter().map(TaskId).collect())
    }

    /// What each of these steps is made from: its task's template, and the step of it. None where there
    /// is no such step.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn declarations_of(
        &self,
        steps: &[Held],
    ) -> Result<Vec<Option<(TemplateId, Ordinal)>>, StoreError> {
        let task_ids: Vec<Uuid> = steps.iter().map(|held| held.task_id).collect();
        let ordinals: Vec<i32> = steps.iter().map(|held| held.ordinal).collect();
        let rows = sqlx::query!(
            r#"SELECT position AS "position!", template_id, coalesce(declared, ordinal) AS "declared!"
            FROM unnest($1::uuid[], $2::integer[]) WITH ORDINALITY AS item (task_id, ordinal, position)
            JOIN tasks USING (task_id)
            JOIN steps USING (task_id, ordinal)"#,
            &task_ids,
            &ordinals
        )
        .fetch_all(&self.relaxed)
        .await?;
        let mut declarations = vec![None; steps.len()];
        for row in rows {
            let place = usize::try_from(row.position - 1).ok();
            if let Some(place) = place.and_then(|nth| declarations.get_mut(nth)) {
                *place = Some((TemplateId(row.template_id), Ordinal(row.declared)));
            }
        }
        Ok(declarations)
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

fn task_row(row: &PgRow) -> Result<TaskRow, StoreError> {
    let state: String = row.try_get("state")?;
    let corrupt = |what: String| StoreError::Corrupt { table: "tasks", what };
    Ok(TaskRow {
        task_id: TaskId(row.try_get("task_id")?),
        namespace: row.try_get("namespace")?,
        name: row.try_get("name")?,
        version: row.try_get("version")?,
        state: state.parse().map_err(|error| corrupt(format!("{error}")))?,
        priority: row.try_get("priority")?,
        paused: row.try_get("paused")?,
        counts: StepCounts {
            total: row.try_get("total")?,
            ready: row.try_get("ready")?,
            held: row.try_get("held")?,
            in_flight: row.try_get("in_flight")?,
            waiting_for_retry: row.try_get("waiting_for_retry")?,
            failed: row.try_get("failed")?,
            satisfied: row.try_get("satisfied")?,
        },
        created_at: row.try_get("created_at")?,
        ended_at: row.try_get("ended_at")?,
        correlation_id: row.try_get("correlation_id")?,
    })
}
