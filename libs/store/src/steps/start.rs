//! Waiting steps go to workers that have credit.

use std::{cmp::Reverse, collections::BTreeSet, time::Duration};

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
    /// Whether it has saved how far it has come.
    pub has_checkpoint: bool,
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

/// Where a look into a worker queue begins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Front {
    /// The message to begin at; 0 for the first. Those before it are not seen.
    pub message_id: i64,
    /// Priorities that many messages are expected to have: of each, those before the first are not even passed. Of
    /// others they are, by the index alone, for as long as an old snapshot keeps what was taken.
    pub priorities: Vec<i16>,
}

/// What a look into a worker queue has found.
#[derive(Debug, Clone, Default)]
pub struct SeenWaiting {
    /// The oldest; and if there may be more, those with the largest priorities.
    pub steps: Vec<WaitingStep>,
    /// If there may be more.
    pub beyond: Option<Beyond>,
}

/// Steps that wait beyond a look: none has a larger priority, or has waited longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beyond {
    /// The largest that one may have.
    pub priority: i16,
    /// Of the last that was seen with that priority. Those behind it came later, so their tasks, too, are
    /// younger as a rule.
    pub task_id: Uuid,
    /// The longest that one may have waited.
    pub waited: Duration,
}

/// What waits for workers in a namespace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Steps on their way to the worker queue.
    pub ready: i64,
    /// Steps in the worker queue.
    pub queued: i64,
    /// Steps that pauses and limits hold.
    pub held: i64,
    /// The highest number of a message in the worker queue, which every message raises by one; 0 if there is none.
    pub last: i64,
}

/// All priorities, from the highest to the lowest, in bands of which each of these is one: the highest and
/// the lowest of each band.
fn bands(priorities: &[i16]) -> Vec<(i16, i16)> {
    let known: BTreeSet<i16> = priorities.iter().copied().collect();
    let (mut bands, mut highest) = (Vec::with_capacity(2 * known.len() + 1), Some(i16::MAX));
    for priority in known.into_iter().rev() {
        let above = priority.checked_add(1);
        bands.extend(highest.zip(above).filter(|(highest, lowest)| highest >= lowest));
        bands.push((priority, priority));
        highest = priority.checked_sub(1);
    }
    bands.extend(highest.map(|highest| (highest, i16::MIN)));
    bands
}

/// The statement that looks into a worker queue.
fn look(queue: &tasker_pgmq::Queue) -> String {
    // The name has been checked: it cannot be anything but a table of PGMQ.
    format!(
        "WITH oldest AS MATERIALIZED (
            SELECT msg_id, message, headers, enqueued_at FROM pgmq.q_{queue}
            WHERE message->>'callable' = ANY($1) AND vt <= clock_timestamp() AND msg_id >= $3
            ORDER BY msg_id LIMIT $2
         ), urgent AS (
            -- Band by band, from the highest on, until there are enough. In each the index is entered at the
            -- first message; in one of a single priority nothing before it is passed.
            SELECT message.*
            FROM unnest($4::smallint[], $5::smallint[]) WITH ORDINALITY AS band (highest, lowest, nth)
            CROSS JOIN LATERAL (
                SELECT msg_id, message, headers, enqueued_at FROM pgmq.q_{queue}
                WHERE message->'priority' <= to_jsonb(highest) AND message->'priority' >= to_jsonb(lowest)
                  AND message->>'callable' = ANY($1) AND vt <= clock_timestamp() AND msg_id >= $3
                ORDER BY message->'priority' DESC NULLS LAST, msg_id LIMIT $2
            ) AS message
            WHERE (SELECT count(*) FROM oldest) = $2
            ORDER BY nth LIMIT $2
         ), seen AS (
            SELECT *, true AS old, msg_id IN (SELECT msg_id FROM urgent) AS pressing FROM oldest
            UNION ALL
            SELECT *, false, true FROM urgent WHERE msg_id NOT IN (SELECT msg_id FROM oldest)
         )
         SELECT msg_id, message, headers,
            extract(epoch FROM clock_timestamp() - enqueued_at)::double precision, old, pressing
         FROM seen"
    )
}

impl Store {
    /// Looks at the steps that wait in a namespace for one of some handlers, and takes none: the oldest, so
    /// many at most; and if there may be more, as many of those with the largest priorities.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn waiting_steps(
        &self,
        namespace: &str,
        handlers: &[String],
        from: &Front,
        window: i64,
    ) -> Result<SeenWaiting, StoreError> {
        let queue = worker_queue(namespace)?;
        let (highest, lowest): (Vec<i16>, Vec<i16>) = bands(&from.priorities).into_iter().unzip();
        let rows = sqlx::query_as(sqlx::AssertSqlSafe(look(&queue)))
            .bind(handlers)
            .bind(window)
            .bind(from.message_id)
            .bind(highest)
            .bind(lowest)
            .fetch_all(&self.relaxed)
            .await;
        let rows: Vec<(i64, Value, Option<Value>, f64, bool, bool)> = match rows {
            // No template has been registered in the namespace: it has no queue yet.
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("42P01") => {
                Vec::new()
            }
            rows => rows?,
        };
        let more = i64::try_from(rows.len()).is_ok_and(|seen| seen >= window);
        let mut steps = Vec::with_capacity(rows.len());
        let (mut last_of_the_urgent, mut youngest) = (None, Duration::MAX);
        for (id, body, headers, waited, old, pressing) in rows {
            match WaitingStep::read(id, body, headers.as_ref()) {
                Ok(step) => {
                    let waited = Duration::try_from_secs_f64(waited).unwrap_or_default();
                    if old {
                        youngest = youngest.min(waited);
                    }
                    if pressing {
                        let place = (Reverse(step.priority), id, step.task_id);
                        last_of_the_urgent = last_of_the_urgent.max(Some(place));
                    }
                    steps.push(WaitingStep { waited, ..step });
                }
                Err(reason) => {
                    self.park_message(&queue, id, &reason).await?;
                }
            }
        }
        let beyond = last_of_the_urgent
            .filter(|_| more)
            .map(|(Reverse(priority), _, task_id)| Beyond { priority, task_id, waited: youngest });
        Ok(SeenWaiting { steps, beyond })
    }

    /// What waits for workers in a namespace, each count no higher than `at_most`.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn waits_for_workers(
        &self,
        namespace: &str,
        at_most: i64,
    ) -> Result<Backlog, StoreError> {
        let queue = worker_queue(namespace)?;
        // The name has been checked: it cannot be anything but a table of PGMQ.
        let sql = format!(
            "SELECT (SELECT count(*) FROM (
                    SELECT FROM pgmq.q_orchestration_ready_steps
                    WHERE message->>'namespace' = $2 LIMIT $1) AS ready),
                (SELECT count(*) FROM (SELECT FROM pgmq.q_{queue} LIMIT $1) AS queued),
                (SELECT count(*) FROM (
                    SELECT FROM held_steps WHERE namespace = $2 LIMIT $1) AS held),
                (SELECT coalesce(max(msg_id), 0) FROM pgmq.q_{queue})"
        );
        let counts = sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(at_most).bind(namespace);
        let (ready, queued, held, last) = counts.fetch_one(&self.relaxed).await?;
        Ok(Backlog { ready, queued, held, last })
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
        let waiting = || items.iter().map(|item| &item.waiting);
        let callables: Vec<String> = waiting().map(|step| step.callable.clone()).collect();
        let traces: Vec<String> = waiting().map(|step| step.traceparent.clone()).collect();
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
            actor,
            &callables,
            &traces,
            namespace
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
            has_checkpoint: row.has_checkpoint,
        });
        Ok((started.collect(), watched))
    }
}

/// The queue of a namespace, which templates have been registered in.
pub(crate) fn worker_queue(namespace: &str) -> Result<tasker_pgmq::Queue, StoreError> {
    tasker_pgmq::Queue::new(format!("worker_{namespace}_queue"))
        .map_err(|error| StoreError::Corrupt { table: "tasks", what: error.to_string() })
}

#[cfg(test)]
mod tests {
    use sqlx::AssertSqlSafe;
    use tasker_testing::TestDatabase;

    use super::*;
    use crate::Options;

    #[tokio::test]
    async fn a_look_enters_the_index_of_each_band_at_its_first_message_and_sorts_nothing() {
        let database = TestDatabase::fresh().await;
        let options = Options {
            url: database.url().to_owned(),
            max_connections: 1,
            acquire_timeout: Duration::from_secs(10),
            application_name: "looks".to_owned(),
        };
        let store = Store::connect(&options).await.unwrap();
        let mut line = store.relaxed.acquire().await.unwrap();
        let queue = worker_queue("looks").unwrap();
        let prepare = format!(
            "SELECT pgmq.create('{queue}'); SELECT order_queue_by_priority('{queue}');
             PREPARE look (text[], bigint, bigint, smallint[], smallint[]) AS {}",
            look(&queue)
        );
        sqlx::raw_sql(AssertSqlSafe(prepare)).execute(&mut *line).await.unwrap();
        let explain = "EXPLAIN (COSTS OFF) EXECUTE look (NULL, NULL, NULL, NULL, NULL)";
        let plan: Vec<String> = sqlx::query_scalar(explain).fetch_all(&mut *line).await.unwrap();
        let at = |what: &str| plan.iter().position(|line| line.contains(what));
        let by_priority = at("Index Scan using q_worker_looks_queue_by_priority");
        let entered = by_priority.map(|line| plan[line + 1].as_str()).unwrap_or_default();
        assert!(entered.contains("highest") && entered.contains("lowest"), "{plan:#?}");
        assert!(entered.contains("msg_id >= $3"), "{plan:#?}");
        assert_eq!(at("Sort"), None, "{plan:#?}");
    }

    #[test]
    fn bands_hold_every_priority_once_from_the_highest_on_and_known_ones_alone() {
        let edges = [i16::MIN, i16::MAX];
        for known in [&[][..], &[0], &[7, -3, 8, 7], &edges, &[i16::MIN, i16::MIN + 1, 0, i16::MAX]]
        {
            let bands = bands(known);
            let all: Vec<i16> =
                bands.iter().flat_map(|&(highest, lowest)| (lowest..=highest).rev()).collect();
            assert!(all.iter().copied().eq((i16::MIN..=i16::MAX).rev()), "{bands:?}");
            assert!(known.iter().all(|&known| bands.contains(&(known, known))), "{bands:?}");
        }
    }
}
