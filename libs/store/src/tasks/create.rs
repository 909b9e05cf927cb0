//! Tasks are born.

use std::{collections::HashMap, time::Duration};

use tasker_domain::{TaskId, identity};
use uuid::Uuid;

use crate::{
    Finalization, Held, Payload, Place, ReadyStep, Started, Store, StoreError,
    limited_tasks::millis, messages::sent, steps::complete::as_read,
};

/// A task to be born.
#[derive(Debug, Clone)]
pub struct NewTask {
    /// Of the queue, if it was requested by message: it is born only if the message is still there.
    pub message_id: Option<i64>,
    /// Its id.
    pub task_id: TaskId,
    /// What it is made from.
    pub template_id: Uuid,
    /// Whether the template has to be the newest of its name.
    pub newest: bool,
    /// How many steps the template has.
    pub steps: usize,
    /// What repeats of its request share.
    pub repetition: Option<identity::Key>,
    /// What makes another request the same task, by the template's strategy.
    pub identity: Option<identity::Key>,
    /// −100 to 100; larger goes first.
    pub priority: i16,
    /// What its steps work on.
    pub context: Payload,
    /// As the caller named it; may be empty.
    pub idempotency_key: String,
    /// May be empty.
    pub correlation_id: String,
    /// May be empty.
    pub requested_by: String,
    /// May be empty.
    pub reason: String,
    /// After how long to look whether it nears a limit of its template; `None`: it has none.
    pub look_after: Option<Duration>,
    /// Where its trace begins; may be empty.
    pub traceparent: String,
    /// May be empty.
    pub tracestate: String,
}

/// What came of a batch of births. A task that is not among the unborn is born.
#[derive(Debug, Default)]
pub struct Born {
    /// First steps that have begun in the places kept for them.
    pub started: Vec<Started>,
    /// Messages sent: steps that may be enqueued now.
    pub ready: Vec<ReadyStep>,
    /// Messages sent: tasks without steps.
    pub finalizations: Vec<Finalization>,
    /// The tasks that are not born, and why.
    pub unborn: Vec<(TaskId, Unborn)>,
}

/// Why a task is not born.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unborn {
    /// Its request had brought this task before. Its message, if it came by one, is taken off the queue.
    Repeated(TaskId),
    /// Another request had brought this task, which is the same.
    Exists(TaskId),
    /// Its template is not the newest, as it has to be, or is not there: find it anew.
    Outdated,
    /// Its message is no longer in the queue, or somebody else is at it.
    Gone,
}

impl Store {
    /// The tasks that requests have brought, of those that have.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn tasks_of_requests(
        &self,
        repetitions: &[identity::Key],
    ) -> Result<HashMap<identity::Key, TaskId>, StoreError> {
        let keys: Vec<Vec<u8>> = repetitions.iter().map(|key| key.to_vec()).collect();
        let known = sqlx::query!(
            "SELECT identity, task_id FROM task_identities WHERE identity = ANY($1)",
            &keys
        )
        .fetch_all(&self.durable)
        .await?;
        let known = known.into_iter().map(|row| {
            let key = identity::Key::try_from(row.identity);
            let corrupt = |_| StoreError::Corrupt {
                table: "task_identities",
                what: "a key of another length".to_owned(),
            };
            Ok((key.map_err(corrupt)?, TaskId(row.task_id)))
        });
        known.collect()
    }

    /// Gives birth to tasks with all their steps, once for each repetition and identity: no two items
    /// may share one.
    ///
    /// # Errors
    /// Nothing was done. `Conflict`: a task with one of the keys is born at the same moment; the next
    /// try finds it.
    pub async fn create_tasks<'a>(
        &self,
        items: impl IntoIterator<Item = &'a NewTask>,
        actor: &str,
    ) -> Result<Born, StoreError> {
        self.create_tasks_in_places(items, &HashMap::new(), actor).await
    }

    /// The same. First steps begin at once where `places` are kept for them, by their tasks.
    ///
    /// # Errors
    /// As above.
    pub async fn create_tasks_in_places<'a>(
        &self,
        items: impl IntoIterator<Item = &'a NewTask>,
        places: &HashMap<Uuid, Vec<Place>>,
        actor: &str,
    ) -> Result<Born, StoreError> {
        fn column<'a, T>(items: &[&'a NewTask], field: impl Fn(&'a NewTask) -> T) -> Vec<T> {
            items.iter().copied().map(field).collect()
        }
        let items: Vec<&NewTask> = items.into_iter().collect();
        let items = items.as_slice();
        let mut line = self.durable_lines.take().await?;
        let rows = sqlx::query_file!(
            "sql/tasks/create.sql",
            &column(items, |item| item.message_id) as &[Option<i64>],
            &column(items, |item| item.task_id.0),
            &column(items, |item| item.template_id),
            &column(items, |item| item.newest),
            &column(items, |item| item.repetition.as_ref().map(<[u8; 32]>::as_slice))
                as &[Option<&[u8]>],
            &column(items, |item| item.identity.as_ref().map(<[u8; 32]>::as_slice))
                as &[Option<&[u8]>],
            &column(items, |item| item.priority),
            &column(items, |item| item.context.content_type.as_str()) as &[&str],
            &column(items, |item| item.context.data.as_ref()) as &[&[u8]],
            &column(items, |item| item.context.metadata_column()) as &[Option<serde_json::Value>],
            &column(items, |item| item.idempotency_key.as_str()) as &[&str],
            &column(items, |item| item.correlation_id.as_str()) as &[&str],
            &column(items, |item| item.requested_by.as_str()) as &[&str],
            &column(items, |item| item.reason.as_str()) as &[&str],
            &column(items, |item| item.traceparent.as_str()) as &[&str],
            &column(items, |item| item.tracestate.as_str()) as &[&str],
            actor,
            &column(items, |item| item.look_after.map(millis)) as &[Option<i64>],
            &column(items, |item| places.get(&item.task_id.0).and_then(|places| as_read(places)))
                as &[Option<serde_json::Value>]
        )
        .fetch_all(&mut *line)
        .await;
        let rows = line.done(rows)?;
        let mut born = Born::default();
        for row in rows {
            match row.kind.as_str() {
                "ready" => {
                    born.ready.push(sent(row.message_id, row.message, row.headers.as_ref())?);
                }
                "finalization" => {
                    let message = sent(row.message_id, row.message, row.headers.as_ref())?;
                    born.finalizations.push(message);
                }
                "started" => {
                    let (Some(task_id), Some(ordinal), Some(delivery_id)) =
                        (row.task_id, row.ordinal, row.delivery_id)
                    else {
                        continue;
                    };
                    born.started.push(Started {
                        held: Held { task_id, ordinal, delivery_id },
                        name: row.name.unwrap_or_default(),
                        attempt: 1,
                        max_attempts: row.max_attempts.unwrap_or_default(),
                        has_checkpoint: false,
                    });
                }
                verdict => born.unborn.push(unborn(verdict, row.task_id, row.known)?),
            }
        }
        Ok(born)
    }

    /// Takes messages off the queue of requests that turned out to be repeats of others.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn drop_requests(&self, message_ids: &[i64]) -> Result<(), StoreError> {
        let mut line = self.durable_lines.take().await?;
        let done = sqlx::query!(
            "DELETE FROM pgmq.q_orchestration_task_requests WHERE msg_id = ANY($1)",
            message_ids
        )
        .execute(&mut *line)
        .await;
        line.done(done)?;
        Ok(())
    }
}

fn unborn(
    verdict: &str,
    task_id: Option<Uuid>,
    known: Option<Uuid>,
) -> Result<(TaskId, Unborn), StoreError> {
    let why = match (verdict, known.map(TaskId)) {
        ("repeated", Some(known)) => Some(Unborn::Repeated(known)),
        ("exists", Some(known)) => Some(Unborn::Exists(known)),
        ("outdated", _) => Some(Unborn::Outdated),
        ("gone", _) => Some(Unborn::Gone),
        _ => None,
    };
    task_id.map(TaskId).zip(why).ok_or_else(|| StoreError::Corrupt {
        table: "task_identities",
        what: format!("a task is {verdict}, and nobody knows as which"),
    })
}
