//! What a delivery carries: the task's context, and results of steps before it.

use std::collections::{BTreeMap, HashMap};

use tasker_domain::Ordinal;
use uuid::Uuid;

use crate::{Batch, Payload, Store, StoreError, WorkerResults, steps::Held};

/// All that a worker needs beside what the template says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Content {
    /// What the task was submitted with.
    pub context: Payload,
    /// As the submitter named it; may be empty.
    pub correlation_id: String,
    /// Results of steps before it.
    pub dependency_results: BTreeMap<Ordinal, Payload>,
    /// Of the worker of a batch.
    pub batch: Option<Batch>,
    /// What became of workers of batches that it depends on.
    pub worker_results: WorkerResults,
}

impl Content {
    /// Whether the task's row was there: a context always says what it is.
    #[must_use]
    pub fn has_context(&self) -> bool {
        !self.context.content_type.is_empty()
    }
}

impl Store {
    /// Reads what deliveries carry, by delivery: the context of each one's task, and the results of the
    /// steps that are named beside it.
    ///
    /// # Errors
    /// The database is not available, or a row is corrupt.
    pub async fn delivery_contents(
        &self,
        deliveries: &[(Held, Vec<Ordinal>)],
    ) -> Result<HashMap<Uuid, Content>, StoreError> {
        let task_ids: Vec<Uuid> = deliveries.iter().map(|(held, _)| held.task_id).collect();
        // A row for each result: which delivery it is for, and which step it is of.
        let (mut position, mut parents) = (Vec::new(), Vec::new());
        for (place, (_, results)) in (1i64..).zip(deliveries) {
            position.extend(results.iter().map(|_| place));
            parents.extend(results.iter().map(|parent| parent.0));
        }
        let mut line = self.relaxed_lines.take().await?;
        let rows = sqlx::query!(
            r#"SELECT position AS "position!", NULL::integer AS ordinal, content_type AS "content_type!",
                context AS "data!", metadata, correlation_id
            FROM unnest($1::uuid[]) WITH ORDINALITY AS item (task_id, position)
            JOIN task_details USING (task_id)
            UNION ALL
            SELECT position, parent.ordinal, content_type, data, metadata, NULL
            FROM unnest($2::bigint[], $3::integer[]) AS parent (position, ordinal)
            JOIN step_results AS result
                ON (result.task_id, result.ordinal) = (($1::uuid[])[position], parent.ordinal)
            WHERE data IS NOT NULL"#,
            &task_ids,
            &position,
            &parents
        )
        .fetch_all(&mut *line).await;
        let rows = line.done(rows)?;
        let mut contents: HashMap<Uuid, Content> = HashMap::with_capacity(deliveries.len());
        for row in rows {
            let place = usize::try_from(row.position - 1).ok().and_then(|n| deliveries.get(n));
            let Some((held, _)) = place else { continue };
            let content = contents.entry(held.delivery_id).or_default();
            let payload =
                Payload::from_columns("step_results", row.content_type, row.data, row.metadata)?;
            match row.ordinal {
                Some(parent) => {
                    content.dependency_results.insert(Ordinal(parent), payload);
                }
                None => {
                    content.context = payload;
                    content.correlation_id = row.correlation_id.unwrap_or_default();
                }
            }
        }
        Ok(contents)
    }
}
