//! The domain events of a step that has ended: what its template declares, as the queue holds it.

use chrono::Utc;
use tasker_domain::template::{Delivery, Outcome};
use tasker_store::{DomainEvent, EventError, EventPayload, Payload, StoreError, TemplateOfEvent};
use uuid::Uuid;

use crate::settle_steps::Known;

pub mod announcer;
pub mod listen;
pub mod subscriptions;

/// How a step ends.
#[derive(Clone, Copy)]
pub enum End<'a> {
    /// It is complete.
    Success(&'a Payload),
    /// It has failed for good.
    Failure { error_type: &'a str, message: &'a str, retryable: bool },
}

impl End<'_> {
    fn outcome(self) -> Outcome {
        match self {
            Self::Success(_) => Outcome::Success,
            Self::Failure { .. } => Outcome::Failure,
        }
    }

    fn payload(self) -> Option<EventPayload> {
        match self {
            Self::Success(payload) => Some(payload.into()),
            Self::Failure { .. } => None,
        }
    }

    fn error(self) -> Option<EventError> {
        match self {
            Self::Success(_) => None,
            Self::Failure { error_type, message, retryable } => Some(EventError {
                error_type: error_type.to_owned(),
                message: message.to_owned(),
                retryable,
            }),
        }
    }
}

/// What a step publishes when it ends so, each event with its ways.
///
/// # Errors
/// The step is none of its template.
pub fn events_of(
    known: &Known,
    end: End<'_>,
    traceparent: &str,
) -> Result<Vec<(DomainEvent, Delivery)>, StoreError> {
    let declared = known.step()?.events.iter();
    let told = declared.filter(|event| event.condition.includes(end.outcome()));
    let event = |declared: &tasker_domain::template::Event| {
        let template = &known.template;
        let event = DomainEvent {
            event_id: Uuid::now_v7(),
            name: declared.name.clone(),
            namespace: template.namespace.clone(),
            task_id: known.held.task_id,
            template: TemplateOfEvent {
                name: template.name.clone(),
                version: template.version.to_string(),
            },
            step: known.locked.name.clone(),
            ordinal: known.held.ordinal,
            attempt: known.locked.attempt,
            outcome: end.outcome(),
            time: Utc::now(),
            correlation_id: known.locked.correlation_id.clone(),
            traceparent: traceparent.to_owned(),
            payload: end.payload(),
            error: end.error(),
        };
        (event, declared.delivery)
    };
    Ok(told.map(event).collect())
}
