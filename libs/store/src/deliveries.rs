//! What a delivery carries: the task's context, and the results of the step's dependencies.

use std::collections::{BTreeMap, HashMap};

use uuid::Uuid;

use crate::{Payload, Store, StoreError, steps::Held};

/// All that a worker needs beside what the template says.
#[derive(Debug, Clone, Default)]
pub struct Content {
    /// What the task was submitted with.
    pub context: Payload,
    /// As the submitter named it; may be empty.
    pub correlation_id: String,
    /// Results of the steps it depends on, by name.
    pub dependency_results: BTreeMap<String, Payload>,
}

impl Content {
    /// Whether the task's row was there: a context always says what it is.
    #[must_use]
    pub fn has_context(&self) -> bool {
        !self.context.content_type.is_empty()
    }
}

impl Store {
    /// Reads what deliveries carry, by delivery.
    ///
    /// # Errors
    /// The database is not available, or a row is corrupt.
    pub async fn delivery_contents(
        &self,
        held: &[Held],
    ) -> Result<HashMap<Uuid, Content>, StoreError> {
        let task_ids: Vec<Uuid> = held.iter().map(|held| held.task_id).collect();
        let ordinals: Vec<i32> = held.iter().map(|held| held.ordinal).collect();
        let mut line = self.relaxed_lines.take().await?;
        let rows = sqlx::query!(
            r#"SELECT position AS "position!", NULL AS name, content_type AS "content_type!",
                context AS "data!", metadata, correlation_id
            FROM unnest($1::uuid[]) WITH ORDINALITY AS item (task_id, position)
            JOIN task_details USING (task_id)
            UNION ALL
            SELECT position, steps.name, content_type, data, metadata, NULL
            FROM unnest($1::uuid[], $2::integer[]) WITH ORDINALITY AS item (task_id, child, position)
            JOIN tasks USING (task_id)
            JOIN template_dependencies USING (template_id, child)
            JOIN steps ON (steps.task_id, steps.ordinal) = (item.task_id, parent)
            JOIN step_results AS result ON (result.task_id, result.ordinal) = (item.task_id, parent)
            WHERE data IS NOT NULL"#,
            &task_ids,
            &ordinals
        )
        .fetch_all(&mut *line).await;
        let rows = line.done(rows)?;
        let mut contents: HashMap<Uuid, Content> = HashMap::with_capacity(held.len());
        for row in rows {
            let place = usize::try_from(row.position - 1).ok().and_then(|n| held.get(n));
            let Some(held) = place else { continue };
            let content = contents.entry(held.delivery_id).or_default();
            let payload =
                Payload::from_columns("step_results", row.content_type, row.data, row.metadata)?;
            match row.name {
                Some(name) => {
                    content.dependency_results.insert(name, payload);
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
