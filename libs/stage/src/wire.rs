//! What stages tell each other, on the wire. The queues hold the same.

use tasker_api::{Invalid, field, mesh::v1};
use tasker_store::{Finalization, ReadyStep};
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
        traceparent: step.traceparent,
    }
}

/// A ready step from the wire.
///
/// # Errors
/// An id is none, or the priority is out of range.
pub fn from_ready_step(step: v1::ReadyStep) -> Result<ReadyStep, Invalid> {
    let uuid = |path: &str, text: &str| field::id::<tasker_domain::TaskId>(path, text).map(|id| id.0);
    Ok(ReadyStep {
        message_id: step.message_id,
        task_id: uuid("task_id", &step.task_id)?,
        ordinal: step.ordinal,
        namespace: step.namespace,
        template_id: uuid("template_id", &step.template_id)?,
        priority: i16::try_from(step.priority).map_err(|_| Invalid::field("priority", "out of range"))?,
        traceparent: step.traceparent,
    })
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
    Ok(Finalization { message_id: finalization.message_id, task_id, traceparent: finalization.traceparent })
}
