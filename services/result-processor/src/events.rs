//! The domain events of a step that has ended: what its template declares, as the queue holds it.

use chrono::Utc;
use tasker_domain::{
    Template,
    template::{Delivery, Outcome, Step},
};
use tasker_store::{DomainEvent, EventError, EventPayload, Payload, TemplateOfEvent};
use uuid::Uuid;

pub mod announcer;
pub mod listen;
pub mod subscriptions;

/// A step that ends.
#[derive(Clone, Copy)]
pub struct Ending<'a> {
    pub template: &'a Template,
    /// As the template declares it.
    pub step: &'a Step,
    pub task_id: Uuid,
    pub ordinal: i32,
    /// Unique in its task.
    pub name: &'a str,
    pub attempt: i32,
    pub correlation_id: &'a str,
    pub traceparent: &'a str,
}

/// How a step ends.
#[derive(Clone, Copy)]
pub enum End<'a> {
    /// It is complete.
    Success(&'a Payload),
    /// It has failed for good.
    Failure { error_type: &'a str, message: &'a str, retryable: bool },
    /// An operator has settled it, without a result.
    ResolvedManually,
}

impl End<'_> {
    fn outcome(self) -> Outcome {
        match self {
            Self::Success(_) => Outcome::Success,
            Self::Failure { .. } => Outcome::Failure,
            Self::ResolvedManually => Outcome::ResolvedManually,
        }
    }

    fn payload(self) -> Option<EventPayload> {
        match self {
            Self::Success(payload) => Some(payload.into()),
            Self::Failure { .. } | Self::ResolvedManually => None,
        }
    }

    fn error(self) -> Option<EventError> {
        match self {
            Self::Success(_) | Self::ResolvedManually => None,
            Self::Failure { error_type, message, retryable } => Some(EventError {
                error_type: error_type.to_owned(),
                message: message.to_owned(),
                retryable,
            }),
        }
    }
}

/// What a step publishes when it ends so, each event with its ways.
pub fn events_of(ending: Ending<'_>, end: End<'_>) -> Vec<(DomainEvent, Delivery)> {
    let declared = ending.step.events.iter();
    let told = declared.filter(|event| event.condition.includes(end.outcome()));
    let event = |declared: &tasker_domain::template::Event| {
        let Ending { template, .. } = ending;
        let event = DomainEvent {
            event_id: Uuid::now_v7(),
            name: declared.name.clone(),
            namespace: template.namespace.clone(),
            task_id: ending.task_id,
            template: TemplateOfEvent {
                name: template.name.clone(),
                version: template.version.to_string(),
            },
            step: ending.name.to_owned(),
            ordinal: ending.ordinal,
            attempt: ending.attempt,
            outcome: end.outcome(),
            time: Utc::now(),
            correlation_id: ending.correlation_id.to_owned(),
            traceparent: ending.traceparent.to_owned(),
            payload: end.payload(),
            error: end.error(),
        };
        (event, declared.delivery)
    };
    told.map(event).collect()
}
