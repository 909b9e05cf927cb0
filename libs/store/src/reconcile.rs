//! Looks for what should not exist, and repairs it through the same queues.

use uuid::Uuid;

use crate::{Store, StoreError, pauses::let_go};

/// Tasks that are counted anew in one transaction.
const BATCH: usize = 500;

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
    /// Tasks that had not counted what is held of them.
    pub miscounted_tasks: i64,
}

impl Findings {
    /// How many repairs that were.
    #[must_use]
    pub fn total(&self) -> i64 {
        self.forgotten_steps
            + self.unqueued_steps
            + self.unfinished_tasks
            + self.unjudged_results
            + self.miscounted_tasks
    }
}

impl Store {
    /// Has one replica look, and sends again what was lost. `None`: another replica is looking.
    ///
    /// # Errors
    /// Nothing was done.
    pub async fn reconcile(&self, actor: &str) -> Result<Option<Findings>, StoreError> {
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
        let mut findings = Findings {
            forgotten_steps: row.forgotten_steps,
            unqueued_steps: row.unqueued_steps,
            unfinished_tasks: row.unfinished_tasks,
            unjudged_results: row.unjudged_results,
            miscounted_tasks: 0,
        };
        for tasks in row.misheld_tasks.chunks(BATCH) {
            self.recount(tasks, actor, &mut findings).await?;
        }
        Ok(Some(findings))
    }

    /// Lets go what is held for no reason any more, and counts the rest.
    async fn recount(
        &self,
        tasks: &[Uuid],
        actor: &str,
        findings: &mut Findings,
    ) -> Result<(), StoreError> {
        let mut tx = self.hold_tasks(tasks).await?;
        let let_go = let_go(&mut tx, tasks, actor).await?;
        let miscounted = sqlx::query_file_scalar!("sql/tasks/recount.sql", tasks, actor)
            .fetch_all(&mut *tx)
            .await?;
        tx.commit().await?;
        let count = |found: usize| i64::try_from(found).unwrap_or(i64::MAX);
        findings.forgotten_steps += count(let_go.ready.len());
        findings.unqueued_steps += count(let_go.queued.len());
        findings.miscounted_tasks += count(miscounted.len());
        Ok(())
    }
}
