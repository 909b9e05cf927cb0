//! Why a step does not run.

use serde::Serialize;
use tasker_client::v1;

use super::shared::TemplateRef;
use crate::names;

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
