//! What programs get: the contract's messages as JSON.
//!
//! Fields are named as in `proto/`, states are lower case (`in_progress`), times are RFC 3339, and
//! payloads keep every byte. A field that is not set is null, or empty.

use serde::{Serialize, Serializer};
use tasker_client::v1;

use crate::{names, payload};

/// A template as it is named.
#[derive(Default, Serialize)]
struct TemplateRef {
    namespace: String,
    name: String,
    version: String,
}

impl From<v1::TemplateRef> for TemplateRef {
    fn from(of: v1::TemplateRef) -> Self {
        let v1::TemplateRef { namespace, name, version } = of;
        Self { namespace, name, version }
    }
}

/// See `CreateTaskResponse`.
#[derive(Serialize)]
pub(crate) struct Created {
    task_id: String,
    template: Option<TemplateRef>,
}

impl From<v1::CreateTaskResponse> for Created {
    fn from(created: v1::CreateTaskResponse) -> Self {
        Self { task_id: created.task_id, template: created.template.map(Into::into) }
    }
}

/// See `Task`.
#[derive(Serialize)]
pub(crate) struct Task {
    task_id: String,
    template: Option<TemplateRef>,
    state: String,
    paused: bool,
    create_time: Option<String>,
    end_time: Option<String>,
    context: Option<Payload>,
    idempotency_key: String,
    correlation_id: String,
    requested_by: String,
    reason: String,
    priority: i32,
    steps: StepCounts,
    trace: Option<Trace>,
    rerun_of: String,
    reruns: Vec<String>,
    /// Where they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    step_list: Option<Vec<Step>>,
}

impl Task {
    pub(crate) fn with_steps(self, steps: Option<Vec<v1::Step>>) -> Self {
        Self { step_list: steps.map(|steps| steps.into_iter().map(Step::from).collect()), ..self }
    }
}

impl From<v1::Task> for Task {
    fn from(task: v1::Task) -> Self {
        Self {
            state: names::task_state(task.state()),
            paused: task.paused,
            task_id: task.task_id,
            template: task.template.map(Into::into),
            create_time: names::time(task.create_time.as_ref()),
            end_time: names::time(task.end_time.as_ref()),
            context: task.context.map(Payload),
            idempotency_key: task.idempotency_key,
            correlation_id: task.correlation_id,
            requested_by: task.requested_by,
            reason: task.reason,
            priority: task.priority,
            steps: task.steps.unwrap_or_default().into(),
            trace: task.trace.map(Into::into),
            rerun_of: task.rerun_of,
            reruns: task.reruns,
            step_list: None,
        }
    }
}

#[derive(Serialize)]
struct StepCounts {
    total: i32,
    ready: i32,
    in_flight: i32,
    waiting_for_retry: i32,
    failed: i32,
    satisfied: i32,
}

impl From<v1::StepCounts> for StepCounts {
    fn from(counts: v1::StepCounts) -> Self {
        let v1::StepCounts { total, ready, in_flight, waiting_for_retry, failed, satisfied } =
            counts;
        Self { total, ready, in_flight, waiting_for_retry, failed, satisfied }
    }
}

#[derive(Serialize)]
struct Trace {
    traceparent: String,
    tracestate: String,
}

impl From<v1::TraceContext> for Trace {
    fn from(trace: v1::TraceContext) -> Self {
        let v1::TraceContext { traceparent, tracestate } = trace;
        Self { traceparent, tracestate }
    }
}

struct Payload(v1::Payload);

impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        payload::View::from(&self.0).serialize(serializer)
    }
}

/// See `Step`.
#[derive(Serialize)]
pub(crate) struct Step {
    task_id: String,
    name: String,
    state: String,
    handler: String,
    dependencies: Vec<String>,
    unmet_dependencies: i32,
    attempt: i32,
    max_attempts: i32,
    retry_time: Option<String>,
    result: Option<StepOutcome>,
}

impl From<v1::Step> for Step {
    fn from(step: v1::Step) -> Self {
        Self {
            state: names::step_state(step.state()),
            task_id: step.task_id,
            name: step.name,
            handler: step.handler,
            dependencies: step.dependencies,
            unmet_dependencies: step.unmet_dependencies,
            attempt: step.attempt,
            max_attempts: step.max_attempts,
            retry_time: names::time(step.retry_time.as_ref()),
            result: step.result.map(Into::into),
        }
    }
}

#[derive(Serialize)]
struct StepOutcome {
    payload: Option<Payload>,
    error: Option<StepError>,
    attempt: i32,
    time: Option<String>,
}

impl From<v1::StepOutcome> for StepOutcome {
    fn from(outcome: v1::StepOutcome) -> Self {
        Self {
            payload: outcome.payload.map(Payload),
            error: outcome.error.map(Into::into),
            attempt: outcome.attempt,
            time: names::time(outcome.time.as_ref()),
        }
    }
}

#[derive(Serialize)]
struct StepError {
    r#type: String,
    message: String,
    retryable: bool,
}

impl From<v1::StepError> for StepError {
    fn from(error: v1::StepError) -> Self {
        let v1::StepError { r#type, message, retryable } = error;
        Self { r#type, message, retryable }
    }
}

/// See `StepExplanation`.
#[derive(Serialize)]
pub(crate) struct StepExplanation {
    task_id: String,
    step_name: String,
    state: String,
    reasons: Vec<StepReason>,
}

impl From<v1::StepExplanation> for StepExplanation {
    fn from(explanation: v1::StepExplanation) -> Self {
        Self {
            state: names::step_state(explanation.state()),
            task_id: explanation.task_id,
            step_name: explanation.step_name,
            reasons: explanation.reasons.into_iter().map(Into::into).collect(),
        }
    }
}

#[derive(Serialize)]
struct StepReason {
    kind: String,
    description: String,
    remedy: String,
    dependencies: Vec<UnmetDependency>,
    since_time: Option<String>,
    until_time: Option<String>,
    worker_id: String,
    handler: String,
    queue_position: i64,
    pause: Option<Pause>,
    limit: Option<LimitUse>,
}

impl From<v1::StepReason> for StepReason {
    fn from(reason: v1::StepReason) -> Self {
        Self {
            kind: names::reason(reason.kind()),
            description: reason.description,
            remedy: reason.remedy,
            dependencies: reason.dependencies.into_iter().map(Into::into).collect(),
            since_time: names::time(reason.since_time.as_ref()),
            until_time: names::time(reason.until_time.as_ref()),
            worker_id: reason.worker_id,
            handler: reason.handler,
            queue_position: reason.queue_position,
            pause: reason.pause.map(Into::into),
            limit: reason.limit.map(Into::into),
        }
    }
}

#[derive(Serialize)]
struct UnmetDependency {
    step_name: String,
    state: String,
}

impl From<v1::UnmetDependency> for UnmetDependency {
    fn from(unmet: v1::UnmetDependency) -> Self {
        Self { state: names::step_state(unmet.state()), step_name: unmet.step_name }
    }
}

#[derive(Serialize)]
struct LimitUse {
    name: String,
    value: String,
    max_concurrent: i32,
    running: i32,
    rate_count: i32,
    rate_seconds: i64,
    begun: i32,
    holders: Vec<LimitHolder>,
}

impl From<v1::LimitUse> for LimitUse {
    fn from(of: v1::LimitUse) -> Self {
        Self {
            name: of.name,
            value: of.value,
            max_concurrent: of.max_concurrent,
            running: of.running,
            rate_count: of.rate_count,
            rate_seconds: of.rate_time.map_or(0, |time| time.seconds),
            begun: of.begun,
            holders: of.holders.into_iter().map(Into::into).collect(),
        }
    }
}

#[derive(Serialize)]
struct LimitHolder {
    task_id: String,
    step_name: String,
}

impl From<v1::LimitHolder> for LimitHolder {
    fn from(of: v1::LimitHolder) -> Self {
        Self { task_id: of.task_id, step_name: of.step_name }
    }
}

#[derive(Serialize)]
struct Pause {
    operator: String,
    reason: String,
    time: Option<String>,
    template: Option<TemplateRef>,
}

impl From<v1::Pause> for Pause {
    fn from(pause: v1::Pause) -> Self {
        Self {
            time: names::time(pause.time.as_ref()),
            operator: pause.operator,
            reason: pause.reason,
            template: pause.template.map(Into::into),
        }
    }
}

/// See `RepairTaskResponse`.
#[derive(Serialize)]
pub(crate) struct Repaired {
    task: Option<Task>,
    step_names: Vec<String>,
}

impl From<v1::RepairTaskResponse> for Repaired {
    fn from(repaired: v1::RepairTaskResponse) -> Self {
        Self { task: repaired.task.map(Into::into), step_names: repaired.step_names }
    }
}

/// See `RepairedTask`.
#[derive(Serialize)]
pub(crate) struct RepairedTask {
    task_id: String,
    step_names: Vec<String>,
    skipped: String,
}

impl From<v1::RepairedTask> for RepairedTask {
    fn from(repaired: v1::RepairedTask) -> Self {
        let v1::RepairedTask { task_id, step_names, skipped } = repaired;
        Self { task_id, step_names, skipped }
    }
}

/// See `Template`.
#[derive(Serialize)]
pub(crate) struct Template {
    r#ref: Option<TemplateRef>,
    description: String,
    yaml: String,
    digest: String,
    register_time: Option<String>,
    environment: String,
    steps: Vec<TemplateStep>,
}

impl From<v1::Template> for Template {
    fn from(template: v1::Template) -> Self {
        Self {
            r#ref: template.r#ref.map(Into::into),
            description: template.description,
            yaml: template.yaml,
            digest: template.digest,
            register_time: names::time(template.register_time.as_ref()),
            environment: template.environment,
            steps: template.steps.into_iter().map(Into::into).collect(),
        }
    }
}

#[derive(Serialize)]
struct TemplateStep {
    name: String,
    handler: String,
    dependencies: Vec<String>,
    queue: String,
    r#type: String,
}

impl From<v1::TemplateStep> for TemplateStep {
    fn from(step: v1::TemplateStep) -> Self {
        let r#type = names::step_type(step.r#type());
        let v1::TemplateStep { name, handler, dependencies, queue, .. } = step;
        Self { name, handler, dependencies, queue, r#type }
    }
}

/// A file of `template validate`.
#[derive(Serialize)]
pub(crate) struct Checked {
    pub(crate) file: String,
    pub(crate) violations: Vec<Violation>,
}

impl Checked {
    pub(crate) fn new(file: String, violations: Vec<v1::TemplateViolation>) -> Self {
        let violation =
            |it: v1::TemplateViolation| Violation { path: it.path, description: it.description };
        Self { file, violations: violations.into_iter().map(violation).collect() }
    }

    pub(crate) fn is_valid(&self) -> bool {
        self.violations.is_empty()
    }
}

/// What is wrong, and where.
#[derive(Serialize)]
pub(crate) struct Violation {
    path: String,
    description: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.description)
    }
}

/// See `WatchTaskResponse`.
#[derive(Serialize)]
pub(crate) struct Event {
    cursor: String,
    time: Option<String>,
    actor: String,
    #[serde(flatten)]
    transition: Option<Transition>,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Transition {
    Task { state: String, event: String, reason: String },
    Step { step_name: String, state: String, event: String, attempt: i32, reason: String },
}

impl From<v1::WatchTaskResponse> for Event {
    fn from(event: v1::WatchTaskResponse) -> Self {
        let time = names::time(event.time.as_ref());
        let transition = event.transition.map(Into::into);
        Self { cursor: event.cursor, time, actor: event.actor, transition }
    }
}

impl From<v1::watch_task_response::Transition> for Transition {
    fn from(transition: v1::watch_task_response::Transition) -> Self {
        match transition {
            v1::watch_task_response::Transition::Task(task) => {
                let state = names::task_state(task.state());
                Self::Task { state, event: task.event, reason: task.reason }
            }
            v1::watch_task_response::Transition::Step(step) => Self::Step {
                state: names::step_state(step.state()),
                step_name: step.step_name,
                event: step.event,
                attempt: step.attempt,
                reason: step.reason,
            },
        }
    }
}

/// See `Transition`.
#[derive(Serialize)]
pub(crate) struct Past {
    time: Option<String>,
    actor: String,
    reason: String,
    events: Vec<String>,
    duration: Option<String>,
    #[serde(flatten)]
    moved: Option<Moved>,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Moved {
    Task { from: String, to: String },
    Step { step_name: String, from: String, to: String, attempt: i32 },
}

impl From<v1::Transition> for Past {
    fn from(transition: v1::Transition) -> Self {
        Self {
            time: names::time(transition.time.as_ref()),
            actor: transition.actor,
            reason: transition.reason,
            events: transition.events,
            duration: names::duration(transition.duration.as_ref()),
            moved: transition.moved.map(Into::into),
        }
    }
}

impl From<v1::transition::Moved> for Moved {
    fn from(moved: v1::transition::Moved) -> Self {
        match moved {
            v1::transition::Moved::Task(task) => Self::Task {
                from: names::task_state(task.from()),
                to: names::task_state(task.to()),
            },
            v1::transition::Moved::Step(step) => Self::Step {
                from: names::step_state(step.from()),
                to: names::step_state(step.to()),
                step_name: step.step_name,
                attempt: step.attempt,
            },
        }
    }
}

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
    correlation_id: String,
    trace: Option<Trace>,
}

impl From<v1::DomainEvent> for DomainEvent {
    fn from(event: v1::DomainEvent) -> Self {
        let (success, failure) = match event.outcome {
            Some(v1::domain_event::Outcome::Success(payload)) => (Some(Payload(payload)), None),
            Some(v1::domain_event::Outcome::Failure(error)) => (None, Some(error.into())),
            None => (None, None),
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
            correlation_id: event.correlation_id,
            trace: event.trace.map(Into::into),
        }
    }
}

/// See `GetHealthResponse`.
#[derive(Serialize)]
pub(crate) struct Health {
    ready: bool,
    services: Vec<ServiceHealth>,
}

#[derive(Serialize)]
struct ServiceHealth {
    service: String,
    ready: bool,
    replicas: i32,
    reason: String,
    version: String,
}

impl From<v1::GetHealthResponse> for Health {
    fn from(health: v1::GetHealthResponse) -> Self {
        let service = |it: v1::ServiceHealth| {
            let v1::ServiceHealth { service, ready, replicas, reason, version } = it;
            ServiceHealth { service, ready, replicas, reason, version }
        };
        Self { ready: health.ready, services: health.services.into_iter().map(service).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_shown_as_the_contract_names_it_and_to_the_last_digit() {
        let task = v1::Task {
            task_id: "01890000-0000-7000-8000-000000000000".to_owned(),
            state: v1::TaskState::StepsInProcess.into(),
            context: Some(v1::Payload {
                content_type: "application/json".to_owned(),
                data: r#"{"n": 12345678901234567890123}"#.into(),
                ..v1::Payload::default()
            }),
            ..v1::Task::default()
        };
        let json = serde_json::to_string(&Task::from(task)).unwrap();
        assert!(json.contains(r#""state":"steps_in_process""#), "{json}");
        assert!(json.contains(r#""data":{"n": 12345678901234567890123}"#), "{json}");
        assert!(!json.contains("step_list"), "{json}");
    }

    #[test]
    fn an_event_says_whether_it_is_of_the_task_or_of_a_step() {
        let moved = v1::TaskTransition {
            state: v1::TaskState::Complete.into(),
            event: "AllStepsSuccessful".to_owned(),
            reason: String::new(),
        };
        let event = v1::WatchTaskResponse {
            cursor: "c".to_owned(),
            transition: Some(v1::watch_task_response::Transition::Task(moved)),
            ..v1::WatchTaskResponse::default()
        };
        assert_eq!(
            serde_json::to_string(&Event::from(event)).unwrap(),
            r#"{"cursor":"c","time":null,"actor":"","task":{"state":"complete","event":"AllStepsSuccessful","reason":""}}"#
        );
    }
}
