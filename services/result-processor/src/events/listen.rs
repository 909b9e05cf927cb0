//! Hears the fast events that replicas announce, and tells subscribers.

use std::{sync::Arc, time::Duration};

use tasker_api::{time, v1};
use tasker_domain::template;
use tasker_stage::{Database, wire};
use tasker_store::{AnnouncedEvents, DomainEvent, EventError, Payload, StoreError};
use tokio_util::sync::CancellationToken;

use super::subscriptions::Subscriptions;

/// How long to wait before listening again.
const AGAIN: Duration = Duration::from_secs(1);

/// Tells subscribers what it hears, until draining begins.
pub async fn run(database: Database, subscriptions: Subscriptions, drain: CancellationToken) {
    while !drain.is_cancelled() {
        let heard = drain.run_until_cancelled(hear(&database, &subscriptions)).await;
        subscriptions.hears(false);
        if let Some(Err(error)) = heard {
            database.noticed(&error);
            drain.run_until_cancelled(tokio::time::sleep(AGAIN)).await;
        }
    }
}

async fn hear(database: &Database, subscriptions: &Subscriptions) -> Result<(), StoreError> {
    let mut listener = database.store.listen_to_events().await?;
    subscriptions.hears(true);
    while let Some(notification) = listener.try_recv().await? {
        match serde_json::from_str::<AnnouncedEvents>(notification.payload()) {
            Ok(announced) => tell(database, subscriptions, announced).await,
            Err(error) => tracing::warn!("not an announcement of events: {error}"),
        }
    }
    // The connection is lost, and with it what is announced until there is another.
    Ok(())
}

async fn tell(database: &Database, subscriptions: &Subscriptions, announced: AnnouncedEvents) {
    if announced.missed > 0 {
        subscriptions.miss(announced.missed);
    }
    for event in announced.events {
        let (namespace, name) = (event.namespace.clone(), event.name.clone());
        if !subscriptions.are_for(&namespace, &name) {
            continue;
        }
        let event = database.store.complete_event(event).await;
        match event.inspect_err(|error| database.noticed(error)) {
            Ok(Some(event)) => match on_the_wire(event) {
                Ok(event) => subscriptions.tell(&namespace, &Arc::new(event)),
                Err(error) => tracing::warn!("not an event: {error}"),
            },
            Ok(None) => subscriptions.miss_one(&namespace, &name),
            Err(error) => {
                tracing::warn!("an event could not be read: {error}");
                subscriptions.miss_one(&namespace, &name);
            }
        }
    }
}

fn on_the_wire(event: DomainEvent) -> Result<v1::DomainEvent, impl std::fmt::Display> {
    use v1::domain_event::Outcome;
    let by_hand = event.outcome == template::Outcome::ResolvedManually;
    let outcome = match (event.payload, event.error) {
        _ if by_hand => Some(Outcome::ResolvedManually(v1::ResolvedManually {})),
        (Some(payload), _) => Some(Outcome::Success(wire::payload(Payload::try_from(payload)?))),
        (None, Some(EventError { error_type, message, retryable })) => {
            Some(Outcome::Failure(v1::StepError { r#type: error_type, message, retryable }))
        }
        (None, None) => None,
    };
    let trace = v1::TraceContext { traceparent: event.traceparent, tracestate: String::new() };
    Ok::<_, <Payload as TryFrom<tasker_store::EventPayload>>::Error>(v1::DomainEvent {
        event_id: event.event_id.to_string(),
        name: event.name,
        task_id: event.task_id.to_string(),
        template: Some(v1::TemplateRef {
            namespace: event.namespace,
            name: event.template.name,
            version: event.template.version,
        }),
        step_name: event.step,
        attempt: event.attempt,
        time: Some(time::timestamp(event.time)),
        outcome,
        correlation_id: event.correlation_id,
        trace: Some(trace),
    })
}
