//! Tasks are held for what is done by hand.

use sqlx::{Postgres, Transaction};
use uuid::Uuid;

use crate::{Store, StoreError};

impl Store {
    /// Begins what is done by hand or by rule to whole tasks: the statements that follow see all that was
    /// committed of them, and nothing else moves in them before the commit.
    ///
    /// The hot path judges in the statement that locks, since it knows which rows it is about. A statement
    /// about whatever steps and leases a task has would look for them as they were before it got the lock.
    pub(crate) async fn hold_tasks(
        &self,
        tasks: &[Uuid],
    ) -> Result<Transaction<'static, Postgres>, StoreError> {
        let mut tx = self.durable.begin().await?;
        sqlx::query!(
            "SELECT task_id FROM tasks WHERE task_id = ANY($1) ORDER BY task_id FOR NO KEY UPDATE",
            tasks
        )
        .fetch_all(&mut *tx)
        .await?;
        Ok(tx)
    }
}
