//! How far steps have come: what they go on from.

use std::collections::HashMap;

use uuid::Uuid;

use crate::{
    Store, StoreError,
    steps::{Held, Verdict, Verdicts},
};

/// How far a step has come.
#[derive(Debug, Clone)]
pub struct ToSave {
    /// Step and lease.
    pub held: Held,
    /// `tasker.v1.Checkpoint`, encoded.
    pub checkpoint: Vec<u8>,
}

impl Store {
    /// Saves how far steps have come, behind the fence. A verdict for each, in order. Each step at most
    /// once a batch.
    ///
    /// # Errors
    /// Nothing was done.
    pub async fn save_checkpoints(&self, items: &[ToSave]) -> Result<Vec<Verdict>, StoreError> {
        let task_ids: Vec<Uuid> = items.iter().map(|item| item.held.task_id).collect();
        let ordinals: Vec<i32> = items.iter().map(|item| item.held.ordinal).collect();
        let deliveries: Vec<Uuid> = items.iter().map(|item| item.held.delivery_id).collect();
        let checkpoints: Vec<&[u8]> = items.iter().map(|item| item.checkpoint.as_slice()).collect();
        let rows = sqlx::query_file!(
            "sql/step_checkpoints/save.sql",
            &task_ids,
            &ordinals,
            &deliveries,
            &checkpoints as &[&[u8]]
        )
        .fetch_all(&self.durable)
        .await?;
        let mut verdicts = Verdicts::of(items.len());
        for row in rows {
            verdicts.put(Some(row.position), Some(&row.verdict))?;
        }
        Ok(verdicts.0)
    }

    /// Reads what steps go on from, by delivery.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn checkpoints(
        &self,
        deliveries: &[Held],
    ) -> Result<HashMap<Uuid, Vec<u8>>, StoreError> {
        let task_ids: Vec<Uuid> = deliveries.iter().map(|held| held.task_id).collect();
        let ordinals: Vec<i32> = deliveries.iter().map(|held| held.ordinal).collect();
        let ids: Vec<Uuid> = deliveries.iter().map(|held| held.delivery_id).collect();
        let rows = sqlx::query!(
            r#"SELECT delivery_id AS "delivery_id!", checkpoint
            FROM unnest($1::uuid[], $2::integer[], $3::uuid[]) AS item (task_id, ordinal, delivery_id)
            JOIN step_checkpoints USING (task_id, ordinal)"#,
            &task_ids,
            &ordinals,
            &ids
        )
        .fetch_all(&self.relaxed)
        .await?;
        Ok(rows.into_iter().map(|row| (row.delivery_id, row.checkpoint)).collect())
    }
}
