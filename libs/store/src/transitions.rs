//! What happened to a task and its steps.

use chrono::{DateTime, Utc};
use tasker_domain::TaskId;

use crate::{Store, StoreError};

/// One commit's worth of moves, of the task or of one step.
#[derive(Debug, Clone)]
pub struct Transition {
    /// Grows within a task, in the order of commits: who has seen one has seen all before it.
    pub id: i64,
    /// When.
    pub occurred_at: DateTime<Utc>,
    /// Who made it move.
    pub actor: String,
    /// Why, if there is more to say.
    pub reason: Option<String>,
    /// Of what, and where it led.
    pub kind: TransitionKind,
    /// The events passed, in order, as `libs/domain` names them.
    pub events: Vec<String>,
}

/// What moved.
#[derive(Debug, Clone)]
pub enum TransitionKind {
    /// The task.
    Task,
    /// A step: its name and attempt.
    Step {
        /// Unique in its task.
        name: String,
        /// Attempts begun, afterwards.
        attempt: i32,
    },
}

impl Store {
    /// What happened to a task after a transition, oldest first. `since` is when the task was born: the
    /// history of other days is not looked into.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn transitions(
        &self,
        task: TaskId,
        since: DateTime<Utc>,
        after: i64,
        count: i64,
    ) -> Result<Vec<Transition>, StoreError> {
        let mut line = self.relaxed_lines.take().await?;
        let rows = sqlx::query!(
            r#"SELECT transition_id AS "id!", occurred_at AS "occurred_at!", actor AS "actor!", reason,
                events AS "events!: Vec<String>", attempt,
                (SELECT name FROM steps WHERE (task_id, ordinal) = ($1, happened.ordinal)) AS name
            FROM (
                SELECT transition_id, occurred_at, actor, reason, events::text[] AS events,
                    NULL::integer AS ordinal, NULL::integer AS attempt
                FROM task_transitions WHERE task_id = $1 AND transition_id > $2
                  -- An hour to either side, since clocks are set.
                  AND occurred_at BETWEEN $4::timestamptz - interval '1 hour' AND now() + interval '1 hour'
                UNION ALL
                SELECT transition_id, occurred_at, actor, reason, events::text[], ordinal, attempt
                FROM step_transitions
                WHERE task_id = $1 AND transition_id > $2
                  AND occurred_at BETWEEN $4::timestamptz - interval '1 hour' AND now() + interval '1 hour'
            ) AS happened
            ORDER BY transition_id LIMIT $3"#,
            task.0,
            after,
            count,
            since
        )
        .fetch_all(&mut *line).await;
        let rows = line.done(rows)?;
        let transitions = rows.into_iter().map(|row| Transition {
            id: row.id,
            occurred_at: row.occurred_at,
            actor: row.actor,
            reason: row.reason,
            kind: match (row.name, row.attempt) {
                (Some(name), Some(attempt)) => TransitionKind::Step { name, attempt },
                _ => TransitionKind::Task,
            },
            events: row.events,
        });
        Ok(transitions.collect())
    }

    /// Makes the history's partitions of the next days, and drops those older than `keep_days`.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn maintain_history(
        &self,
        days_ahead: i32,
        keep_days: i32,
    ) -> Result<(), StoreError> {
        sqlx::query!(
            "SELECT made, dropped FROM maintain_history($1, $2::integer * interval '1 day')",
            days_ahead,
            keep_days
        )
        .fetch_one(&self.durable)
        .await?;
        Ok(())
    }
}
