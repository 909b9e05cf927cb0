//! `task list`: which tasks, and how many.

use std::num::NonZeroUsize;

use anyhow::anyhow;
use chrono::{DateTime, Utc};
use futures::StreamExt as _;
use tasker_api::time::timestamp;
use tasker_client::{
    Client,
    v1::{self, ListTasksRequest, Task},
};
use tasker_domain::TaskState;

use crate::{listed, names, view};

/// The most that the mesh gives at once.
const LARGEST_PAGE: usize = 1000;

/// Which tasks.
#[derive(Debug, clap::Args)]
pub(crate) struct Filter {
    /// Only of templates in this namespace.
    #[arg(long, default_value = "", hide_default_value = true)]
    namespace: String,
    /// Only of templates of this name.
    #[arg(long, default_value = "", hide_default_value = true)]
    name: String,
    /// Only of templates of this version.
    #[arg(long = "template-version", default_value = "", hide_default_value = true)]
    version: String,
    /// Only in this state, as in waiting_for_retry; may be given more than once.
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
    /// At most so many; all if not given.
    #[arg(long, value_name = "N")]
    limit: Option<NonZeroUsize>,
}

impl Filter {
    fn page_size(&self) -> usize {
        self.limit.map_or(LARGEST_PAGE, |limit| limit.get().min(LARGEST_PAGE))
    }
}

impl TryFrom<Filter> for ListTasksRequest {
    type Error = anyhow::Error;

    fn try_from(filter: Filter) -> anyhow::Result<Self> {
        let page_size =
            i32::try_from(filter.page_size()).map_err(|_| anyhow!("a page too large"))?;
        let wire = |state: &TaskState| v1::TaskState::from(*state).into();
        Ok(Self {
            states: filter.states.iter().map(wire).collect(),
            namespace: filter.namespace,
            name: filter.name,
            version: filter.version,
            created_after: filter.created_after.map(timestamp),
            created_before: filter.created_before.map(timestamp),
            correlation_id: filter.correlation_id,
            page_size,
            page_token: String::new(),
        })
    }
}

pub(super) async fn run(filter: Filter, client: &Client, json: bool) -> anyhow::Result<()> {
    let limit = filter.limit.map_or(usize::MAX, NonZeroUsize::get);
    let tasks = client.list_tasks(filter.try_into()?).take(limit);
    listed::show(json, tasks, HEADER, row, view::Task::from).await
}

const HEADER: [&str; 6] = ["TASK", "TEMPLATE", "STATE", "STEPS", "CREATED", "CORRELATION ID"];

fn row(task: &Task) -> [String; 6] {
    let steps = task.steps.unwrap_or_default();
    [
        task.task_id.clone(),
        names::template(task.template.as_ref()),
        names::task_state(task.state()),
        format!("{}/{}", steps.satisfied, steps.total),
        names::time(task.create_time.as_ref()).unwrap_or_default(),
        task.correlation_id.clone(),
    ]
}
