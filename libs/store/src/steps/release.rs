//! Deliveries that were never begun go back.

use tasker_domain::SessionId;
use uuid::Uuid;

use crate::{Store, StoreError, steps::Held};

/// A delivery to take back.
#[derive(Debug, Clone)]
pub struct ToRelease {
    /// Step and lease.
    pub held: Held,
    /// Only if this session has it; `None`: whoever has it.
    pub session: Option<SessionId>,
    /// For people.
    pub reason: String,
}

impl Store {
    /// Puts steps back into their queues without costing an attempt. Does not wait for the disk.
    /// Returns the namespaces whose queue has got messages, and the tasks that are watched.
    ///
    /// # Errors
    /// Nothing was done.
    pub async fn release_steps(
        &self,
        items: &[ToRelease],
        actor: &str,
    ) -> Result<(Vec<String>, Vec<Uuid>), StoreError> {
        let task_ids: Vec<Uuid> = items.iter().map(|item| item.held.task_id).collect();
        let ordinals: Vec<i32> = items.iter().map(|item| item.held.ordinal).collect();
        let deliveries: Vec<Uuid> = items.iter().map(|item| item.held.delivery_id).collect();
        let reasons: Vec<String> = items.iter().map(|item| item.reason.clone()).collect();
        let sessions: Vec<Option<Uuid>> = items.iter().map(|item| Some(item.session?.0)).collect();
        let rows = sqlx::query_file!(
            "sql/steps/release.sql",
            &task_ids,
            &ordinals,
            &deliveries,
            &reasons,
            actor,
            &sessions as &[Option<Uuid>]
        )
        .fetch_all(&self.relaxed)
        .await?;
        let (mut queued, mut watched) = (Vec::new(), Vec::new());
        for row in rows {
            queued.extend(row.namespace);
            watched.extend(row.watched);
        }
        Ok((queued, watched))
    }
}
