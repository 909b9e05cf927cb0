//! Ready steps go to a worker, or to its queue.

use std::collections::HashMap;

use serde_json::{Value, json};
use tasker_domain::usage::Limited;
use uuid::Uuid;

use crate::{ReadyStep, Store, StoreError, steps::Held, steps::start::Started};

/// A ready step, and whom it goes to.
#[derive(Debug, Clone)]
pub struct ToEnqueue {
    /// The message that says it is ready.
    pub ready: ReadyStep,
    /// A connected worker with credit: delivery, session and how long the attempt may take, in ms.
    pub to: Option<(Uuid, Uuid, i64)>,
    /// Of the span that enqueues it.
    pub traceparent: String,
    /// Whose workers run it.
    pub queue: String,
    /// What a worker must have registered.
    pub callable: String,
    /// The first of its limits, and the values of the keys of all: it is held, and goes to nobody.
    pub held_to: Option<(Limited, Vec<String>)>,
}

/// What came of a batch of ready steps.
#[derive(Debug, Default)]
pub struct Enqueued {
    /// Those that are at a worker now. A match that is not among them came too late.
    pub started: Vec<Started>,
    /// Namespaces whose worker queue has got messages.
    pub queued: Vec<String>,
    /// Tasks that moved and are watched.
    pub watched: Vec<Uuid>,
}

impl Store {
    /// Puts ready steps into their worker queues, or at a worker at once. Does not wait for the disk.
    ///
    /// # Errors
    /// Nothing was done.
    pub async fn enqueue_steps(
        &self,
        items: &[ToEnqueue],
        actor: &str,
    ) -> Result<Enqueued, StoreError> {
        let ready = || items.iter().map(|item| &item.ready);
        let message_ids: Vec<i64> = ready().map(|ready| ready.message_id).collect();
        let task_ids: Vec<Uuid> = ready().map(|ready| ready.task_id).collect();
        let ordinals: Vec<i32> = ready().map(|ready| ready.ordinal).collect();
        let deliveries: Vec<Option<Uuid>> = items.iter().map(|item| Some(item.to?.0)).collect();
        let sessions: Vec<Option<Uuid>> = items.iter().map(|item| Some(item.to?.1)).collect();
        let timeouts: Vec<Option<i64>> = items.iter().map(|item| Some(item.to?.2)).collect();
        let traces: Vec<String> = items.iter().map(|item| item.traceparent.clone()).collect();
        let queues: Vec<String> = items.iter().map(|item| item.queue.clone()).collect();
        let callables: Vec<String> = items.iter().map(|item| item.callable.clone()).collect();
        let limits = || items.iter().map(|item| item.held_to.as_ref());
        let limit_names: Vec<Option<&str>> =
            limits().map(|held| held.map(|(first, _)| first.name.as_str())).collect();
        let limit_values: Vec<Option<&str>> =
            limits().map(|held| held.map(|(first, _)| first.value.as_str())).collect();
        let all_values: Vec<Option<Value>> =
            limits().map(|held| held.map(|(_, values)| json!(values))).collect();
        let mut line = self.relaxed_lines.take().await?;
        let rows = sqlx::query_file!(
            "sql/steps/enqueue.sql",
            &message_ids,
            &task_ids,
            &ordinals,
            &deliveries as &[Option<Uuid>],
            &sessions as &[Option<Uuid>],
            &timeouts as &[Option<i64>],
            &traces,
            actor,
            &queues,
            &callables,
            &limit_names as &[Option<&str>],
            &limit_values as &[Option<&str>],
            &all_values as &[Option<Value>]
        )
        .fetch_all(&mut *line)
        .await;
        let rows = line.done(rows)?;

        let matched: HashMap<Uuid, &ToEnqueue> =
            items.iter().filter_map(|item| Some((item.to?.0, item))).collect();
        let mut done = Enqueued::default();
        for row in rows {
            match (row.kind.as_str(), row.delivery_id, row.task_id, row.namespace) {
                ("moved", Some(delivery_id), Some(task_id), _) => {
                    if let (
                        Some(ordinal),
                        Some(name),
                        Some(attempt),
                        Some(max_attempts),
                        Some(has_checkpoint),
                        true,
                    ) = (
                        row.ordinal,
                        row.name,
                        row.attempt,
                        row.max_attempts,
                        row.has_checkpoint,
                        matched.contains_key(&delivery_id),
                    ) {
                        let held = Held { task_id, ordinal, delivery_id };
                        done.started.push(Started {
                            held,
                            name,
                            attempt,
                            max_attempts,
                            has_checkpoint,
                        });
                    }
                }
                ("queued", _, _, Some(namespace)) => done.queued.push(namespace),
                ("watched", _, Some(task_id), _) => done.watched.push(task_id),
                _ => {}
            }
        }
        Ok(done)
    }

    /// Reads ready steps whose message nobody has taken, and hides them from others for a while.
    /// What cannot be read is parked with the reason.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn read_ready_steps(&self, count: i32) -> Result<Vec<ReadyStep>, StoreError> {
        self.read_queue("orchestration_ready_steps", count).await
    }
}
