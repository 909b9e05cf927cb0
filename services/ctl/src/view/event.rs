//! Domain events.

use serde::Serialize;
use tasker_client::v1;

use super::shared::{Payload, StepError, TemplateRef, Trace};
use crate::names;

/// See `DomainEvent`.
#[derive(Serialize)]
pub(crate) struct DomainEvent {
    event_id: String,
    name: String,
    task_id: String,
    template: Option<TemplateRef>,
    step_name: String,
    attempt: i32,
    time: Option<String>,
    success: Option<Payload>,
    failure: Option<StepError>,
    resolved_manually: bool,
    correlation_id: String,
    trace: Option<Trace>,
}

impl From<v1::DomainEvent> for DomainEvent {
    fn from(event: v1::DomainEvent) -> Self {
        use v1::domain_event::Outcome;

        let resolved_manually = matches!(event.outcome, Some(Outcome::ResolvedManually(_)));
        let (success, failure) = match event.outcome {
            Some(Outcome::Success(payload)) => (Some(Payload(payload)), None),
            Some(Outcome::Failure(error)) => (None, Some(error.into())),
            Some(Outcome::ResolvedManually(_)) | None => (None, None),
        };
        Self {
            event_id: event.event_id,
            name: event.name,
            task_id: event.task_id,
            template: event.template.map(Into::into),
            step_name: event.step_name,
            attempt: event.attempt,
            time: names::time(event.time.as_ref()),
            success,
            failure,
            resolved_manually,
            correlation_id: event.correlation_id,
            trace: event.trace.map(Into::into),
        }
    }
}
