//! Steps come into being by what others have decided or planned.

use std::collections::HashMap;

use bytes::Bytes;
use serde_json::Value;
use sqlx::PgConnection;
use tasker_domain::{
    Ordinal,
    expand::{Birth, Present},
};
use uuid::Uuid;

use crate::{Payload, ReadyStep, Settlement, StoreError, messages::sent};

/// What exists in a task.
#[derive(Debug, Clone, Default)]
pub struct Standing {
    /// Its steps.
    pub steps: Vec<Present>,
    /// What decisions and plans have said, and was taken; as the contract encodes it.
    pub said: HashMap<Ordinal, Vec<u8>>,
}

/// What comes into being by one result.
#[derive(Debug, Clone)]
pub struct ToExpand {
    /// Whose step's it is.
    pub task_id: Uuid,
    /// Which step's.
    pub ordinal: i32,
    /// What the result says, as the contract encodes it.
    pub said: Bytes,
    /// The steps.
    pub births: Vec<NewStep>,
    /// Of the span that judges it.
    pub traceparent: String,
}

/// A step that comes into being.
#[derive(Debug, Clone)]
pub struct NewStep {
    /// Where, and what it waits for.
    pub birth: Birth,
    /// What the worker of a batch works on.
    pub cursor: Option<Payload>,
}

impl Settlement {
    /// What exists in tasks that are locked.
    ///
    /// # Errors
    /// The transaction has failed, or a row is corrupt.
    pub async fn standing(
        &mut self,
        tasks: &[Uuid],
    ) -> Result<HashMap<Uuid, Standing>, StoreError> {
        // By scalar queries: each is asked only where there is something to find, and by its key.
        let rows = sqlx::query!(
            r#"SELECT task_id, ordinal, declared, state::text AS "state!",
                CASE WHEN declared IS NOT NULL THEN (
                    SELECT passed_over FROM step_batches AS batch
                    WHERE (batch.task_id, batch.ordinal) = (steps.task_id, steps.ordinal)
                ) ELSE false END AS "passed_over!",
                CASE WHEN declared IS NULL AND NOT plain AND state = 'complete' THEN (
                    SELECT said FROM step_expansions AS expansion
                    WHERE (expansion.task_id, expansion.ordinal) = (steps.task_id, steps.ordinal) AND taken
                ) END AS said
            FROM steps WHERE task_id = ANY($1)"#,
            tasks
        )
        .fetch_all(&mut *self.transaction)
        .await?;
        let corrupt = |what: String| StoreError::Corrupt { table: "steps", what };
        let mut standing: HashMap<Uuid, Standing> = HashMap::new();
        for row in rows {
            let of_task = standing.entry(row.task_id).or_default();
            let state = row.state.parse().map_err(|error| corrupt(format!("{error}")))?;
            let (ordinal, declared) = (Ordinal(row.ordinal), row.declared.map(Ordinal));
            of_task.steps.push(Present::new(ordinal, declared, state, row.passed_over));
            of_task.said.extend(row.said.map(|said| (ordinal, said)));
        }
        Ok(standing)
    }

    /// What results that were queued say of what comes into being by them, in order.
    ///
    /// # Errors
    /// The transaction has failed.
    pub async fn queued_said(
        &mut self,
        steps: &[(Uuid, i32)],
    ) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        let (task_ids, ordinals): (Vec<Uuid>, Vec<i32>) = steps.iter().copied().unzip();
        let said = sqlx::query_scalar!(
            "SELECT (
                SELECT said FROM step_expansions AS expansion
                WHERE (expansion.task_id, expansion.ordinal) = (item.task_id, item.ordinal)
            ) FROM unnest($1::uuid[], $2::integer[]) WITH ORDINALITY AS item (task_id, ordinal, position)
            ORDER BY position",
            &task_ids,
            &ordinals
        )
        .fetch_all(&mut *self.transaction)
        .await?;
        Ok(said)
    }

    /// Brings steps into being, before the results are taken that say so. Returns the messages sent.
    ///
    /// # Errors
    /// The transaction has failed.
    pub async fn expand(&mut self, items: &[ToExpand]) -> Result<Vec<ReadyStep>, StoreError> {
        expand(&mut self.transaction, items, true).await
    }
}

/// The same, in any transaction that holds the tasks. `counted`: nobody counts them anew after it.
pub(crate) async fn expand(
    connection: &mut PgConnection,
    items: &[ToExpand],
    counted: bool,
) -> Result<Vec<ReadyStep>, StoreError> {
    if items.is_empty() {
        return Ok(Vec::new());
    }
    let births = || items.iter().flat_map(|item| item.births.iter().map(move |new| (item, new)));
    let cursor = |(_, new): (&ToExpand, &NewStep)| new.cursor.clone();
    let batch = |new: &NewStep| Some(new.birth.batch?.cast_signed());
    let rows = sqlx::query_file!(
        "sql/steps/expand.sql",
        &births().map(|(item, _)| item.task_id).collect::<Vec<_>>(),
        &births().map(|(_, new)| new.birth.ordinal.0).collect::<Vec<_>>(),
        &births().map(|(_, new)| new.birth.declared.0).collect::<Vec<_>>(),
        &births().map(|(_, new)| new.birth.unmet.cast_signed()).collect::<Vec<_>>(),
        &births().map(|(_, new)| batch(new)).collect::<Vec<_>>() as &[Option<i32>],
        &births().map(|new| Some(cursor(new)?.content_type)).collect::<Vec<_>>()
            as &[Option<String>],
        &births().map(|new| Some(cursor(new)?.data.to_vec())).collect::<Vec<_>>()
            as &[Option<Vec<u8>>],
        &births().map(|new| cursor(new)?.metadata_column()).collect::<Vec<_>>()
            as &[Option<Value>],
        &births().map(|(item, _)| item.traceparent.clone()).collect::<Vec<_>>(),
        &items.iter().map(|item| item.task_id).collect::<Vec<_>>(),
        &items.iter().map(|item| item.ordinal).collect::<Vec<_>>(),
        &items.iter().map(|item| item.said.to_vec()).collect::<Vec<_>>(),
        counted
    )
    .fetch_all(connection)
    .await?;
    let ready = rows.into_iter();
    ready.map(|row| sent(Some(row.message_id), Some(row.message), row.headers.as_ref())).collect()
}
