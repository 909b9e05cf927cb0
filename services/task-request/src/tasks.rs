//! Tasks for the wire.

use tasker_api::{time, v1};
use tasker_store::{TaskDetails, TaskRow};

/// A task as lists show it.
pub fn listed(row: TaskRow) -> v1::Task {
    v1::Task {
        task_id: row.task_id.to_string(),
        template: Some(v1::TemplateRef { namespace: row.namespace, name: row.name, version: row.version }),
        state: v1::TaskState::from(row.state).into(),
        create_time: Some(time::timestamp(row.created_at)),
        end_time: row.ended_at.map(time::timestamp),
        correlation_id: row.correlation_id,
        priority: row.priority.into(),
        steps: Some(row.counts.into()),
        ..v1::Task::default()
    }
}

/// A task with all that is known of it.
pub fn with_details(row: TaskRow, details: TaskDetails) -> v1::Task {
    v1::Task {
        context: Some(v1::Payload {
            content_type: details.context.content_type,
            data: details.context.data,
            metadata: details.context.metadata,
        }),
        idempotency_key: details.idempotency_key,
        requested_by: details.requested_by,
        reason: details.reason,
        trace: Some(v1::TraceContext { traceparent: details.traceparent, tracestate: details.tracestate }),
        ..listed(row)
    }
}
