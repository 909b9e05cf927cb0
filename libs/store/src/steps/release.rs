//! Deliveries that were never begun go back.

use uuid::Uuid;

use crate::{Store, StoreError, steps::Held};

/// A delivery to take back.
#[derive(Debug, Clone)]
pub struct ToRelease {
    /// Step and lease.
    pub held: Held,
    /// For people.
    pub reason: String,
}

impl Store {
    /// Puts steps back into their queues without costing an attempt. Does not wait for the disk.
    /// Returns the namespaces whose queue has got messages.
    ///
    /// # Errors
    /// Nothing was done.
    pub async fn release_steps(
        &self,
        items: &[ToRelease],
        actor: &str,
    ) -> Result<Vec<String>, StoreError> {
        let task_ids: Vec<Uuid> = items.iter().map(|item| item.held.task_id).collect();
        let ordinals: Vec<i32> = items.iter().map(|item| item.held.ordinal).collect();
        let deliveries: Vec<Uuid> = items.iter().map(|item| item.held.delivery_id).collect();
        let reasons: Vec<String> = items.iter().map(|item| item.reason.clone()).collect();
        let queued = sqlx::query_file!(
            "sql/steps/release.sql",
            &task_ids,
            &ordinals,
            &deliveries,
            &reasons,
            actor
        )
        .fetch_all(&self.relaxed)
        .await?;
        Ok(queued.into_iter().map(|row| row.namespace).collect())
    }
}
