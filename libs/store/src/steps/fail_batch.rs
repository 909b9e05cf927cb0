//! One worker of a batch has failed for good, and the others do not begin.

use uuid::Uuid;

use crate::{Settlement, StoreError};

/// A batch whose workers are not to begin any more.
#[derive(Debug, Clone, Copy)]
pub struct ToFail {
    /// Whose batch it is.
    pub task_id: Uuid,
    /// The step of the template that its workers are runs of.
    pub declared: i32,
    /// Where workers of batches may be: after all steps of the template.
    pub first: i32,
}

impl Settlement {
    /// Fails the workers of batches that have not begun, before the failure is taken that is the cause.
    ///
    /// # Errors
    /// The transaction has failed.
    pub async fn fail_batches(
        &mut self,
        batches: &[ToFail],
        actor: &str,
    ) -> Result<(), StoreError> {
        if batches.is_empty() {
            return Ok(());
        }
        sqlx::query_file!(
            "sql/steps/fail_batch.sql",
            &batches.iter().map(|batch| batch.task_id).collect::<Vec<_>>(),
            &batches.iter().map(|batch| batch.declared).collect::<Vec<_>>(),
            &batches.iter().map(|batch| batch.first).collect::<Vec<_>>(),
            actor
        )
        .execute(&mut *self.transaction)
        .await?;
        Ok(())
    }
}
