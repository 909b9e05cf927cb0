//! What deliveries carry of batches: what a worker works on, and what became of the workers that a step
//! has waited for.

use std::collections::{BTreeMap, HashMap};

use tasker_domain::Ordinal;
use uuid::Uuid;

use crate::{Payload, Store, StoreError, steps::Held};

/// What the worker of a batch works on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Which of its batches it is, from 1.
    pub batch: i32,
    /// As its plan gave it. None: there is nothing to do.
    pub cursor: Option<Payload>,
}

/// A step that has waited for the workers of a batch.
#[derive(Debug, Clone, Copy)]
pub struct Waiting {
    /// Step and lease.
    pub held: Held,
    /// The step of the template that the workers are runs of.
    pub declared: Ordinal,
    /// Where workers of batches may be: after all steps of the template.
    pub first: i32,
}

/// What became of workers, by their names; a failure is type, message and whether it was retryable.
pub type WorkerResults = BTreeMap<String, Result<Payload, (String, String, bool)>>;

impl Store {
    /// Reads what workers of batches work on, by delivery.
    ///
    /// # Errors
    /// The database is not available, or a row is corrupt.
    pub async fn batches(&self, workers: &[Held]) -> Result<HashMap<Uuid, Batch>, StoreError> {
        let task_ids: Vec<Uuid> = workers.iter().map(|held| held.task_id).collect();
        let ordinals: Vec<i32> = workers.iter().map(|held| held.ordinal).collect();
        let deliveries: Vec<Uuid> = workers.iter().map(|held| held.delivery_id).collect();
        let mut line = self.relaxed_lines.take().await?;
        let rows = sqlx::query!(
            r#"SELECT delivery_id AS "delivery_id!", batch, content_type, cursor, metadata
            FROM unnest($1::uuid[], $2::integer[], $3::uuid[]) AS item (task_id, ordinal, delivery_id)
            JOIN step_batches USING (task_id, ordinal)"#,
            &task_ids,
            &ordinals,
            &deliveries
        )
        .fetch_all(&mut *line)
        .await;
        let rows = line.done(rows)?;
        let mut batches = HashMap::with_capacity(workers.len());
        for row in rows {
            let cursor = match (row.content_type, row.cursor) {
                (Some(content_type), Some(data)) => {
                    Some(Payload::from_columns("step_batches", content_type, data, row.metadata)?)
                }
                _ => None,
            };
            batches.insert(row.delivery_id, Batch { batch: row.batch, cursor });
        }
        Ok(batches)
    }

    /// Reads what became of the workers that steps have waited for, by delivery.
    ///
    /// # Errors
    /// The database is not available, or a row is corrupt.
    pub async fn worker_results(
        &self,
        waiting: &[Waiting],
    ) -> Result<HashMap<Uuid, WorkerResults>, StoreError> {
        let task_ids: Vec<Uuid> = waiting.iter().map(|item| item.held.task_id).collect();
        let declared: Vec<i32> = waiting.iter().map(|item| item.declared.0).collect();
        let first: Vec<i32> = waiting.iter().map(|item| item.first).collect();
        let deliveries: Vec<Uuid> = waiting.iter().map(|item| item.held.delivery_id).collect();
        let mut line = self.relaxed_lines.take().await?;
        let rows = sqlx::query!(
            r#"SELECT item.delivery_id AS "delivery_id!", steps.name, content_type, data, result.metadata,
                error_type, error_message, retryable
            FROM unnest($1::uuid[], $2::integer[], $3::integer[], $4::uuid[])
                AS item (task_id, declared, first, delivery_id)
            JOIN steps ON steps.task_id = item.task_id
                AND steps.ordinal >= item.first AND steps.declared = item.declared
            JOIN step_results AS result
                ON (result.task_id, result.ordinal) = (steps.task_id, steps.ordinal)
            -- Not the old failure of one that was resolved by hand.
            WHERE data IS NOT NULL OR steps.state = 'error'"#,
            &task_ids,
            &declared,
            &first,
            &deliveries
        )
        .fetch_all(&mut *line)
        .await;
        let rows = line.done(rows)?;
        let mut results: HashMap<Uuid, WorkerResults> = HashMap::with_capacity(waiting.len());
        for row in rows {
            let result = match (row.content_type, row.data, row.error_type) {
                (Some(content_type), Some(data), _) => {
                    Ok(Payload::from_columns("step_results", content_type, data, row.metadata)?)
                }
                (_, _, error_type) => Err((
                    error_type.unwrap_or_default(),
                    row.error_message.unwrap_or_default(),
                    row.retryable.unwrap_or_default(),
                )),
            };
            results.entry(row.delivery_id).or_default().insert(row.name, result);
        }
        Ok(results)
    }
}
