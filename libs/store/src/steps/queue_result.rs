//! Results are taken in while result-processor cannot be reached.

use bytes::Bytes;
use uuid::Uuid;

use crate::{
    Payload, Store, StoreError,
    steps::{Held, Verdict, Verdicts},
};

/// A result to keep until it is judged.
#[derive(Debug, Clone)]
pub struct ToQueue {
    /// Step and lease.
    pub held: Held,
    /// What came of it; a failure is type, message and whether it may be retried.
    pub outcome: Result<Payload, (String, String, bool)>,
    /// What a good result says of what comes into being by it, as the contract encodes it.
    pub said: Option<Bytes>,
    /// After a failure, waited instead of the step's own back-off, if longer. In ms.
    pub retry_after_ms: i64,
    /// Who ran it.
    pub worker_id: String,
    /// Of the span that hands it in.
    pub traceparent: String,
}

impl Store {
    /// Takes results behind the fence, and queues them to be judged. A verdict for each, in order.
    ///
    /// # Errors
    /// Nothing was done.
    pub async fn queue_results(&self, items: &[ToQueue]) -> Result<Vec<Verdict>, StoreError> {
        let good = |item: &ToQueue| item.outcome.clone().ok();
        let bad = |item: &ToQueue| item.outcome.clone().err();
        let task_ids: Vec<Uuid> = items.iter().map(|item| item.held.task_id).collect();
        let ordinals: Vec<i32> = items.iter().map(|item| item.held.ordinal).collect();
        let deliveries: Vec<Uuid> = items.iter().map(|item| item.held.delivery_id).collect();
        let types: Vec<Option<String>> =
            items.iter().map(|item| Some(good(item)?.content_type)).collect();
        let data: Vec<Option<Vec<u8>>> =
            items.iter().map(|item| Some(good(item)?.data.to_vec())).collect();
        let metadata: Vec<Option<serde_json::Value>> =
            items.iter().map(|item| good(item)?.metadata_column()).collect();
        let error_types: Vec<Option<String>> =
            items.iter().map(|item| Some(bad(item)?.0)).collect();
        let messages: Vec<Option<String>> = items.iter().map(|item| Some(bad(item)?.1)).collect();
        let retryable: Vec<Option<bool>> = items.iter().map(|item| Some(bad(item)?.2)).collect();
        let retry_after: Vec<i64> = items.iter().map(|item| item.retry_after_ms).collect();
        let workers: Vec<String> = items.iter().map(|item| item.worker_id.clone()).collect();
        let traces: Vec<String> = items.iter().map(|item| item.traceparent.clone()).collect();
        let said: Vec<Option<&[u8]>> = items.iter().map(|item| item.said.as_deref()).collect();
        let rows = sqlx::query_file!(
            "sql/steps/queue_result.sql",
            &task_ids,
            &ordinals,
            &deliveries,
            &types as &[Option<String>],
            &data as &[Option<Vec<u8>>],
            &metadata as &[Option<serde_json::Value>],
            &error_types as &[Option<String>],
            &messages as &[Option<String>],
            &retryable as &[Option<bool>],
            &retry_after,
            &workers,
            &traces,
            &said as &[Option<&[u8]>]
        )
        .fetch_all(&self.durable)
        .await?;
        let mut verdicts = Verdicts::of(items.len());
        for row in rows {
            verdicts.put(Some(row.position), Some(&row.verdict))?;
        }
        Ok(verdicts.0)
    }
}
