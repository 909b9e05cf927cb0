//! A queue, by name.

use std::{fmt, time::Duration};

use serde_json::Value;
use sqlx::PgExecutor;

use crate::Message;

/// The longest name that PGMQ takes, in characters.
const MAX_NAME: usize = 47;

/// The name of a queue: 1 to 47 characters of `a-z 0-9 _`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Queue(String);

/// Text that cannot name a queue.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} cannot name a queue: give 1 to {MAX_NAME} characters of a-z 0-9 _")]
pub struct InvalidName(String);

impl Queue {
    /// Takes a name that PGMQ takes, too.
    ///
    /// # Errors
    /// The name is too long, or has other characters.
    pub fn new(name: impl Into<String>) -> Result<Self, InvalidName> {
        let name = name.into();
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let fits = (1..=MAX_NAME).contains(&name.len()) && name.chars().all(allowed);
        if fits { Ok(Self(name)) } else { Err(InvalidName(name)) }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }

    /// Creates it if it does not exist.
    ///
    /// # Errors
    /// The database says no.
    pub async fn create(&self, executor: impl PgExecutor<'_>) -> Result<(), sqlx::Error> {
        sqlx::query(
            "SELECT pgmq.create($1) WHERE NOT EXISTS (SELECT FROM pgmq.meta WHERE queue_name = $1)",
        )
        .bind(&self.0)
        .execute(executor)
        .await?;
        Ok(())
    }

    /// Sends messages, each with headers, and returns their ids in order.
    ///
    /// # Errors
    /// The database says no: for example there is no such queue.
    pub async fn send(
        &self,
        executor: impl PgExecutor<'_>,
        bodies: &[Value],
        headers: &[Value],
    ) -> Result<Vec<i64>, sqlx::Error> {
        sqlx::query_scalar("SELECT pgmq.send_batch($1, $2::jsonb[], $3::jsonb[])")
            .bind(&self.0)
            .bind(bodies)
            .bind(headers)
            .fetch_all(executor)
            .await
    }

    /// Sends messages and wakes those who listen on `channel`, when the transaction commits.
    ///
    /// Notifying takes a database-wide lock at commit: keep it off hot paths.
    ///
    /// # Errors
    /// The database says no: for example there is no such queue.
    pub async fn send_with_notify(
        &self,
        executor: impl PgExecutor<'_>,
        bodies: &[Value],
        headers: &[Value],
        channel: &str,
    ) -> Result<Vec<i64>, sqlx::Error> {
        sqlx::query_scalar(
            "SELECT sent.id FROM pgmq.send_batch($1, $2::jsonb[], $3::jsonb[]) AS sent (id),
                 (SELECT pg_notify($4, $1)) AS woken",
        )
        .bind(&self.0)
        .bind(bodies)
        .bind(headers)
        .bind(channel)
        .fetch_all(executor)
        .await
    }

    /// Reads at most `count` messages, oldest first, and hides them from others for `hide`.
    ///
    /// Each read is counted: a message that kills its reader shows it.
    ///
    /// # Errors
    /// The database says no.
    pub async fn read(
        &self,
        executor: impl PgExecutor<'_>,
        hide: Duration,
        count: i32,
    ) -> Result<Vec<Message>, sqlx::Error> {
        let seconds = i32::try_from(hide.as_secs()).unwrap_or(i32::MAX);
        sqlx::query_as("SELECT msg_id, read_ct, message, headers FROM pgmq.read($1, $2, $3)")
            .bind(&self.0)
            .bind(seconds)
            .bind(count)
            .fetch_all(executor)
            .await
    }

    /// Takes at most `count` messages, oldest first. What the transaction undoes comes back.
    ///
    /// # Errors
    /// The database says no.
    pub async fn pop(
        &self,
        executor: impl PgExecutor<'_>,
        count: i32,
    ) -> Result<Vec<Message>, sqlx::Error> {
        sqlx::query_as("SELECT msg_id, read_ct, message, headers FROM pgmq.pop($1, $2)")
            .bind(&self.0)
            .bind(count)
            .fetch_all(executor)
            .await
    }

    /// Moves messages into the queue's archive.
    ///
    /// # Errors
    /// The database says no.
    pub async fn archive(
        &self,
        executor: impl PgExecutor<'_>,
        ids: &[i64],
    ) -> Result<Vec<i64>, sqlx::Error> {
        sqlx::query_scalar("SELECT pgmq.archive($1, $2)")
            .bind(&self.0)
            .bind(ids)
            .fetch_all(executor)
            .await
    }

    /// Moves one message to `<queue>_dlq`, with the reason in its headers. Returns its body, if it was there.
    ///
    /// # Errors
    /// The database says no.
    pub async fn park(
        &self,
        executor: impl PgExecutor<'_>,
        id: i64,
        reason: &str,
    ) -> Result<Option<Value>, sqlx::Error> {
        // The name has been checked: it cannot be anything but a table of PGMQ.
        let sql = format!(
            "WITH gone AS (DELETE FROM pgmq.q_{self} WHERE msg_id = $1 RETURNING message, headers)
             SELECT pgmq.send($2, message, coalesce(headers, '{{}}') || jsonb_build_object('reason', $3::text)),
                 message
             FROM gone"
        );
        let parked: Option<(i64, Value)> = sqlx::query_as(sqlx::AssertSqlSafe(sql))
            .bind(id)
            .bind(format!("{self}_dlq"))
            .bind(reason)
            .fetch_optional(executor)
            .await?;
        if parked.is_some() {
            tracing::error!(queue.name = %self, message.id = id, reason, "parked a message of {self} that cannot be worked off");
        }
        Ok(parked.map(|(_, body)| body))
    }
}

impl fmt::Display for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::Queue;

    #[test]
    fn a_name_that_could_be_sql_is_refused() {
        assert!(Queue::new("worker_orders_queue").is_ok());
        for bad in ["", "Orders", "a b", "a;drop table tasks", &"a".repeat(48)] {
            assert!(Queue::new(bad).is_err(), "{bad:?}");
        }
    }
}
