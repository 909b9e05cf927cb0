//! Good results are taken.

use std::str::FromStr;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    Finalization, Payload, QueuedResult, ReadyStep, Store, StoreError,
    messages::sent,
    steps::{FastVerdict, Held, Verdict, Verdicts, Way, start::Started},
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
    /// What it says of what comes into being by it.
    pub said: Said,
    /// Who ran it.
    pub worker_id: String,
    /// Of the span that judges it.
    pub traceparent: String,
    /// Where steps that it unlocks may begin at once. At most one for each step.
    pub places: Vec<Place>,
}

/// What a good result says of what comes into being by it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Said {
    /// Nothing.
    #[default]
    Nothing,
    /// This, as the contract encodes it.
    This(Bytes),
    /// What was stored when it was queued.
    Stored,
}

/// A place that a worker keeps for a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Which step of the task.
    pub ordinal: i32,
    /// Its lease, if it begins there.
    pub delivery_id: Uuid,
    /// Whose.
    pub session_id: Uuid,
    /// How long the attempt may take, in ms.
    pub timeout_ms: i64,
}

/// A task whose last step has just completed. Nothing of it changes any more, but that a resume ends its pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompletedTask {
    /// Which.
    pub task_id: Uuid,
    /// When.
    pub ended_at: DateTime<Utc>,
    /// How many steps it has: all are satisfied.
    pub steps: i32,
    /// Whether it is paused as it ends.
    pub paused: bool,
}

/// What came of a batch of results.
#[derive(Debug)]
pub struct Judged<V = Verdict> {
    /// One for each item, in order.
    pub verdicts: Vec<V>,
    /// Unlocked steps that have begun in the places brought for them.
    pub started: Vec<Started>,
    /// Messages sent: steps that may be enqueued now.
    pub ready: Vec<ReadyStep>,
    /// Messages sent: tasks in which nothing moves any more.
    pub finalizations: Vec<Finalization>,
    /// Tasks on their way that moved and are watched.
    pub watched: Vec<Uuid>,
    /// Tasks that have ended and are watched, or that several calls have waited for.
    pub rested: Vec<Uuid>,
    /// Tasks that have completed and that one call has waited for.
    pub awaited: Vec<CompletedTask>,
    /// Whether steps have begun to wait for a retry.
    pub retries: bool,
}

impl<V> Default for Judged<V> {
    fn default() -> Self {
        Self {
            verdicts: Vec::new(),
            started: Vec::new(),
            ready: Vec::new(),
            finalizations: Vec::new(),
            watched: Vec::new(),
            rested: Vec::new(),
            awaited: Vec::new(),
            retries: false,
        }
    }
}

impl Store {
    /// Completes steps, unlocks their children, and moves their tasks, which end with their last steps. Each
    /// step at most once a batch. Steps that are not plain are left alone.
    ///
    /// # Errors
    /// Nothing was done.
    pub async fn complete_steps(
        &self,
        items: &[Completion],
        actor: &str,
    ) -> Result<Judged<FastVerdict>, StoreError> {
        let mut line = self.durable_lines.take().await?;
        let rows = complete(&mut line, items, actor, Way::Fast).await;
        judged(line.done(rows)?, items.len())
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

/// What the statement says.
pub(crate) struct Row {
    kind: String,
    position: Option<i64>,
    verdict: Option<String>,
    message_id: Option<i64>,
    message: Option<Value>,
    headers: Option<Value>,
    task_id: Option<Uuid>,
    ordinal: Option<i32>,
    delivery_id: Option<Uuid>,
    name: Option<String>,
    attempt: Option<i32>,
    max_attempts: Option<i32>,
    ended_at: Option<DateTime<Utc>>,
    total: Option<i32>,
    paused: Option<bool>,
}

pub(crate) async fn complete(
    connection: &mut PgConnection,
    items: &[Completion],
    actor: &str,
    way: Way,
) -> Result<Vec<Row>, sqlx::Error> {
    let message_ids: Vec<Option<i64>> = items.iter().map(|item| item.message_id).collect();
    let task_ids: Vec<Uuid> = items.iter().map(|item| item.held.task_id).collect();
    let ordinals: Vec<i32> = items.iter().map(|item| item.held.ordinal).collect();
    let deliveries: Vec<Uuid> = items.iter().map(|item| item.held.delivery_id).collect();
    let types: Vec<String> = items.iter().map(|item| item.payload.content_type.clone()).collect();
    let data: Vec<&[u8]> = items.iter().map(|item| item.payload.data.as_ref()).collect();
    let metadata: Vec<Option<Value>> =
        items.iter().map(|item| item.payload.metadata_column()).collect();
    let workers: Vec<String> = items.iter().map(|item| item.worker_id.clone()).collect();
    let traces: Vec<String> = items.iter().map(|item| item.traceparent.clone()).collect();
    let places: Vec<Option<Value>> = items.iter().map(|item| as_read(&item.places)).collect();
    sqlx::query_file_as!(
        Row,
        "sql/steps/complete.sql",
        &message_ids as &[Option<i64>],
        &task_ids,
        &ordinals,
        &deliveries,
        &types,
        &data as &[&[u8]],
        &metadata as &[Option<Value>],
        &workers,
        &traces,
        actor,
        &places as &[Option<Value>],
        way.is_long()
    )
    .fetch_all(connection)
    .await
}

pub(crate) fn judged<V>(rows: Vec<Row>, items: usize) -> Result<Judged<V>, StoreError>
where
    V: Clone + From<Verdict> + FromStr<Err = StoreError>,
{
    let mut verdicts = Verdicts::of(items);
    let mut judged = Judged::default();
    for row in rows {
        match row.kind.as_str() {
            "verdict" => verdicts.put(row.position, row.verdict.as_deref())?,
            "started" => {
                if let (
                    Some(task_id),
                    Some(ordinal),
                    Some(delivery_id),
                    Some(name),
                    Some(attempt),
                    Some(max_attempts),
                ) = (
                    row.task_id,
                    row.ordinal,
                    row.delivery_id,
                    row.name,
                    row.attempt,
                    row.max_attempts,
                ) {
                    let held = Held { task_id, ordinal, delivery_id };
                    // What a result unlocks has never begun before.
                    let has_checkpoint = false;
                    judged.started.push(Started {
                        held,
                        name,
                        attempt,
                        max_attempts,
                        has_checkpoint,
                    });
                }
            }
            "ready" => {
                judged.ready.push(sent(row.message_id, row.message, row.headers.as_ref())?);
            }
            "finalization" => {
                judged.finalizations.push(sent(row.message_id, row.message, row.headers.as_ref())?);
            }
            "rested" => judged.rested.extend(row.task_id),
            "awaited" => {
                if let (Some(task_id), Some(ended_at), Some(steps), Some(paused)) =
                    (row.task_id, row.ended_at, row.total, row.paused)
                {
                    judged.awaited.push(CompletedTask { task_id, ended_at, steps, paused });
                }
            }
            _ => judged.watched.extend(row.task_id),
        }
    }
    judged.verdicts = verdicts.0;
    Ok(judged)
}

/// Places as the statement reads them: by step, delivery, session and timeout.
pub(crate) fn as_read(places: &[Place]) -> Option<Value> {
    let place = |place: &Place| {
        let Place { ordinal, delivery_id, session_id, timeout_ms } = place;
        (ordinal.to_string(), json!([delivery_id, session_id, timeout_ms]))
    };
    let places: Map<String, Value> = places.iter().map(place).collect();
    (!places.is_empty()).then_some(Value::Object(places))
}
