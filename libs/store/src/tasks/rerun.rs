//! Tasks run again from a step on, as new tasks.

use std::collections::HashMap;

use sqlx::{Postgres, Transaction};
use tasker_domain::{
    Ordinal, StepState, TaskId, identity,
    rerun::{Birth, Stood},
};
use uuid::Uuid;

use crate::{Payload, ReadyStep, Store, StoreError, messages::sent, tasks::end::said};

/// A task to run again.
#[derive(Debug, Clone)]
pub struct ToRerun {
    /// The older task.
    pub rerun_of: TaskId,
    /// The new one's id.
    pub task_id: TaskId,
    /// From which of its steps on, by name.
    pub from: String,
    /// What its steps work on; `None`: what the older's did.
    pub context: Option<Payload>,
    /// What repeats of its request share.
    pub repetition: Option<identity::Key>,
    /// Who asks for it.
    pub requested_by: String,
    /// Who is named in the history.
    pub actor: String,
    /// Why; may be empty.
    pub reason: String,
    /// Where its trace begins; may be empty.
    pub traceparent: String,
    /// May be empty.
    pub tracestate: String,
}

/// What there is of an older task.
#[derive(Debug)]
pub struct Older {
    /// The step that it runs again from.
    pub from: Ordinal,
    /// All steps.
    pub steps: Vec<Stood>,
    /// What decisions and plans have said, and was taken; as the contract encodes it.
    pub said: HashMap<Ordinal, Vec<u8>>,
}

/// What became of it.
#[derive(Debug)]
pub enum Rerun {
    /// The new task is born. Messages sent: steps that may be enqueued now.
    Born(Vec<ReadyStep>),
    /// Its request had brought this task before.
    Repeated(TaskId),
    /// What the older task worked on, and came to, has been purged.
    Purged,
    /// The older task has no such step.
    NoStep,
}

impl Store {
    /// Gives birth to a task that runs an older one again, with the steps that `births` finds. One at a time:
    /// an operator's work.
    ///
    /// # Errors
    /// Nothing was done. `Conflict`: the same request is worked off at the same moment; the next try finds
    /// its task.
    pub async fn rerun_task(
        &self,
        item: &ToRerun,
        births: impl Fn(&Older) -> Result<Vec<Birth>, StoreError>,
    ) -> Result<Rerun, StoreError> {
        let older = item.rerun_of.0;
        let repetition = item.repetition.as_ref().map(<[u8; 32]>::as_slice);
        let mut tx = self.hold_tasks(&[older]).await?;
        let Some(found) = read(&mut tx, older, &item.from).await? else { return Ok(Rerun::NoStep) };
        let known = sqlx::query_scalar!(
            "SELECT task_id FROM task_identities WHERE identity = $1",
            repetition
        )
        .fetch_optional(&mut *tx)
        .await?;
        if let Some(known) = known {
            return Ok(Rerun::Repeated(TaskId(known)));
        }
        let purged = sqlx::query_scalar!(
            r#"SELECT content_type = '' AS "purged!" FROM task_details WHERE task_id = $1"#,
            older
        )
        .fetch_optional(&mut *tx)
        .await?;
        if purged == Some(true) {
            return Ok(Rerun::Purged);
        }
        let births = births(&found)?;
        let ordinals: Vec<i32> = births.iter().map(|birth| birth.ordinal.0).collect();
        let declared: Vec<i32> = births.iter().map(|birth| birth.declared.0).collect();
        let kept: Vec<Option<&str>> =
            births.iter().map(|birth| Some(birth.kept?.as_str())).collect();
        let unmet: Vec<i32> = births.iter().map(|birth| birth.unmet.cast_signed()).collect();
        let context = item.context.as_ref();
        let rows = sqlx::query_file!(
            "sql/tasks/rerun.sql",
            older,
            item.task_id.0,
            context.map(|context| context.content_type.as_str()),
            context.map(|context| context.data.as_ref()),
            context.and_then(Payload::metadata_column),
            item.requested_by,
            said(&item.reason),
            &ordinals,
            &declared,
            &kept as &[Option<&str>],
            &unmet,
            item.traceparent,
            item.tracestate,
            repetition,
            item.from,
            item.actor
        )
        .fetch_all(&mut *tx)
        .await?;
        tx.commit().await?;
        let messages = rows
            .into_iter()
            .map(|row| sent(Some(row.message_id), row.message, row.headers.as_ref()));
        messages.collect::<Result<_, _>>().map(Rerun::Born)
    }
}

/// Reads a task that is held. None if it has no step of this name.
async fn read(
    tx: &mut Transaction<'static, Postgres>,
    task: Uuid,
    from: &str,
) -> Result<Option<Older>, StoreError> {
    // By scalar queries: each is asked only where there is something to find, and by its key.
    let rows = sqlx::query!(
        r#"SELECT ordinal, declared, name, state::text AS "state!",
            CASE WHEN declared IS NOT NULL AND state = 'error' THEN (
                SELECT passed_over FROM step_batches AS batch
                WHERE (batch.task_id, batch.ordinal) = (steps.task_id, steps.ordinal)
            ) ELSE false END AS "passed_over?",
            CASE WHEN declared IS NULL AND NOT plain AND state = 'complete' THEN (
                SELECT said FROM step_expansions AS expansion
                WHERE (expansion.task_id, expansion.ordinal) = (steps.task_id, steps.ordinal) AND taken
            ) END AS said
        FROM steps WHERE task_id = $1"#,
        task
    )
    .fetch_all(&mut **tx)
    .await?;
    let mut named = None;
    let mut steps = Vec::with_capacity(rows.len());
    let mut said = HashMap::new();
    for row in rows {
        let ordinal = Ordinal(row.ordinal);
        if row.name == from {
            named = Some(ordinal);
        }
        steps.push(Stood {
            ordinal,
            declared: row.declared.map(Ordinal),
            state: parse(&row.state)?,
            passed_over: row.passed_over.unwrap_or(false),
        });
        said.extend(row.said.map(|said| (ordinal, said)));
    }
    Ok(named.map(|from| Older { from, steps, said }))
}

fn parse(state: &str) -> Result<StepState, StoreError> {
    let corrupt = |what: String| StoreError::Corrupt { table: "steps", what };
    state.parse().map_err(|error| corrupt(format!("{error}")))
}
