//! Good results are taken.

use uuid::Uuid;

use crate::{
    Finalization, Payload, QueuedResult, ReadyStep, Store, StoreError,
    messages::sent,
    steps::{Held, Verdict, Verdicts},
};

/// A good result to judge.
#[derive(Debug, Clone)]
pub struct Completion {
    /// Of the queue, if it came by queue: then its payload is stored already.
    pub message_id: Option<i64>,
    /// Step and lease.
    pub held: Held,
    /// What it came to.
    pub payload: Payload,
    /// Who ran it.
    pub worker_id: String,
    /// Of the span that judges it.
    pub traceparent: String,
}

/// What came of a batch of results.
#[derive(Debug, Default)]
pub struct Judged {
    /// One for each item, in order.
    pub verdicts: Vec<Verdict>,
    /// Messages sent: steps that may be enqueued now.
    pub ready: Vec<ReadyStep>,
    /// Messages sent: tasks in which nothing moves any more.
    pub finalizations: Vec<Finalization>,
    /// Tasks that moved and are watched.
    pub watched: Vec<Uuid>,
    /// Whether steps have begun to wait for a retry.
    pub retries: bool,
}

impl Store {
    /// Completes steps, unlocks their children, and moves their tasks. Each step at most once a batch.
    ///
    /// # Errors
    /// Nothing was done.
    pub async fn complete_steps(
        &self,
        items: &[Completion],
        actor: &str,
    ) -> Result<Judged, StoreError> {
        let message_ids: Vec<Option<i64>> = items.iter().map(|item| item.message_id).collect();
        let task_ids: Vec<Uuid> = items.iter().map(|item| item.held.task_id).collect();
        let ordinals: Vec<i32> = items.iter().map(|item| item.held.ordinal).collect();
        let deliveries: Vec<Uuid> = items.iter().map(|item| item.held.delivery_id).collect();
        let types: Vec<String> =
            items.iter().map(|item| item.payload.content_type.clone()).collect();
        let data: Vec<&[u8]> = items.iter().map(|item| item.payload.data.as_ref()).collect();
        let metadata: Vec<Option<serde_json::Value>> =
            items.iter().map(|item| item.payload.metadata_column()).collect();
        let workers: Vec<String> = items.iter().map(|item| item.worker_id.clone()).collect();
        let traces: Vec<String> = items.iter().map(|item| item.traceparent.clone()).collect();
        let mut line = self.durable_lines.take().await?;
        let rows = sqlx::query_file!(
            "sql/steps/complete.sql",
            &message_ids as &[Option<i64>],
            &task_ids,
            &ordinals,
            &deliveries,
            &types,
            &data as &[&[u8]],
            &metadata as &[Option<serde_json::Value>],
            &workers,
            &traces,
            actor
        )
        .fetch_all(&mut *line)
        .await;
        let rows = line.done(rows)?;
        let mut verdicts = Verdicts::of(items.len());
        let mut judged = Judged::default();
        for row in rows {
            match row.kind.as_str() {
                "verdict" => verdicts.put(row.position, row.verdict.as_deref())?,
                "ready" => {
                    judged.ready.push(sent(row.message_id, row.message, row.headers.as_ref())?);
                }
                "finalization" => {
                    judged.finalizations.push(sent(
                        row.message_id,
                        row.message,
                        row.headers.as_ref(),
                    )?);
                }
                _ => judged.watched.extend(row.task_id),
            }
        }
        judged.verdicts = verdicts.0;
        Ok(judged)
    }

    /// Reads results that wait to be judged, and hides them from others for a while.
    /// What cannot be read is parked with the reason.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn read_queued_results(&self, count: i32) -> Result<Vec<QueuedResult>, StoreError> {
        self.read_queue("orchestration_step_results", count).await
    }
}
