//! Rows and messages of the store, on the wire.

use tasker_api::{Invalid, field, mesh::v1, time, v1 as public};
use tasker_domain::SessionId;
use tasker_store::{
    CompletedTask, Content, Finalization, Payload, Place, ReadyStep, TaskDetails, TaskRow,
};
use uuid::Uuid;

/// A ready step for the wire.
#[must_use]
pub fn ready_step(step: ReadyStep) -> v1::ReadyStep {
    v1::ReadyStep {
        message_id: step.message_id,
        task_id: step.task_id.to_string(),
        ordinal: step.ordinal,
        namespace: step.namespace,
        template_id: step.template_id.to_string(),
        priority: step.priority.into(),
        declared: step.declared,
        traceparent: step.traceparent,
        content: step.content.map(content),
    }
}

/// What all deliveries of a task carry, for the wire.
#[must_use]
pub fn content(content: Content) -> v1::DeliveryContent {
    let Content { context, correlation_id, .. } = content;
    v1::DeliveryContent { context: Some(payload(context)), correlation_id }
}

/// What all deliveries of a task carry, from the wire.
#[must_use]
pub fn from_content(content: v1::DeliveryContent) -> Content {
    Content {
        context: from_payload(content.context.unwrap_or_default()),
        correlation_id: content.correlation_id,
        ..Content::default()
    }
}

/// User data for the wire.
#[must_use]
pub fn payload(payload: Payload) -> public::Payload {
    let Payload { content_type, data, metadata } = payload;
    public::Payload { content_type, data, metadata }
}

/// User data from the wire.
#[must_use]
pub fn from_payload(payload: public::Payload) -> Payload {
    let public::Payload { content_type, data, metadata } = payload;
    Payload { content_type, data, metadata }
}

/// A ready step from the wire.
///
/// # Errors
/// An id is none, or the priority is out of range.
pub fn from_ready_step(step: v1::ReadyStep) -> Result<ReadyStep, Invalid> {
    let uuid =
        |path: &str, text: &str| field::id::<tasker_domain::TaskId>(path, text).map(|id| id.0);
    Ok(ReadyStep {
        message_id: step.message_id,
        task_id: uuid("task_id", &step.task_id)?,
        ordinal: step.ordinal,
        namespace: step.namespace,
        template_id: uuid("template_id", &step.template_id)?,
        priority: i16::try_from(step.priority)
            .map_err(|_| Invalid::field("priority", "out of range"))?,
        declared: step.declared,
        traceparent: step.traceparent,
        content: step.content.map(from_content),
    })
}

/// Places for unlocked steps, from the wire.
///
/// # Errors
/// An id is none, or a duration is not one.
pub fn places(places: &[v1::Place]) -> Result<Vec<Place>, Invalid> {
    let uuid = |path: &str, text: &str| field::id::<SessionId>(path, text).map(|id| id.0);
    let place = |place: &v1::Place| {
        let timeout = time::from_duration("places.timeout", place.timeout)?;
        Ok(Place {
            ordinal: place.ordinal,
            delivery_id: uuid("places.delivery_id", &place.delivery_id)?,
            session_id: uuid("places.session_id", &place.session_id)?,
            timeout_ms: i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX),
        })
    };
    places.iter().map(place).collect()
}

/// A finalization for the wire.
#[must_use]
pub fn finalization(finalization: Finalization) -> v1::Finalization {
    v1::Finalization {
        message_id: finalization.message_id,
        task_id: finalization.task_id.to_string(),
        traceparent: finalization.traceparent,
    }
}

/// A finalization from the wire.
///
/// # Errors
/// The task's id is none.
pub fn from_finalization(finalization: v1::Finalization) -> Result<Finalization, Invalid> {
    let task_id: Uuid = field::task_id(&finalization.task_id)?.0;
    Ok(Finalization {
        message_id: finalization.message_id,
        task_id,
        traceparent: finalization.traceparent,
    })
}

/// A completed task for the wire.
#[must_use]
pub fn completed_task(task: CompletedTask) -> v1::CompletedTask {
    v1::CompletedTask {
        task_id: task.task_id.to_string(),
        end_time: Some(time::timestamp(task.ended_at)),
        steps: task.steps,
        paused: task.paused,
    }
}

/// A completed task from the wire.
///
/// # Errors
/// Its id is none, or its time is missing or none.
pub fn from_completed_task(task: &v1::CompletedTask) -> Result<CompletedTask, Invalid> {
    let end_time = task.end_time.ok_or_else(|| Invalid::field("end_time", "is missing"))?;
    Ok(CompletedTask {
        task_id: field::task_id(&task.task_id)?.0,
        ended_at: time::from_timestamp("end_time", end_time)?,
        steps: task.steps,
        paused: task.paused,
    })
}

/// A task as lists show it.
#[must_use]
pub fn task(row: TaskRow) -> public::Task {
    public::Task {
        task_id: row.task_id.to_string(),
        template: Some(public::TemplateRef {
            namespace: row.namespace,
            name: row.name,
            version: row.version,
        }),
        state: public::TaskState::from(row.state).into(),
        create_time: Some(time::timestamp(row.created_at)),
        end_time: row.ended_at.map(time::timestamp),
        correlation_id: row.correlation_id,
        priority: row.priority.into(),
        paused: row.paused,
        steps: Some(row.counts.into()),
        ..public::Task::default()
    }
}

/// A task with all that is known of it.
#[must_use]
pub fn task_with_details(row: TaskRow, details: TaskDetails) -> public::Task {
    public::Task {
        purged: details.purged,
        context: (!details.purged).then(|| payload(details.context)),
        idempotency_key: details.idempotency_key,
        requested_by: details.requested_by,
        reason: details.reason,
        trace: Some(public::TraceContext {
            traceparent: details.traceparent,
            tracestate: details.tracestate,
        }),
        rerun_of: details.rerun_of.map(|task| task.to_string()).unwrap_or_default(),
        reruns: details.reruns.iter().map(ToString::to_string).collect(),
        ..task(row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_completed_task_arrives_as_it_was_sent_and_not_without_its_time() {
        let (task_id, ended_at) = (Uuid::now_v7(), std::time::SystemTime::now().into());
        let task = CompletedTask { task_id, ended_at, steps: 4, paused: true };
        let sent = completed_task(task);
        assert_eq!(from_completed_task(&sent).unwrap(), task);
        let refused = from_completed_task(&v1::CompletedTask { end_time: None, ..sent });
        assert!(tonic::Status::from(refused.unwrap_err()).message().contains("end_time"));
    }
}
