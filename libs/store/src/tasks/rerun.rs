//! Tasks run again from a step on, as new tasks.

use std::collections::HashMap;

use tasker_domain::{Ordinal, StepState, TaskId, Template, identity, rerun};

use crate::{Payload, ReadyStep, Store, StoreError, messages::sent, tasks::end::said};

/// A task to run again.
#[derive(Debug, Clone)]
pub struct ToRerun {
    /// The older task.
    pub rerun_of: TaskId,
    /// The new one's id.
    pub task_id: TaskId,
    /// From which step on.
    pub from: Ordinal,
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

/// What became of it.
#[derive(Debug)]
pub enum Rerun {
    /// The new task is born. Messages sent: steps that may be enqueued now.
    Born(Vec<ReadyStep>),
    /// Its request had brought this task before.
    Repeated(TaskId),
    /// What the older task worked on, and came to, has been purged.
    Purged,
}

impl Store {
    /// Gives birth to a task that runs an older one of this template again. One at a time: an operator's work.
    ///
    /// # Errors
    /// Nothing was done. `Conflict`: the same request is worked off at the same moment; the next try finds
    /// its task.
    pub async fn rerun_task(
        &self,
        item: &ToRerun,
        template: &Template,
    ) -> Result<Rerun, StoreError> {
        let older = item.rerun_of.0;
        let repetition = item.repetition.as_ref().map(<[u8; 32]>::as_slice);
        let mut tx = self.hold_tasks(&[older]).await?;
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
        let rows = sqlx::query!(
            r#"SELECT ordinal, state::text AS "state!" FROM steps WHERE task_id = $1"#,
            older
        )
        .fetch_all(&mut *tx)
        .await?;
        let stood = rows.into_iter().map(|row| Ok((Ordinal(row.ordinal), parse(&row.state)?)));
        let stood: HashMap<Ordinal, StepState> = stood.collect::<Result<_, StoreError>>()?;
        let births = rerun::births(template, item.from, |ordinal| stood.get(&ordinal).copied());
        let ordinals: Vec<i32> = births.iter().map(|birth| birth.ordinal.0).collect();
        let kept: Vec<Option<&str>> =
            births.iter().map(|birth| Some(birth.kept?.as_str())).collect();
        let unmet: Vec<i32> = births.iter().map(|birth| birth.unmet_dependencies).collect();
        let context = item.context.as_ref();
        let from = template.step(item.from).map(|step| step.name.as_str()).unwrap_or_default();
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
            &kept as &[Option<&str>],
            &unmet,
            item.traceparent,
            item.tracestate,
            repetition,
            from,
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

fn parse(state: &str) -> Result<StepState, StoreError> {
    let corrupt = |what: String| StoreError::Corrupt { table: "steps", what };
    state.parse().map_err(|error| corrupt(format!("{error}")))
}
