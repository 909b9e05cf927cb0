//! The domain events of a step that has ended: what its template declares, as the queue holds it.

use chrono::Utc;
use tasker_domain::{
    Template,
    template::{self, Delivery, Outcome, Step},
};
use tasker_store::{
    DomainEvent, EndedStep, EventError, EventPayload, FailedByRule, Payload, Store, StoreError,
    TemplateOfEvent,
};
use uuid::Uuid;

pub mod announcer;
pub mod listen;
pub mod subscriptions;

/// An event, with its ways.
pub type Event = (DomainEvent, Delivery);

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

/// What a step publishes that has ended by hand or by rule.
///
/// # Errors
/// Its template cannot be read, or does not declare it.
pub async fn events_of_ended(
    store: &Store,
    ended: &EndedStep,
    end: End<'_>,
) -> Result<Vec<Event>, StoreError> {
    let template = store.template(ended.template_id).await?;
    let EndedStep { task_id, ordinal, declared, .. } = *ended;
    let step = template.step(declared).ok_or_else(|| undeclared(task_id.0, ordinal.0))?;
    let ending = Ending {
        template: &template,
        step,
        task_id: task_id.0,
        ordinal: ordinal.0,
        name: &ended.name,
        attempt: ended.attempt,
        correlation_id: &ended.correlation_id,
        traceparent: &ended.traceparent,
    };
    Ok(events_of(ending, end))
}

/// A step that its task's template does not know.
pub fn undeclared(task_id: Uuid, ordinal: i32) -> StoreError {
    let what = format!("no template declares step {ordinal} of task {task_id}");
    StoreError::Corrupt { table: "steps", what }
}

/// What steps publish that have failed by rule.
///
/// # Errors
/// A template cannot be read.
pub async fn events_of_failed(
    store: &Store,
    failed: &[FailedByRule],
) -> Result<Vec<Event>, StoreError> {
    let mut events = Vec::new();
    for FailedByRule { step, error_type, error_message } in failed {
        let end = End::Failure { error_type, message: error_message, retryable: false };
        events.extend(events_of_ended(store, step, end).await?);
    }
    Ok(events)
}

/// What a step publishes when it ends so.
pub fn events_of(ending: Ending<'_>, end: End<'_>) -> Vec<Event> {
    let declared = ending.step.events.iter();
    let told = declared.filter(|event| event.condition.includes(end.outcome()));
    let event = |declared: &template::Event| {
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
