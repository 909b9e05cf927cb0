//! Workers of batches have failed, and what waits for them goes on without them.

use uuid::Uuid;

use crate::{ReadyStep, Settlement, StoreError, messages::sent};

/// The worker of a batch that fails for good, and counts as done.
#[derive(Debug, Clone)]
pub struct PassedOver {
    /// Whose step it is.
    pub task_id: Uuid,
    /// Which step.
    pub ordinal: i32,
    /// The step of the template that it is a run of.
    pub declared: i32,
    /// Of the span that judges its failure.
    pub traceparent: String,
}

impl Settlement {
    /// Has nothing wait for workers that fail, before their failures are taken. Returns the messages sent.
    ///
    /// # Errors
    /// The transaction has failed.
    pub async fn pass_over(
        &mut self,
        workers: &[PassedOver],
    ) -> Result<Vec<ReadyStep>, StoreError> {
        if workers.is_empty() {
            return Ok(Vec::new());
        }
        let rows = sqlx::query_file!(
            "sql/steps/pass_over.sql",
            &workers.iter().map(|worker| worker.task_id).collect::<Vec<_>>(),
            &workers.iter().map(|worker| worker.ordinal).collect::<Vec<_>>(),
            &workers.iter().map(|worker| worker.declared).collect::<Vec<_>>(),
            &workers.iter().map(|worker| worker.traceparent.clone()).collect::<Vec<_>>()
        )
        .fetch_all(&mut *self.transaction)
        .await?;
        let ready = rows.into_iter();
        ready
            .map(|row| sent(Some(row.message_id), Some(row.message), row.headers.as_ref()))
            .collect()
    }
}
