//! Steps, and what they came to.

use std::collections::BTreeMap;

use serde::Serialize;
use tasker_client::v1;

use super::shared::{Payload, StepError};
use crate::names;

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
    expanded: Option<Expanded>,
    checkpoint: Option<SavedCheckpoint>,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Expanded {
    CreateSteps(Vec<String>),
    NoBranches,
    BatchCount(i32),
    NoBatches,
}

impl From<v1::expanded::Outcome> for Expanded {
    fn from(outcome: v1::expanded::Outcome) -> Self {
        match outcome {
            v1::expanded::Outcome::CreateSteps(chosen) => Self::CreateSteps(chosen.step_names),
            v1::expanded::Outcome::NoBranches(_) => Self::NoBranches,
            v1::expanded::Outcome::BatchCount(count) => Self::BatchCount(count),
            v1::expanded::Outcome::NoBatches(_) => Self::NoBatches,
        }
    }
}

#[derive(Serialize)]
struct SavedCheckpoint {
    counters: BTreeMap<String, i64>,
    save_time: Option<String>,
    attempt: i32,
    size_bytes: i32,
}

impl From<v1::SavedCheckpoint> for SavedCheckpoint {
    fn from(saved: v1::SavedCheckpoint) -> Self {
        Self {
            save_time: names::time(saved.save_time.as_ref()),
            counters: saved.counters.into_iter().collect(),
            attempt: saved.attempt,
            size_bytes: saved.size_bytes,
        }
    }
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
            expanded: step.expanded.and_then(|expanded| expanded.outcome).map(Into::into),
            checkpoint: step.checkpoint.map(Into::into),
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
