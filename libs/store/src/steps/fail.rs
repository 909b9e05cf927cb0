//! Failures are judged.

use std::str::FromStr;

use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    Store, StoreError,
    messages::sent,
    steps::{FastVerdict, Held, Verdict, Verdicts, Way, complete::Judged},
};

/// A failure to judge.
#[derive(Debug, Clone)]
pub struct Failure {
    /// Of the queue, if it came by queue: then it is stored already.
    pub message_id: Option<i64>,
    /// Step and lease.
    pub held: Held,
    /// For programs.
    pub error_type: String,
    /// For people.
    pub error_message: String,
    /// Whether another attempt may help.
    pub retryable: bool,
    /// How long to wait before it, in ms.
    pub wait_ms: i64,
    /// Who ran it.
    pub worker_id: String,
    /// Of the span that judges it.
    pub traceparent: String,
    /// Whether it counts as done, if it is a failure for good. Whatever waits for it is told before.
    pub passed_over: bool,
}

impl Store {
    /// Has steps wait for another attempt, or fail for good, and moves their tasks. Each step at most
    /// once a batch. Steps that are not plain are left alone.
    ///
    /// # Errors
    /// Nothing was done.
    pub async fn fail_steps(
        &self,
        items: &[Failure],
        actor: &str,
    ) -> Result<Judged<FastVerdict>, StoreError> {
        let mut line = self.durable_lines.take().await?;
        let rows = fail(&mut line, items, actor, Way::Fast).await;
        judged(line.done(rows)?, items.len())
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
}

pub(crate) async fn fail(
    connection: &mut PgConnection,
    items: &[Failure],
    actor: &str,
    way: Way,
) -> Result<Vec<Row>, sqlx::Error> {
    let message_ids: Vec<Option<i64>> = items.iter().map(|item| item.message_id).collect();
    let task_ids: Vec<Uuid> = items.iter().map(|item| item.held.task_id).collect();
    let ordinals: Vec<i32> = items.iter().map(|item| item.held.ordinal).collect();
    let deliveries: Vec<Uuid> = items.iter().map(|item| item.held.delivery_id).collect();
    let types: Vec<String> = items.iter().map(|item| item.error_type.clone()).collect();
    let messages: Vec<String> = items.iter().map(|item| item.error_message.clone()).collect();
    let retryable: Vec<bool> = items.iter().map(|item| item.retryable).collect();
    let waits: Vec<i64> = items.iter().map(|item| item.wait_ms).collect();
    let workers: Vec<String> = items.iter().map(|item| item.worker_id.clone()).collect();
    let traces: Vec<String> = items.iter().map(|item| item.traceparent.clone()).collect();
    let passed_over: Vec<bool> = items.iter().map(|item| item.passed_over).collect();
    sqlx::query_file_as!(
        Row,
        "sql/steps/fail.sql",
        &message_ids as &[Option<i64>],
        &task_ids,
        &ordinals,
        &deliveries,
        &types,
        &messages,
        &retryable,
        &waits,
        &workers,
        &traces,
        actor,
        way.is_long(),
        &passed_over
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
            "finalization" => {
                judged.finalizations.push(sent(row.message_id, row.message, row.headers.as_ref())?);
            }
            "retry" => judged.retries = true,
            _ => judged.watched.extend(row.task_id),
        }
    }
    judged.verdicts = verdicts.0;
    Ok(judged)
}
