//! Tasks are born.

use tasker_domain::{TaskId, identity};
use uuid::Uuid;

use crate::{Finalization, Payload, ReadyStep, Store, StoreError, messages::sent};

/// A task to be born.
#[derive(Debug, Clone)]
pub struct NewTask {
    /// Of the queue, if it was requested by message: it is born only if the message is still there.
    pub message_id: Option<i64>,
    /// Its id.
    pub task_id: TaskId,
    /// What it is made from.
    pub template_id: Uuid,
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
    /// Where its trace begins; may be empty.
    pub traceparent: String,
    /// May be empty.
    pub tracestate: String,
    /// What no other task may share with it.
    pub identities: Vec<identity::Key>,
}

/// What came of a batch of births.
#[derive(Debug, Default)]
pub struct Born {
    /// Messages sent: steps that may be enqueued now.
    pub ready: Vec<ReadyStep>,
    /// Messages sent: tasks without steps.
    pub finalizations: Vec<Finalization>,
}

impl Store {
    /// Gives birth to tasks with all their steps.
    ///
    /// # Errors
    /// Nothing was done. `Conflict`: a task with one of the identities has been born meanwhile.
    pub async fn create_tasks(&self, items: &[NewTask], actor: &str) -> Result<Born, StoreError> {
        fn column<'a, T>(items: &'a [NewTask], field: impl Fn(&'a NewTask) -> T) -> Vec<T> {
            items.iter().map(field).collect()
        }
        let identities =
            || items.iter().flat_map(|item| item.identities.iter().map(move |key| (key, item)));
        let keys: Vec<Vec<u8>> = identities().map(|(key, _)| key.to_vec()).collect();
        let key_tasks: Vec<Uuid> = identities().map(|(_, item)| item.task_id.0).collect();
        let mut line = self.durable_lines.take().await?;
        let rows = sqlx::query_file!(
            "sql/tasks/create.sql",
            &column(items, |item| item.message_id) as &[Option<i64>],
            &column(items, |item| item.task_id.0),
            &column(items, |item| item.template_id),
            &column(items, |item| item.priority),
            &column(items, |item| item.context.content_type.clone()),
            &column(items, |item| item.context.data.as_ref()) as &[&[u8]],
            &column(items, |item| item.context.metadata_column()) as &[Option<serde_json::Value>],
            &column(items, |item| item.idempotency_key.clone()),
            &column(items, |item| item.correlation_id.clone()),
            &column(items, |item| item.requested_by.clone()),
            &column(items, |item| item.reason.clone()),
            &column(items, |item| item.traceparent.clone()),
            &column(items, |item| item.tracestate.clone()),
            &keys,
            &key_tasks,
            actor
        )
        .fetch_all(&mut *line)
        .await;
        let rows = line.done(rows)?;
        let mut born = Born::default();
        for row in rows {
            let (id, message, headers) = (Some(row.message_id), Some(row.message), row.headers);
            match row.kind.as_str() {
                "ready" => born.ready.push(sent(id, message, headers.as_ref())?),
                _ => born.finalizations.push(sent(id, message, headers.as_ref())?),
            }
        }
        Ok(born)
    }

    /// Which of these identities tasks have already, and which tasks.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn tasks_by_identity(
        &self,
        keys: &[identity::Key],
    ) -> Result<Vec<(identity::Key, TaskId)>, StoreError> {
        let keys: Vec<Vec<u8>> = keys.iter().map(|key| key.to_vec()).collect();
        let mut line = self.durable_lines.take().await?;
        let rows = sqlx::query!(
            "SELECT identity, task_id FROM task_identities WHERE identity = ANY($1::bytea[])",
            &keys
        )
        .fetch_all(&mut *line)
        .await;
        let rows = line.done(rows)?;
        let corrupt = || StoreError::Corrupt {
            table: "task_identities",
            what: "an identity that is not 32 bytes long".to_owned(),
        };
        rows.into_iter()
            .map(|row| Ok((row.identity.try_into().map_err(|_| corrupt())?, TaskId(row.task_id))))
            .collect()
    }
}
