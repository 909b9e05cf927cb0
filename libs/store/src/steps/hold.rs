//! Steps with limits that were given back wait for their limits again.

use serde_json::{Value, json};
use tasker_domain::usage::Limited;

use crate::{Store, StoreError, WaitingStep, steps::start::worker_queue};

/// A step in a worker queue that has limits.
#[derive(Debug, Clone)]
pub struct ToHold {
    /// The message that says it waits.
    pub waiting: WaitingStep,
    /// The first of its limits.
    pub first: Limited,
    /// The values of the keys of all, in their order.
    pub values: Vec<String>,
}

impl Store {
    /// Takes steps from a worker queue, to be held by their limits. Does not wait for the disk. Says how many
    /// still waited.
    ///
    /// # Errors
    /// Nothing was done.
    pub async fn hold_steps(&self, namespace: &str, items: &[ToHold]) -> Result<i64, StoreError> {
        let queue = worker_queue(namespace)?;
        let waiting = || items.iter().map(|item| &item.waiting);
        let values: Vec<Value> = items.iter().map(|item| json!(item.values)).collect();
        let held = sqlx::query_file_scalar!(
            "sql/steps/hold.sql",
            queue.name(),
            &waiting().map(|step| step.message_id).collect::<Vec<_>>(),
            &waiting().map(|step| step.task_id).collect::<Vec<_>>(),
            &waiting().map(|step| step.ordinal).collect::<Vec<_>>(),
            &waiting().map(|step| step.callable.clone()).collect::<Vec<_>>(),
            &waiting().map(|step| step.traceparent.clone()).collect::<Vec<_>>(),
            &items.iter().map(|item| item.first.name.clone()).collect::<Vec<_>>(),
            &items.iter().map(|item| item.first.value.clone()).collect::<Vec<_>>(),
            &values,
            namespace
        )
        .fetch_one(&self.relaxed)
        .await?;
        Ok(held)
    }
}
