//! Steps as operators and clients see them.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use tasker_domain::{Ordinal, StepState, TaskId};
use uuid::Uuid;

use crate::{Payload, Store, StoreError};

/// A step with its newest result.
#[derive(Debug, Clone)]
pub struct StepRow {
    /// Its place.
    pub ordinal: Ordinal,
    /// The step of the template that it is, or is a run of.
    pub declared: Ordinal,
    /// Unique in its task.
    pub name: String,
    /// Where it stands.
    pub state: StepState,
    /// Of its dependencies, how many are not satisfied yet.
    pub unmet_dependencies: i32,
    /// Attempts begun.
    pub attempt: i32,
    /// Total attempts allowed.
    pub max_attempts: i32,
    /// When it will be tried again.
    pub retry_at: Option<DateTime<Utc>>,
    /// The newest result, good or bad.
    pub outcome: Option<StepOutcome>,
}

/// A result as it is kept; a failure is type, message and whether it may be retried.
#[derive(Debug, Clone)]
pub struct StepOutcome {
    /// Which attempt it came from.
    pub attempt: i32,
    /// When it was taken.
    pub recorded_at: DateTime<Utc>,
    /// What it came to. A list leaves out the data.
    pub result: Result<Payload, (String, String, bool)>,
}

/// What a step has said beside its result.
#[derive(Debug, Clone, Default)]
pub struct StepSaid {
    /// What came into being by its result, as the contract encodes it.
    pub expansion: Option<Vec<u8>>,
    /// What it goes on from.
    pub checkpoint: Option<Saved>,
}

/// A checkpoint as it is kept.
#[derive(Debug, Clone)]
pub struct Saved {
    /// `tasker.v1.Checkpoint`, encoded.
    pub checkpoint: Vec<u8>,
    /// In which attempt it was saved.
    pub attempt: i32,
    /// When.
    pub saved_at: DateTime<Utc>,
}

/// Which steps of a task to read.
enum Which<'a> {
    Named(&'a str),
    After(Option<Ordinal>, i64),
}

/// What has failed in a task.
#[derive(Debug, Clone, Default)]
pub struct FailedSteps {
    /// The steps in `error`, without those whose failure counts as done, and those that the end of a failed
    /// task has cut off in their last attempt; in dependency order.
    pub names: Vec<String>,
    /// The first of them whose result says what comes into being by it.
    pub expands: Option<String>,
    /// Whether the end of the task has cancelled steps, which a reset reopens.
    pub reopens: bool,
}

impl Store {
    /// One step, by name.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn step(&self, task: TaskId, name: &str) -> Result<Option<StepRow>, StoreError> {
        Ok(self.read_steps(task, Which::Named(name)).await?.pop())
    }

    /// What a step has said beside its result.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn step_said(&self, task: TaskId, step: Ordinal) -> Result<StepSaid, StoreError> {
        let row = sqlx::query!(
            r#"SELECT (
                    SELECT said FROM step_expansions WHERE (task_id, ordinal) = ($1, $2) AND taken
                ) AS said,
                checkpoint AS "checkpoint?", saved.attempt AS "attempt?", saved_at AS "saved_at?"
            FROM (SELECT) AS one LEFT JOIN step_checkpoints AS saved ON (task_id, ordinal) = ($1, $2)"#,
            task.0,
            step.0
        )
        .fetch_one(&self.relaxed)
        .await?;
        let checkpoint = match (row.checkpoint, row.attempt, row.saved_at) {
            (Some(checkpoint), Some(attempt), Some(saved_at)) => {
                Some(Saved { checkpoint, attempt, saved_at })
            }
            _ => None,
        };
        Ok(StepSaid { expansion: row.said, checkpoint })
    }

    /// The steps of a task from a place on, in dependency order, without the data of results.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn steps(
        &self,
        task: TaskId,
        after: Option<Ordinal>,
        count: i64,
    ) -> Result<Vec<StepRow>, StoreError> {
        self.read_steps(task, Which::After(after, count)).await
    }

    /// What a repair of all that has failed in some tasks would be about, as `repair.sql` judges it.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn failed_steps(
        &self,
        tasks: &[TaskId],
    ) -> Result<HashMap<TaskId, FailedSteps>, StoreError> {
        let tasks: Vec<Uuid> = tasks.iter().map(|task| task.0).collect();
        let rows = sqlx::query!(
            r#"SELECT tasks.task_id, bool_or(a.reopened) AS "reopens!",
                coalesce(array_agg(steps.name ORDER BY steps.ordinal) FILTER (WHERE b.failed), '{}') AS "names!",
                (array_agg(steps.name ORDER BY steps.ordinal) FILTER (WHERE b.failed AND b.expands))[1] AS expands
            FROM tasks JOIN steps USING (task_id)
            CROSS JOIN LATERAL (SELECT
                tasks.state = 'error' AND step_state_after(steps.state, 'Reopen') IS NOT NULL AS reopened,
                steps.state = 'error' AND declared IS NOT NULL AND EXISTS (
                    SELECT FROM step_batches AS batch
                    WHERE (batch.task_id, batch.ordinal) = (steps.task_id, steps.ordinal)
                      AND batch.passed_over
                ) AS passed_over
            ) AS a
            CROSS JOIN LATERAL (SELECT
                steps.state = 'error' AND NOT passed_over OR (reopened AND attempt >= max_attempts) AS failed,
                coalesce((
                    SELECT expands FROM template_steps AS declaration
                    WHERE (declaration.template_id, declaration.ordinal) = (tasks.template_id, steps.ordinal)
                ), false) AS expands
            ) AS b
            WHERE steps.task_id = ANY($1) AND tasks.task_id = ANY($1)
            GROUP BY tasks.task_id"#,
            &tasks
        )
        .fetch_all(&self.relaxed)
        .await?;
        let failed = rows.into_iter().map(|row| {
            let of_task =
                FailedSteps { names: row.names, expands: row.expands, reopens: row.reopens };
            (TaskId(row.task_id), of_task)
        });
        Ok(failed.collect())
    }

    async fn read_steps(&self, task: TaskId, which: Which<'_>) -> Result<Vec<StepRow>, StoreError> {
        let (name, after, count) = match which {
            Which::Named(name) => (Some(name), -1, 1),
            Which::After(after, count) => (None, after.map_or(-1, |ordinal| ordinal.0), count),
        };
        let rows = sqlx::query!(
            r#"SELECT steps.ordinal, declared, steps.name, steps.state::text AS "state!", unmet_dependencies,
                steps.attempt, max_attempts, retry_at,
                result.attempt AS "result_attempt?", recorded_at AS "recorded_at?", content_type,
                CASE WHEN $2::text IS NULL THEN NULL ELSE data END AS data, metadata,
                error_type, error_message, retryable
            FROM steps LEFT JOIN step_results AS result USING (task_id, ordinal)
            WHERE task_id = $1 AND ($2::text IS NULL OR steps.name = $2) AND ordinal > $3
            ORDER BY ordinal LIMIT $4"#,
            task.0,
            name,
            after,
            count
        )
        .fetch_all(&self.relaxed)
        .await?;
        let corrupt = |what: String| StoreError::Corrupt { table: "steps", what };
        let mut steps = Vec::with_capacity(rows.len());
        for row in rows {
            let outcome = match (row.result_attempt, row.recorded_at) {
                (Some(attempt), Some(recorded_at)) => {
                    let result = match row.error_type {
                        Some(error_type) => Err((
                            error_type,
                            row.error_message.unwrap_or_default(),
                            row.retryable.unwrap_or_default(),
                        )),
                        None => Ok(Payload::from_columns(
                            "step_results",
                            row.content_type.unwrap_or_default(),
                            row.data.unwrap_or_default(),
                            row.metadata,
                        )?),
                    };
                    Some(StepOutcome { attempt, recorded_at, result })
                }
                _ => None,
            };
            steps.push(StepRow {
                ordinal: Ordinal(row.ordinal),
                declared: Ordinal(row.declared.unwrap_or(row.ordinal)),
                name: row.name,
                state: row.state.parse().map_err(|error| corrupt(format!("{error}")))?,
                unmet_dependencies: row.unmet_dependencies,
                attempt: row.attempt,
                max_attempts: row.max_attempts,
                retry_at: row.retry_at,
                outcome,
            });
        }
        Ok(steps)
    }
}
