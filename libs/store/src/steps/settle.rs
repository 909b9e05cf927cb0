//! The long way: results that concern more than their steps and dependants are settled in a
//! transaction, which can do more than the statements of the fast way.

use sqlx::{PgConnection, Postgres, Transaction};
use tasker_domain::{Ordinal, TaskId, TemplateId};
use uuid::Uuid;

use crate::{
    Completion, Failure, Judged, Payload, Store, StoreError,
    steps::{Held, Way, complete, fail},
};

/// A transaction that settles results. Dropped before its commit, it has done nothing.
#[derive(Debug)]
pub struct Settlement {
    pub(crate) transaction: Transaction<'static, Postgres>,
}

/// A result about to be settled.
#[derive(Debug, Clone, Copy)]
pub struct ToLock {
    /// Of the queue, if it came by queue.
    pub message_id: Option<i64>,
    /// Step and lease.
    pub held: Held,
}

/// A step that a result is settled for.
#[derive(Debug, Clone)]
pub struct Locked {
    /// What its task was made from.
    pub template_id: Uuid,
    /// The step of the template that it is, or is a run of.
    pub declared: Ordinal,
    /// Of the step.
    pub name: String,
    /// Attempts begun.
    pub attempt: i32,
    /// Total attempts allowed.
    pub max_attempts: i32,
    /// Of the task.
    pub correlation_id: String,
    /// Whether the result will be taken: it is neither late nor taken before.
    pub is_held: bool,
    /// What was stored when the result was queued, if it was; a failure is type and message.
    pub stored: Option<Result<Payload, (String, String)>>,
}

/// A step that has ended otherwise than by its worker's result, and may publish events.
#[derive(Debug, Clone)]
pub struct EndedStep {
    /// What its task was made from.
    pub template_id: TemplateId,
    /// Of which task.
    pub task_id: TaskId,
    /// Its place in the task.
    pub ordinal: Ordinal,
    /// The step of the template that it is, or is a run of.
    pub declared: Ordinal,
    /// Unique in its task.
    pub name: String,
    /// Attempts begun.
    pub attempt: i32,
    /// Of the task; may be empty.
    pub correlation_id: String,
    /// Of what has ended it, or where the task's trace begins; may be empty.
    pub traceparent: String,
}

/// A step that has failed for good though no worker has said so.
#[derive(Debug, Clone)]
pub struct FailedByRule {
    /// Which.
    pub step: EndedStep,
    /// For programs.
    pub error_type: String,
    /// For people.
    pub error_message: String,
}

impl Store {
    /// Begins to settle results.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn begin_settlement(&self) -> Result<Settlement, StoreError> {
        Ok(Settlement { transaction: self.durable.begin().await? })
    }
}

impl Settlement {
    /// Locks steps with their tasks, in the order of all locks, and says what is known of them. None
    /// where there is no such step. Each step at most once.
    ///
    /// # Errors
    /// The database is not available, or a row is corrupt.
    pub async fn lock(&mut self, items: &[ToLock]) -> Result<Vec<Option<Locked>>, StoreError> {
        let message_ids: Vec<Option<i64>> = items.iter().map(|item| item.message_id).collect();
        let task_ids: Vec<Uuid> = items.iter().map(|item| item.held.task_id).collect();
        let ordinals: Vec<i32> = items.iter().map(|item| item.held.ordinal).collect();
        let deliveries: Vec<Uuid> = items.iter().map(|item| item.held.delivery_id).collect();
        let rows = sqlx::query_file!(
            "sql/steps/lock.sql",
            &message_ids as &[Option<i64>],
            &task_ids,
            &ordinals,
            &deliveries
        )
        .fetch_all(&mut *self.transaction)
        .await?;
        let mut locked: Vec<Option<Locked>> = items.iter().map(|_| None).collect();
        for row in rows {
            let place = usize::try_from(row.position - 1).ok().and_then(|n| locked.get_mut(n));
            let Some(place) = place else { continue };
            let stored = match (row.content_type, row.data, row.error_type) {
                (Some(content_type), Some(data), _) => {
                    let payload =
                        Payload::from_columns("step_results", content_type, data, row.metadata)?;
                    Some(Ok(payload))
                }
                (_, _, Some(error_type)) => {
                    Some(Err((error_type, row.error_message.unwrap_or_default())))
                }
                _ => None,
            };
            *place = Some(Locked {
                template_id: row.template_id,
                declared: Ordinal(row.declared),
                name: row.name,
                attempt: row.attempt,
                max_attempts: row.max_attempts,
                correlation_id: row.correlation_id,
                is_held: row.held,
                stored,
            });
        }
        Ok(locked)
    }

    /// As [`Store::complete_steps`], of steps of any kind.
    ///
    /// # Errors
    /// The transaction has failed.
    pub async fn complete(
        &mut self,
        items: &[Completion],
        actor: &str,
    ) -> Result<Judged, StoreError> {
        if items.is_empty() {
            return Ok(Judged::default());
        }
        let rows = complete::complete(&mut self.transaction, items, actor, Way::Long).await?;
        complete::judged(rows, items.len())
    }

    /// As [`Store::fail_steps`], of steps of any kind. A result that was queued as a good one may be
    /// failed for good, too.
    ///
    /// # Errors
    /// The transaction has failed.
    pub async fn fail(&mut self, items: &[Failure], actor: &str) -> Result<Judged, StoreError> {
        if items.is_empty() {
            return Ok(Judged::default());
        }
        let rows = fail::fail(&mut self.transaction, items, actor, Way::Long).await?;
        fail::judged(rows, items.len())
    }

    /// For other statements of the same transaction.
    pub(crate) fn connection(&mut self) -> &mut PgConnection {
        &mut self.transaction
    }

    /// Makes all of it last.
    ///
    /// # Errors
    /// Nothing was done, or nobody can know.
    pub async fn commit(self) -> Result<(), StoreError> {
        Ok(self.transaction.commit().await?)
    }
}
