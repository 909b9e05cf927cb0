//! `dlq`: tasks that somebody has to look into.

use std::process::ExitCode;

use clap::{Subcommand, ValueEnum};
use tasker_client::{
    Client,
    v1::{
        CreateDlqEntryRequest, DlqEntry, DlqInvestigation, DlqReasonStats, DlqStatus,
        ListDlqEntriesRequest, ListStaleTasksRequest, StaleTask, UpdateDlqEntryRequest,
    },
};
use tasker_domain::{DeadLetterReason, DeadLetterStatus};

use crate::{listed, names, payload, print, view};

/// What may be asked of dead letters.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List entries, newest first.
    List(Filter),
    /// Show one entry, with how its task stood when it was put there.
    Get {
        /// Id of the entry.
        entry: String,
    },
    /// Put a task among the dead letters, and print the entry's id.
    Create {
        /// Id of the task.
        task: String,
        /// Who puts it there.
        #[arg(long)]
        operator: String,
        /// Why.
        #[arg(long)]
        reason: String,
        /// Names this request: the same id again gives the entry that it made.
        #[arg(long, default_value = "", hide_default_value = true)]
        request_id: String,
    },
    /// Note what was found out about an entry, or resolve it.
    Update {
        /// Id of the entry.
        entry: String,
        /// Who says so.
        #[arg(long)]
        operator: String,
        /// What has come of it.
        #[arg(long)]
        status: Option<Resolution>,
        /// In place of the notes that were there.
        #[arg(long)]
        notes: Option<String>,
    },
    /// List pending entries, those first that are to be looked into first.
    Queue {
        /// Only of templates in this namespace.
        #[arg(long, default_value = "", hide_default_value = true)]
        namespace: String,
    },
    /// Count entries by reason.
    Stats {
        /// Only of templates in this namespace.
        #[arg(long, default_value = "", hide_default_value = true)]
        namespace: String,
    },
    /// List open tasks that are near a limit of their template, or beyond it.
    Stale {
        /// Only of templates in this namespace.
        #[arg(long, default_value = "", hide_default_value = true)]
        namespace: String,
        /// Only those beyond it.
        #[arg(long)]
        only_stale: bool,
    },
}

/// Which entries.
#[derive(Debug, clap::Args)]
pub(crate) struct Filter {
    /// Only of templates in this namespace.
    #[arg(long, default_value = "", hide_default_value = true)]
    namespace: String,
    /// Only of this task.
    #[arg(long, default_value = "", hide_default_value = true)]
    task: String,
    /// Only for this reason, as in retries_exhausted; may be given more than once.
    #[arg(long = "reason", value_name = "REASON", value_delimiter = ',')]
    reasons: Vec<DeadLetterReason>,
    /// Only with this status, as in pending; may be given more than once.
    #[arg(long = "status", value_name = "STATUS", value_delimiter = ',')]
    statuses: Vec<DeadLetterStatus>,
}

/// What may come of an entry.
#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Resolution {
    /// The task was mended, or settled elsewhere.
    ManuallyResolved,
    /// The task cannot be mended.
    PermanentFailure,
    /// The task need not be mended.
    Cancelled,
}

impl From<Resolution> for DlqStatus {
    fn from(resolution: Resolution) -> Self {
        match resolution {
            Resolution::ManuallyResolved => Self::ManuallyResolved,
            Resolution::PermanentFailure => Self::PermanentFailure,
            Resolution::Cancelled => Self::Cancelled,
        }
    }
}

pub(crate) async fn run(command: Command, client: &Client, json: bool) -> anyhow::Result<ExitCode> {
    match command {
        Command::List(filter) => {
            let entries = client.list_dlq_entries(filter.into());
            listed::show(json, entries, HEADER, row, view::DlqEntry::from).await?;
        }
        Command::Get { entry } => show(client.get_dlq_entry(&entry).await?, json)?,
        Command::Create { task, operator, reason, request_id } => {
            let request = CreateDlqEntryRequest { task_id: task, operator, reason, request_id };
            let entry = client.create_dlq_entry(request).await?;
            if json {
                print::json(&view::DlqEntry::from(entry))?;
            } else {
                // Alone, for `id=$(tasker-ctl dlq create …)`.
                print::line(&entry.entry_id)?;
            }
        }
        Command::Update { entry, operator, status, notes } => {
            let status = status.map_or(DlqStatus::Unspecified, DlqStatus::from).into();
            let request = UpdateDlqEntryRequest { entry_id: entry, operator, status, notes };
            show(client.update_dlq_entry(request).await?, json)?;
        }
        Command::Queue { namespace } => {
            let queue = client.investigation_queue(&namespace);
            listed::show(json, queue, QUEUE, place, view::DlqInvestigation::from).await?;
        }
        Command::Stats { namespace } => {
            let stats = client.dlq_stats(&namespace).await?;
            if json {
                let stats: Vec<_> = stats.into_iter().map(view::DlqReasonStats::from).collect();
                print::json(&stats)?;
            } else {
                print::table(STATS, stats.iter().map(counts))?;
            }
        }
        Command::Stale { namespace, only_stale } => {
            let filter =
                ListStaleTasksRequest { namespace, only_stale, ..ListStaleTasksRequest::default() };
            let tasks = client.list_stale_tasks(filter);
            listed::show(json, tasks, STALE, stale, view::StaleTask::from).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl From<Filter> for ListDlqEntriesRequest {
    fn from(filter: Filter) -> Self {
        let reason = |reason: &DeadLetterReason| tasker_client::v1::DlqReason::from(*reason).into();
        let status = |status: &DeadLetterStatus| DlqStatus::from(*status).into();
        Self {
            reasons: filter.reasons.iter().map(reason).collect(),
            statuses: filter.statuses.iter().map(status).collect(),
            namespace: filter.namespace,
            task_id: filter.task,
            page_size: 1000,
            page_token: String::new(),
        }
    }
}

const HEADER: [&str; 7] = ["ENTRY", "TASK", "TEMPLATE", "REASON", "STATUS", "CREATED", "DETAIL"];

fn row(entry: &DlqEntry) -> [String; 7] {
    [
        entry.entry_id.clone(),
        entry.task_id.clone(),
        names::template(entry.template.as_ref()),
        names::dlq_reason(entry.reason()),
        names::dlq_status(entry.status()),
        names::time(entry.create_time.as_ref()).unwrap_or_default(),
        entry.detail.clone(),
    ]
}

const QUEUE: [&str; 6] = ["SCORE", "ENTRY", "TASK", "REASON", "CREATED", "DETAIL"];

fn place(investigation: &DlqInvestigation) -> [String; 6] {
    let entry = investigation.entry.clone().unwrap_or_default();
    [
        investigation.score.to_string(),
        entry.entry_id.clone(),
        entry.task_id.clone(),
        names::dlq_reason(entry.reason()),
        names::time(entry.create_time.as_ref()).unwrap_or_default(),
        entry.detail,
    ]
}

const STATS: [&str; 5] =
    ["REASON", "PENDING", "RESOLVED", "OLDEST PENDING", "MEAN TIME TO RESOLVE"];

fn counts(stats: &DlqReasonStats) -> [String; 5] {
    [
        names::dlq_reason(stats.reason()),
        stats.pending.to_string(),
        stats.resolved.to_string(),
        names::time(stats.oldest_pending_time.as_ref()).unwrap_or_default(),
        names::duration(stats.mean_time_to_resolve.as_ref()).unwrap_or_default(),
    ]
}

const STALE: [&str; 7] = ["TASK", "TEMPLATE", "STATE", "HEALTH", "LIMIT", "LASTED", "ALLOWED"];

fn stale(task: &StaleTask) -> [String; 7] {
    [
        task.task_id.clone(),
        names::template(task.template.as_ref()),
        names::task_state(task.state()),
        names::health(task.health()),
        names::limit(task.limit()),
        names::duration(task.lasted.as_ref()).unwrap_or_default(),
        names::duration(task.allowed.as_ref()).unwrap_or_default(),
    ]
}

fn show(entry: DlqEntry, json: bool) -> anyhow::Result<()> {
    if json {
        return print::json(&view::DlqEntry::from(entry));
    }
    Ok(print::fields([
        ("entry", entry.entry_id.clone()),
        ("task", entry.task_id.clone()),
        ("template", names::template(entry.template.as_ref())),
        ("task state", names::task_state(entry.task_state())),
        ("reason", names::dlq_reason(entry.reason())),
        ("detail", entry.detail.clone()),
        ("by", entry.actor.clone()),
        ("status", names::dlq_status(entry.status())),
        ("created", names::time(entry.create_time.as_ref()).unwrap_or_default()),
        ("resolved", names::time(entry.resolve_time.as_ref()).unwrap_or_default()),
        ("changed by", entry.resolver.clone()),
        ("notes", entry.notes.clone()),
        ("snapshot", entry.snapshot.as_ref().map(payload::text).unwrap_or_default()),
    ])?)
}
