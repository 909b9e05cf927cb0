//! `task repair`, `task repair-all`: what has failed is reset or resolved.

use std::pin::pin;

use chrono::{DateTime, Utc};
use clap::ValueEnum;
use futures::TryStreamExt as _;
use tasker_api::time::timestamp;
use tasker_client::{
    Client, Operator,
    v1::{self, RepairTasksRequest, RepairTasksResponse, RepairedTask},
};
use tasker_domain::TaskState;

use crate::{operator::By, print, view};

/// What to do about failed steps.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Remedy {
    /// Run them again, with all their attempts.
    Reset,
    /// Let their dependants run without their results.
    Resolve,
}

impl From<Remedy> for v1::Remedy {
    fn from(remedy: Remedy) -> Self {
        match remedy {
            Remedy::Reset => Self::Reset,
            Remedy::Resolve => Self::Resolve,
        }
    }
}

/// Which tasks, and what to do.
#[derive(Debug, clap::Args)]
pub(crate) struct Many {
    /// What to do about their failed steps.
    remedy: Remedy,
    /// Only of templates in this namespace.
    #[arg(long, default_value = "", hide_default_value = true)]
    namespace: String,
    /// Only of templates of this name.
    #[arg(long, default_value = "", hide_default_value = true)]
    name: String,
    /// Only of templates of this version.
    #[arg(long = "template-version", default_value = "", hide_default_value = true)]
    version: String,
    /// Only in this state: blocked_by_failures or error; both if not given.
    #[arg(long = "state", value_name = "STATE", value_delimiter = ',')]
    states: Vec<TaskState>,
    /// Only those created after this time, as in 2026-01-31T12:00:00Z.
    #[arg(long, value_name = "TIME")]
    created_after: Option<DateTime<Utc>>,
    /// Only those created before this time.
    #[arg(long, value_name = "TIME")]
    created_before: Option<DateTime<Utc>>,
    /// Only with this correlation id.
    #[arg(long, default_value = "", hide_default_value = true)]
    correlation_id: String,
    /// At most so many, the newest.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(i32).range(1..=10_000))]
    limit: i32,
    /// Only show what would be done.
    #[arg(long)]
    preview: bool,
    #[command(flatten)]
    by: By,
}

impl From<Many> for RepairTasksRequest {
    fn from(many: Many) -> Self {
        let by = Operator::from(many.by);
        let states = many.states.into_iter().map(|state| v1::TaskState::from(state).into());
        Self {
            namespace: many.namespace,
            name: many.name,
            version: many.version,
            states: states.collect(),
            created_after: many.created_after.map(timestamp),
            created_before: many.created_before.map(timestamp),
            correlation_id: many.correlation_id,
            remedy: v1::Remedy::from(many.remedy).into(),
            max_tasks: many.limit,
            preview: many.preview,
            operator: by.name,
            reason: by.reason,
        }
    }
}

pub(super) async fn one(
    client: &Client,
    id: &str,
    remedy: Remedy,
    by: By,
    json: bool,
) -> anyhow::Result<()> {
    let repaired = client.repair_task(id, remedy.into(), &by.into()).await?;
    if json {
        return print::json(&view::Repaired::from(repaired));
    }
    let task = repaired.task.unwrap_or_default();
    super::show(&task)?;
    Ok(print::line(&format!("repaired  {}", repaired.step_names.join(", ")))?)
}

/// A line for each task, as it goes on.
pub(super) async fn many(client: &Client, many: Many, json: bool) -> anyhow::Result<()> {
    let mut told = pin!(client.repair_tasks(many.into()));
    let mut last = RepairTasksResponse::default();
    while let Some(mut response) = told.try_next().await? {
        for task in std::mem::take(&mut response.tasks) {
            if json {
                print::json(&view::RepairedTask::from(task))?;
            } else {
                print::line(&line(&task))?;
            }
        }
        last = response;
    }
    let more = if last.more { "; there are more" } else { "" };
    eprintln!("{} steps of {} tasks{more}", last.step_count, last.task_count);
    Ok(())
}

fn line(task: &RepairedTask) -> String {
    let what =
        if task.skipped.is_empty() { task.step_names.join(", ") } else { task.skipped.clone() };
    crate::names::printable(&format!("{}  {what}", task.task_id))
}
