//! Steps whose back-off is over are ready again.

use std::time::Duration;

use uuid::Uuid;

use crate::{ReadyStep, Store, StoreError, messages::sent};

/// What came of a look at the steps that wait for a retry.
#[derive(Debug, Default)]
pub struct Retried {
    /// Messages sent: steps that may be enqueued now.
    pub ready: Vec<ReadyStep>,
    /// Tasks that moved and are watched.
    pub watched: Vec<Uuid>,
}

impl Store {
    /// Makes steps ready that are due, at most `count`.
    ///
    /// # Errors
    /// Nothing was done.
    pub async fn retry_steps(&self, count: i64, actor: &str) -> Result<Retried, StoreError> {
        let rows =
            sqlx::query_file!("sql/steps/retry.sql", count, actor).fetch_all(&self.durable).await?;
        let mut retried = Retried::default();
        for row in rows {
            match row.kind.as_str() {
                "ready" => {
                    retried.ready.push(sent(row.message_id, row.message, row.headers.as_ref())?);
                }
                _ => retried.watched.extend(row.task_id),
            }
        }
        Ok(retried)
    }

    /// How long until the next step is due, by the database's clock; nothing if none waits.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn next_retry(&self) -> Result<Option<Duration>, StoreError> {
        let wait = sqlx::query_scalar!(
            "SELECT (extract(epoch FROM min(retry_at) - clock_timestamp()) * 1000)::bigint
             FROM steps WHERE retry_at IS NOT NULL"
        )
        .fetch_one(&self.relaxed)
        .await?;
        Ok(wait.map(|ms| Duration::from_millis(u64::try_from(ms).unwrap_or(0))))
    }
}
