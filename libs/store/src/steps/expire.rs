//! Leases whose workers are lost, or took too long.

use tasker_domain::SessionId;
use uuid::Uuid;

use crate::{Store, StoreError, steps::Held};

/// A lease that has ended.
#[derive(Debug, Clone)]
pub struct Expiry {
    /// Step and lease.
    pub held: Held,
    /// Only if this session has it, and has run out; `None`: whoever has it.
    pub session: Option<SessionId>,
    /// `LEASE_EXPIRED` or `STEP_TIMED_OUT`.
    pub error_type: &'static str,
    /// For people.
    pub error_message: String,
}

impl Store {
    /// Makes failures of lost leases, which result-processor then judges. Returns the deliveries that
    /// were still current, and the tasks that are watched.
    ///
    /// # Errors
    /// Nothing was done.
    pub async fn expire_leases(
        &self,
        items: &[Expiry],
        actor: &str,
    ) -> Result<(Vec<Uuid>, Vec<Uuid>), StoreError> {
        let task_ids: Vec<Uuid> = items.iter().map(|item| item.held.task_id).collect();
        let ordinals: Vec<i32> = items.iter().map(|item| item.held.ordinal).collect();
        let deliveries: Vec<Uuid> = items.iter().map(|item| item.held.delivery_id).collect();
        let types: Vec<String> = items.iter().map(|item| item.error_type.to_owned()).collect();
        let messages: Vec<String> = items.iter().map(|item| item.error_message.clone()).collect();
        let sessions: Vec<Option<Uuid>> = items.iter().map(|item| Some(item.session?.0)).collect();
        let rows = sqlx::query_file!(
            "sql/steps/expire.sql",
            &task_ids,
            &ordinals,
            &deliveries,
            &types,
            &messages,
            actor,
            &sessions as &[Option<Uuid>]
        )
        .fetch_all(&self.durable)
        .await?;
        let watched = rows.iter().filter(|row| row.watched).map(|row| row.task_id).collect();
        Ok((rows.iter().map(|row| row.delivery_id).collect(), watched))
    }
}
