//! What stands in the way of a task's steps.

use chrono::{DateTime, Utc};
use tasker_domain::{Ordinal, StepState, TaskId};

use crate::{Store, StoreError};

/// How a step stands, and what stands in its way.
#[derive(Debug, Clone)]
pub struct Readiness {
    /// Its place.
    pub ordinal: Ordinal,
    /// Which step of the template it is, or is a run of.
    pub declared: Ordinal,
    /// Unique in its task.
    pub name: String,
    /// Where it stands.
    pub state: StepState,
    /// Attempts begun.
    pub attempt: i32,
    /// Total attempts allowed.
    pub max_attempts: i32,
    /// All that stands in its way, the nearest first; nothing of what runs, is judged or has ended.
    pub obstacles: Vec<Obstacle>,
    /// When it began to run, to wait in its queue, or to be held.
    pub since: Option<DateTime<Utc>>,
    /// When its back-off is over, or its attempt times out, or it may be taken from its queue.
    pub until: Option<DateTime<Utc>>,
    /// Who runs it.
    pub worker_id: Option<String>,
    /// Among the steps that wait for the same handler: 1 goes next. `None`, too, while it waits for a time.
    pub queue_position: Option<i64>,
    /// How many connected workers have its handler.
    pub workers: i64,
    /// Whether it is the worker of a batch whose failure counts as done.
    pub passed_over: bool,
}

/// Why a step does not begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// Its task has ended.
    TaskEnded,
    /// Dependencies are not satisfied.
    Dependencies,
    /// Its back-off is not over.
    BackOff,
    /// Its task is paused.
    TaskPaused,
    /// Its template is paused.
    TemplatePaused,
    /// A limit holds it.
    Limit,
    /// No connected worker has its handler.
    NoWorker,
    /// It waits in its queue for a worker with room.
    Queue,
    /// It is on its way to a worker or its queue.
    Enqueuing,
}

impl Obstacle {
    /// As the database says it.
    fn named(text: &str) -> Option<Self> {
        Some(match text {
            "task_ended" => Self::TaskEnded,
            "dependencies" => Self::Dependencies,
            "back_off" => Self::BackOff,
            "task_paused" => Self::TaskPaused,
            "template_paused" => Self::TemplatePaused,
            "limit" => Self::Limit,
            "no_worker" => Self::NoWorker,
            "queue" => Self::Queue,
            "enqueuing" => Self::Enqueuing,
            _ => return None,
        })
    }
}

impl Store {
    /// What stands in the way of each step of a task, in dependency order. Looks through its worker queue:
    /// for operators, not for the way of a step.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn step_readiness(&self, task: TaskId) -> Result<Vec<Readiness>, StoreError> {
        let rows = sqlx::query!(
            r#"SELECT ordinal AS "ordinal!", declared AS "declared!", name AS "name!", state::text AS "state!", attempt AS "attempt!",
                max_attempts AS "max_attempts!", blocked_by AS "blocked_by!", since, until, worker_id,
                queue_position, workers AS "workers!", passed_over AS "passed_over!"
            FROM get_step_readiness_status($1)"#,
            task.0
        )
        .fetch_all(&self.relaxed)
        .await?;
        let corrupt = |what: String| StoreError::Corrupt { table: "steps", what };
        let obstacle = |text: &String| {
            Obstacle::named(text).ok_or_else(|| corrupt(format!("obstacle {text:?}")))
        };
        let mut steps = Vec::with_capacity(rows.len());
        for row in rows {
            steps.push(Readiness {
                ordinal: Ordinal(row.ordinal),
                declared: Ordinal(row.declared),
                name: row.name,
                state: row.state.parse().map_err(|error| corrupt(format!("{error}")))?,
                attempt: row.attempt,
                max_attempts: row.max_attempts,
                obstacles: row.blocked_by.iter().map(obstacle).collect::<Result<_, _>>()?,
                since: row.since,
                until: row.until,
                worker_id: row.worker_id,
                queue_position: row.queue_position,
                workers: row.workers,
                passed_over: row.passed_over,
            });
        }
        Ok(steps)
    }
}
