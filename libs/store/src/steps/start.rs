//! Waiting steps go to workers that have credit.

use serde_json::Value;
use uuid::Uuid;

use crate::{Store, StoreError, WaitingStep, messages::Queued as _, steps::Held};

/// A step that is at a worker now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    /// Step and lease.
    pub held: Held,
    /// Of the step.
    pub name: String,
    /// 1 for the first.
    pub attempt: i32,
    /// Total attempts allowed.
    pub max_attempts: i32,
}

/// A waiting step, and whom it goes to.
#[derive(Debug, Clone)]
pub struct ToStart {
    /// The message of the worker queue.
    pub waiting: WaitingStep,
    /// Its new lease.
    pub delivery_id: Uuid,
    /// Whose.
    pub session_id: Uuid,
    /// How long the attempt may take, in ms.
    pub timeout_ms: i64,
}

impl Store {
    /// Looks at the steps that wait in a namespace for one of some handlers, oldest first, and takes none.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn waiting_steps(
        &self,
        namespace: &str,
        handlers: &[String],
        window: i64,
    ) -> Result<Vec<WaitingStep>, StoreError> {
        let queue = worker_queue(namespace)?;
        // The name has been checked: it cannot be anything but a table of PGMQ.
        let sql = format!(
            "SELECT msg_id, message, headers FROM pgmq.q_{queue}
             WHERE message->>'callable' = ANY($1) ORDER BY msg_id LIMIT $2"
        );
        let rows = sqlx::query_as(sqlx::AssertSqlSafe(sql))
            .bind(handlers)
            .bind(window)
            .fetch_all(&self.relaxed)
            .await;
        let rows: Vec<(i64, Value, Option<Value>)> = match rows {
            // No template has been registered in the namespace: it has no queue yet.
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("42P01") => {
                Vec::new()
            }
            rows => rows?,
        };
        let mut waiting = Vec::with_capacity(rows.len());
        for (id, body, headers) in rows {
            match WaitingStep::read(id, body, headers.as_ref()) {
                Ok(step) => waiting.push(step),
                Err(reason) => {
                    queue.park(&self.durable, id, &reason).await?;
                }
            }
        }
        Ok(waiting)
    }

    /// How many steps of a namespace wait for workers; counted no further than `at_most` in each of its
    /// two queues.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn waits_for_workers(
        &self,
        namespace: &str,
        at_most: i64,
    ) -> Result<i64, StoreError> {
        let queue = worker_queue(namespace)?;
        // The name has been checked: it cannot be anything but a table of PGMQ.
        let sql = format!(
            "SELECT (SELECT count(*) FROM (
                    SELECT FROM pgmq.q_orchestration_ready_steps
                    WHERE message->>'namespace' = $2 LIMIT $1) AS ready)
                + (SELECT count(*) FROM (SELECT FROM pgmq.q_{queue} LIMIT $1) AS waiting)"
        );
        let count = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).bind(at_most).bind(namespace);
        Ok(count.fetch_one(&self.relaxed).await?)
    }

    /// Gives waiting steps to workers. Does not wait for the disk. Says which of their tasks are watched.
    ///
    /// # Errors
    /// Nothing was done.
    pub async fn start_steps(
        &self,
        namespace: &str,
        items: &[ToStart],
        actor: &str,
    ) -> Result<(Vec<Started>, Vec<Uuid>), StoreError> {
        let queue = worker_queue(namespace)?;
        let message_ids: Vec<i64> = items.iter().map(|item| item.waiting.message_id).collect();
        let task_ids: Vec<Uuid> = items.iter().map(|item| item.waiting.task_id).collect();
        let ordinals: Vec<i32> = items.iter().map(|item| item.waiting.ordinal).collect();
        let deliveries: Vec<Uuid> = items.iter().map(|item| item.delivery_id).collect();
        let sessions: Vec<Uuid> = items.iter().map(|item| item.session_id).collect();
        let timeouts: Vec<i64> = items.iter().map(|item| item.timeout_ms).collect();
        let mut line = self.relaxed_lines.take().await?;
        let rows = sqlx::query_file!(
            "sql/steps/start.sql",
            queue.name(),
            &message_ids,
            &task_ids,
            &ordinals,
            &deliveries,
            &sessions,
            &timeouts,
            actor
        )
        .fetch_all(&mut *line)
        .await;
        let rows = line.done(rows)?;
        let watched = rows.iter().filter(|row| row.watched).map(|row| row.task_id).collect();
        let started = rows.into_iter().map(|row| Started {
            held: Held { task_id: row.task_id, ordinal: row.ordinal, delivery_id: row.delivery_id },
            name: row.name,
            attempt: row.attempt,
            max_attempts: row.max_attempts,
        });
        Ok((started.collect(), watched))
    }
}

/// The queue of a namespace, which templates have been registered in.
pub(crate) fn worker_queue(namespace: &str) -> Result<tasker_pgmq::Queue, StoreError> {
    tasker_pgmq::Queue::new(format!("worker_{namespace}_queue"))
        .map_err(|error| StoreError::Corrupt { table: "tasks", what: error.to_string() })
}
