//! Looks for what should not exist, and repairs it through the same queues.

use crate::{Store, StoreError};

/// What a look has found and repaired. Without faults every count is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Findings {
    /// Ready steps that no message told of.
    pub forgotten_steps: i64,
    /// Enqueued steps that no worker queue held.
    pub unqueued_steps: i64,
    /// Tasks in which nothing moves and that no message told of.
    pub unfinished_tasks: i64,
    /// Results that were stored and that no message told of.
    pub unjudged_results: i64,
}

impl Findings {
    /// How many repairs that were.
    #[must_use]
    pub fn total(&self) -> i64 {
        self.forgotten_steps + self.unqueued_steps + self.unfinished_tasks + self.unjudged_results
    }
}

impl Store {
    /// Has one replica look, and sends again what was lost. `None`: another replica is looking.
    ///
    /// # Errors
    /// Nothing was done.
    pub async fn reconcile(&self) -> Result<Option<Findings>, StoreError> {
        let mut tx = self.durable.begin().await?;
        let mine = sqlx::query_scalar!(
            r#"SELECT pg_try_advisory_xact_lock(hashtext('tasker.reconcile')) AS "mine!""#
        )
        .fetch_one(&mut *tx)
        .await?;
        if !mine {
            return Ok(None);
        }
        let row = sqlx::query_file!("sql/tasks/reconcile.sql").fetch_one(&mut *tx).await?;
        tx.commit().await?;
        Ok(Some(Findings {
            forgotten_steps: row.forgotten_steps,
            unqueued_steps: row.unqueued_steps,
            unfinished_tasks: row.unfinished_tasks,
            unjudged_results: row.unjudged_results,
        }))
    }
}
