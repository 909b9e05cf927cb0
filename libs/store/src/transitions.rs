//! What happened to a task and its steps.

use std::{fmt::Display, str::FromStr, time::Duration};

use chrono::{DateTime, Utc};
use tasker_domain::{StepEvent, StepState, TaskEvent, TaskId, TaskState};

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
    /// Nothing, from here on: the task was paused.
    Paused,
    /// Nothing yet: the task may go on.
    Resumed,
}

/// A transition, with where it led from.
#[derive(Debug, Clone)]
pub struct Past {
    /// Grows within a task, in the order of commits.
    pub id: i64,
    /// When.
    pub occurred_at: DateTime<Utc>,
    /// Who made it move.
    pub actor: String,
    /// Why, if there is more to say.
    pub reason: Option<String>,
    /// The events passed, in order, as `libs/domain` names them.
    pub events: Vec<String>,
    /// Of what, and from where to where.
    pub moved: PastMove,
    /// How long it had been where it came from, or paused. `None`: what was before has been forgotten, or it
    /// was paused now.
    pub stayed: Option<Duration>,
}

/// What moved, from where to where.
#[derive(Debug, Clone)]
pub enum PastMove {
    /// The task.
    Task {
        /// Before. `None`: forgotten.
        from: Option<TaskState>,
        /// After.
        to: TaskState,
    },
    /// A step.
    Step {
        /// Unique in its task.
        name: String,
        /// Attempts begun, afterwards.
        attempt: i32,
        /// Before. `None`: forgotten.
        from: Option<StepState>,
        /// After.
        to: StepState,
    },
    /// Nothing, from here on: the task was paused.
    Paused,
    /// Nothing yet: the task may go on.
    Resumed,
}

impl Store {
    /// What is known of a task, its steps and its pauses after a transition, oldest first. `step`: only of this
    /// one.
    /// `since` is when the task was born.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn history(
        &self,
        task: TaskId,
        since: DateTime<Utc>,
        step: Option<&str>,
        after: i64,
        count: i64,
    ) -> Result<Vec<Past>, StoreError> {
        let rows = sqlx::query!(
            r#"SELECT id AS "id!", occurred_at AS "occurred_at!", actor AS "actor!", reason,
                events AS "events!: Vec<String>", attempt,
                (SELECT name FROM steps WHERE (task_id, ordinal) = ($1, past.ordinal)) AS name,
                from_state, to_state, pauses,
                (extract(epoch FROM occurred_at - left_at) * 1000)::bigint AS "stayed_ms!"
            FROM (
                SELECT transition_id AS id, happened.*,
                    lag(to_state) OVER one AS from_state,
                    -- What is born is pending from its birth on.
                    coalesce(paused_at, lag(occurred_at) OVER one,
                        (SELECT born_at FROM steps WHERE (task_id, ordinal) = ($1, happened.ordinal)),
                        $5) AS left_at
                FROM (
                    SELECT transition_id, occurred_at, actor, reason, events::text[] AS events,
                        to_state::text AS to_state, NULL::integer AS ordinal, NULL::integer AS attempt,
                        NULL::boolean AS pauses, NULL::timestamptz AS paused_at
                    FROM task_transitions
                    WHERE task_id = $1 AND $2::text IS NULL
                      -- An hour, since clocks are set.
                      AND occurred_at >= $5::timestamptz - interval '1 hour'
                    UNION ALL
                    SELECT transition_id, occurred_at, actor, reason, events::text[], to_state::text,
                        ordinal, attempt, NULL, NULL
                    FROM step_transitions
                    WHERE task_id = $1 AND occurred_at >= $5::timestamptz - interval '1 hour'
                      AND ($2::text IS NULL OR ordinal = (
                        SELECT ordinal FROM steps WHERE task_id = $1 AND name = $2))
                    UNION ALL
                    SELECT told.transition_id, told.occurred_at, 'operator:' || told.operator, told.reason,
                        '{}', NULL, NULL, NULL, told.pauses, pauses.paused_at
                    FROM pauses CROSS JOIN LATERAL (VALUES
                        (paused_as, paused_at, paused_by, pauses.reason, true),
                        (resumed_as, resumed_at, resumed_by, resume_reason, false)
                    ) AS told (transition_id, occurred_at, operator, reason, pauses)
                    WHERE pauses.task_id = $1 AND $2::text IS NULL AND told.transition_id IS NOT NULL
                ) AS happened
                -- A pause moves neither the task nor a step.
                WINDOW one AS (PARTITION BY ordinal, pauses IS NULL ORDER BY transition_id)
            ) AS past
            WHERE id > $3 ORDER BY id LIMIT $4"#,
            task.0,
            step,
            after,
            count,
            since
        )
        .fetch_all(&self.relaxed)
        .await?;
        rows.into_iter()
            .map(|row| {
                let first = row.events.first().map(String::as_str).unwrap_or_default();
                let to_state = row.to_state.as_deref().unwrap_or_default();
                let moved = match (row.pauses, row.name, row.attempt) {
                    (Some(true), ..) => PastMove::Paused,
                    (Some(false), ..) => PastMove::Resumed,
                    (None, Some(name), Some(attempt)) => {
                        let born = |first: StepEvent| StepState::Pending.after(first).is_ok();
                        let from = came_from(row.from_state, first, StepState::Pending, born)?;
                        let to = to_state.parse().map_err(corrupt)?;
                        PastMove::Step { name, attempt, from, to }
                    }
                    _ => {
                        let born = |first: TaskEvent| TaskState::Pending.after(first).is_ok();
                        let from = came_from(row.from_state, first, TaskState::Pending, born)?;
                        PastMove::Task { from, to: to_state.parse().map_err(corrupt)? }
                    }
                };
                let known = match &moved {
                    PastMove::Task { from, .. } => from.is_some(),
                    PastMove::Step { from, .. } => from.is_some(),
                    PastMove::Paused => false,
                    PastMove::Resumed => true,
                };
                let stayed = Duration::from_millis(u64::try_from(row.stayed_ms).unwrap_or(0));
                Ok(Past {
                    id: row.id,
                    occurred_at: row.occurred_at,
                    actor: row.actor,
                    reason: row.reason,
                    events: row.events,
                    moved,
                    stayed: known.then_some(stayed),
                })
            })
            .collect()
    }

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
                (SELECT name FROM steps WHERE (task_id, ordinal) = ($1, happened.ordinal)) AS name,
                pauses
            FROM (
                SELECT transition_id, occurred_at, actor, reason, events::text[] AS events,
                    NULL::integer AS ordinal, NULL::integer AS attempt, NULL::boolean AS pauses
                FROM task_transitions WHERE task_id = $1 AND transition_id > $2
                  -- An hour to either side, since clocks are set.
                  AND occurred_at BETWEEN $4::timestamptz - interval '1 hour' AND now() + interval '1 hour'
                UNION ALL
                SELECT transition_id, occurred_at, actor, reason, events::text[], ordinal, attempt, NULL
                FROM step_transitions
                WHERE task_id = $1 AND transition_id > $2
                  AND occurred_at BETWEEN $4::timestamptz - interval '1 hour' AND now() + interval '1 hour'
                UNION ALL
                SELECT told.transition_id, told.occurred_at, 'operator:' || told.operator, told.reason, '{}',
                    NULL, NULL, told.pauses
                FROM pauses CROSS JOIN LATERAL (VALUES
                    (paused_as, paused_at, paused_by, pauses.reason, true),
                    (resumed_as, resumed_at, resumed_by, resume_reason, false)
                ) AS told (transition_id, occurred_at, operator, reason, pauses)
                WHERE pauses.task_id = $1 AND told.transition_id > $2
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
            kind: match (row.name, row.attempt, row.pauses) {
                (Some(name), Some(attempt), _) => TransitionKind::Step { name, attempt },
                (_, _, Some(true)) => TransitionKind::Paused,
                (_, _, Some(false)) => TransitionKind::Resumed,
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

    /// Forgets history of more than so many days ago that lies in no day's partition, at most `count` rows each
    /// of tasks and of steps. Says whether there may be more.
    ///
    /// # Errors
    /// Not all of it was done.
    pub async fn purge_history(&self, keep_days: i32, count: i64) -> Result<bool, StoreError> {
        let tasks = sqlx::query_file!("sql/task_transitions/purge.sql", keep_days, count);
        let tasks = tasks.execute(&self.durable).await?.rows_affected();
        let steps = sqlx::query_file!("sql/step_transitions/purge.sql", keep_days, count);
        let steps = steps.execute(&self.durable).await?.rows_affected();
        Ok(i64::try_from(tasks.max(steps)).is_ok_and(|most| most == count))
    }
}

/// Where something came from: what is the first to be known of it comes from its birth, or from days whose
/// history has been dropped.
fn came_from<S: FromStr<Err: Display>, E: FromStr<Err: Display>>(
    before: Option<String>,
    first: &str,
    born: S,
    may_be_first: impl Fn(E) -> bool,
) -> Result<Option<S>, StoreError> {
    match before {
        Some(state) => state.parse().map(Some).map_err(corrupt),
        None => Ok(may_be_first(first.parse().map_err(corrupt)?).then_some(born)),
    }
}

fn corrupt(what: impl Display) -> StoreError {
    StoreError::Corrupt { table: "transitions", what: what.to_string() }
}
