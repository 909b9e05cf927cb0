//! Workers of batches get the places that others leave.

use sqlx::PgConnection;
use uuid::Uuid;

use crate::{ReadyStep, Settlement, StoreError, messages::sent};

/// A batch in which places become free.
#[derive(Debug, Clone)]
pub struct WorkersToAdmit {
    /// Whose batch it is.
    pub task_id: Uuid,
    /// The step of the template that its workers are runs of.
    pub declared: i32,
    /// Where workers of batches may be: after all steps of the template.
    pub first: i32,
    /// How many of them may be in queues or at workers at once.
    pub parallelism: i32,
    /// How many of those that are end now.
    pub leaving: i32,
    /// Of the span that judges their results.
    pub traceparent: String,
}

impl Settlement {
    /// Has workers of batches begin where others end, before the results of those are taken. Each batch
    /// once. Returns the messages sent.
    ///
    /// # Errors
    /// The transaction has failed.
    pub async fn admit_workers(
        &mut self,
        batches: &[WorkersToAdmit],
    ) -> Result<Vec<ReadyStep>, StoreError> {
        if batches.is_empty() {
            return Ok(Vec::new());
        }
        admit_workers(&mut self.transaction, batches, true).await
    }
}

/// The same, in any transaction that holds the tasks. `counted`: nobody counts them anew after it.
pub(crate) async fn admit_workers(
    connection: &mut PgConnection,
    batches: &[WorkersToAdmit],
    counted: bool,
) -> Result<Vec<ReadyStep>, StoreError> {
    let rows = sqlx::query_file!(
        "sql/steps/admit_workers.sql",
        &batches.iter().map(|batch| batch.task_id).collect::<Vec<_>>(),
        &batches.iter().map(|batch| batch.declared).collect::<Vec<_>>(),
        &batches.iter().map(|batch| batch.first).collect::<Vec<_>>(),
        &batches.iter().map(|batch| batch.parallelism).collect::<Vec<_>>(),
        &batches.iter().map(|batch| batch.leaving).collect::<Vec<_>>(),
        &batches.iter().map(|batch| batch.traceparent.clone()).collect::<Vec<_>>(),
        counted
    )
    .fetch_all(&mut *connection)
    .await?;
    let ready = rows.into_iter();
    ready.map(|row| sent(Some(row.message_id), Some(row.message), row.headers.as_ref())).collect()
}
