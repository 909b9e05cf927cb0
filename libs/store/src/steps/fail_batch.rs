//! One worker of a batch has failed for good, and the others do not begin.

use tasker_domain::{Ordinal, TaskId, TemplateId};
use uuid::Uuid;

use crate::{EndedStep, FailedByRule, Settlement, StoreError};

/// A batch whose workers are not to begin any more.
#[derive(Debug, Clone)]
pub struct ToFail {
    /// Whose batch it is.
    pub task_id: Uuid,
    /// The step of the template that its workers are runs of.
    pub declared: i32,
    /// Where workers of batches may be: after all steps of the template.
    pub first: i32,
    /// Of the span that judges the failure.
    pub traceparent: String,
}

impl Settlement {
    /// Fails the workers of batches that have not begun, before the failure is taken that is the cause. Returns
    /// them, without the plain ones.
    ///
    /// # Errors
    /// The transaction has failed.
    pub async fn fail_batches(
        &mut self,
        batches: &[ToFail],
        actor: &str,
    ) -> Result<Vec<FailedByRule>, StoreError> {
        if batches.is_empty() {
            return Ok(Vec::new());
        }
        let rows = sqlx::query_file!(
            "sql/steps/fail_batch.sql",
            &batches.iter().map(|batch| batch.task_id).collect::<Vec<_>>(),
            &batches.iter().map(|batch| batch.declared).collect::<Vec<_>>(),
            &batches.iter().map(|batch| batch.first).collect::<Vec<_>>(),
            actor,
            &batches.iter().map(|batch| batch.traceparent.clone()).collect::<Vec<_>>()
        )
        .fetch_all(&mut *self.transaction)
        .await?;
        let failed = rows.into_iter().map(|row| FailedByRule {
            step: EndedStep {
                template_id: TemplateId(row.template_id),
                task_id: TaskId(row.task_id),
                ordinal: Ordinal(row.ordinal),
                declared: Ordinal(row.declared),
                name: row.name,
                attempt: row.attempt,
                correlation_id: row.correlation_id,
                traceparent: row.traceparent,
            },
            error_type: row.error_type,
            error_message: row.error_message,
        });
        Ok(failed.collect())
    }
}
