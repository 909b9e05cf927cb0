//! Steps that are to go on later go back.

use std::time::Duration;

use uuid::Uuid;

use crate::{
    Store, StoreError,
    steps::{Held, Verdict, Verdicts, start::worker_queue},
};

/// A step that its worker yields.
#[derive(Debug, Clone)]
pub struct ToYield {
    /// Step and lease.
    pub held: Held,
    /// What it goes on from, encoded; `None`: what was saved before stays.
    pub checkpoint: Option<Vec<u8>>,
    /// How long not to deliver it, in ms.
    pub delay_ms: i64,
    /// Who ran it.
    pub worker_id: String,
    /// Of the span that ran it.
    pub traceparent: String,
}

/// What came of a batch of yields.
#[derive(Debug, Default)]
pub struct Yielded {
    /// One for each, in order.
    pub verdicts: Vec<Verdict>,
    /// Namespaces whose worker queue has got messages that may be claimed at once.
    pub queued: Vec<String>,
    /// Whether some may not be claimed yet.
    pub delayed: bool,
    /// Tasks that are watched.
    pub watched: Vec<Uuid>,
}

impl Store {
    /// Takes steps back behind the fence without costing an attempt, and puts them into their queues with
    /// what they go on from. Each step at most once a batch.
    ///
    /// # Errors
    /// Nothing was done.
    pub async fn yield_steps(&self, items: &[ToYield]) -> Result<Yielded, StoreError> {
        let task_ids: Vec<Uuid> = items.iter().map(|item| item.held.task_id).collect();
        let ordinals: Vec<i32> = items.iter().map(|item| item.held.ordinal).collect();
        let deliveries: Vec<Uuid> = items.iter().map(|item| item.held.delivery_id).collect();
        let checkpoints: Vec<Option<&[u8]>> =
            items.iter().map(|item| item.checkpoint.as_deref()).collect();
        let delays: Vec<i64> = items.iter().map(|item| item.delay_ms).collect();
        let workers: Vec<String> = items.iter().map(|item| item.worker_id.clone()).collect();
        let traces: Vec<String> = items.iter().map(|item| item.traceparent.clone()).collect();
        let rows = sqlx::query_file!(
            "sql/steps/yield.sql",
            &task_ids,
            &ordinals,
            &deliveries,
            &checkpoints as &[Option<&[u8]>],
            &delays,
            &workers,
            &traces
        )
        .fetch_all(&self.durable)
        .await?;
        let mut verdicts = Verdicts::of(items.len());
        let mut yielded = Yielded::default();
        for row in rows {
            match (row.kind.as_str(), row.delay_ms) {
                ("verdict", _) => verdicts.put(row.position, row.verdict.as_deref())?,
                ("queued", Some(0)) => yielded.queued.extend(row.namespace),
                ("queued", _) => yielded.delayed = true,
                _ => yielded.watched.extend(row.task_id),
            }
        }
        yielded.verdicts = verdicts.0;
        Ok(yielded)
    }

    /// How long until the next step of a namespace may be claimed that may not yet, by the database's
    /// clock; nothing if none waits for a time.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn next_delayed(&self, namespace: &str) -> Result<Option<Duration>, StoreError> {
        let queue = worker_queue(namespace)?;
        // The name has been checked: it cannot be anything but a table of PGMQ.
        let sql = format!(
            "SELECT ceil(extract(epoch FROM min(vt) - now()) * 1000)::bigint
             FROM pgmq.q_{queue} WHERE vt > now()"
        );
        let wait = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(&self.relaxed).await;
        let wait: Option<i64> = match wait {
            // No template has been registered in the namespace: it has no queue yet.
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("42P01") => None,
            wait => wait?,
        };
        Ok(wait.map(|ms| Duration::from_millis(u64::try_from(ms).unwrap_or(0))))
    }
}
