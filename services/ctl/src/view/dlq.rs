//! What needs somebody: dead letters, and tasks that do not get on.

use serde::Serialize;
use tasker_client::v1;

use super::shared::{Payload, TemplateRef};
use crate::names;

/// See `DlqEntry`.
#[derive(Serialize)]
pub(crate) struct DlqEntry {
    entry_id: String,
    task_id: String,
    template: Option<TemplateRef>,
    task_state: String,
    reason: String,
    detail: String,
    actor: String,
    status: String,
    create_time: Option<String>,
    resolve_time: Option<String>,
    resolver: String,
    notes: String,
    snapshot: Option<Payload>,
}

impl From<v1::DlqEntry> for DlqEntry {
    fn from(entry: v1::DlqEntry) -> Self {
        Self {
            task_state: names::task_state(entry.task_state()),
            reason: names::dlq_reason(entry.reason()),
            status: names::dlq_status(entry.status()),
            entry_id: entry.entry_id,
            task_id: entry.task_id,
            template: entry.template.map(Into::into),
            detail: entry.detail,
            actor: entry.actor,
            create_time: names::time(entry.create_time.as_ref()),
            resolve_time: names::time(entry.resolve_time.as_ref()),
            resolver: entry.resolver,
            notes: entry.notes,
            snapshot: entry.snapshot.map(Payload),
        }
    }
}

/// See `DlqInvestigation`.
#[derive(Serialize)]
pub(crate) struct DlqInvestigation {
    entry: Option<DlqEntry>,
    score: i32,
}

impl From<v1::DlqInvestigation> for DlqInvestigation {
    fn from(investigation: v1::DlqInvestigation) -> Self {
        let v1::DlqInvestigation { entry, score } = investigation;
        Self { entry: entry.map(Into::into), score }
    }
}

/// See `DlqReasonStats`.
#[derive(Serialize)]
pub(crate) struct DlqReasonStats {
    reason: String,
    pending: i64,
    resolved: i64,
    oldest_pending_time: Option<String>,
    mean_time_to_resolve: Option<String>,
}

impl From<v1::DlqReasonStats> for DlqReasonStats {
    fn from(stats: v1::DlqReasonStats) -> Self {
        Self {
            reason: names::dlq_reason(stats.reason()),
            pending: stats.pending,
            resolved: stats.resolved,
            oldest_pending_time: names::time(stats.oldest_pending_time.as_ref()),
            mean_time_to_resolve: names::duration(stats.mean_time_to_resolve.as_ref()),
        }
    }
}

/// See `StaleTask`.
#[derive(Serialize)]
pub(crate) struct StaleTask {
    task_id: String,
    template: Option<TemplateRef>,
    state: String,
    health: String,
    limit: String,
    lasted: Option<String>,
    allowed: Option<String>,
}

impl From<v1::StaleTask> for StaleTask {
    fn from(task: v1::StaleTask) -> Self {
        Self {
            state: names::task_state(task.state()),
            health: names::health(task.health()),
            limit: names::limit(task.limit()),
            task_id: task.task_id,
            template: task.template.map(Into::into),
            lasted: names::duration(task.lasted.as_ref()),
            allowed: names::duration(task.allowed.as_ref()),
        }
    }
}

/// See `TaskHealthReading`.
#[derive(Serialize)]
pub(crate) struct TaskHealthReading {
    task_id: String,
    state: String,
    health: String,
    since_time: Option<String>,
    limit: Option<String>,
    lasted: Option<String>,
    allowed: Option<String>,
}

impl From<v1::TaskHealthReading> for TaskHealthReading {
    fn from(reading: v1::TaskHealthReading) -> Self {
        let limited = reading.limit() != v1::LifecycleLimit::Unspecified;
        Self {
            state: names::task_state(reading.state()),
            health: names::health(reading.health()),
            since_time: names::time(reading.since_time.as_ref()),
            limit: limited.then(|| names::limit(reading.limit())),
            lasted: names::duration(reading.lasted.as_ref()),
            allowed: names::duration(reading.allowed.as_ref()),
            task_id: reading.task_id,
        }
    }
}
