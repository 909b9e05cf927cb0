//! States on the wire and in the domain.

use tasker_domain::{StepCounts, StepState, TaskState, template::Kind};

use crate::{Invalid, v1};

impl From<TaskState> for v1::TaskState {
    fn from(state: TaskState) -> Self {
        match state {
            TaskState::Pending => Self::Pending,
            TaskState::Initializing => Self::Initializing,
            TaskState::EnqueuingSteps => Self::EnqueuingSteps,
            TaskState::StepsInProcess => Self::StepsInProcess,
            TaskState::EvaluatingResults => Self::EvaluatingResults,
            TaskState::WaitingForDependencies => Self::WaitingForDependencies,
            TaskState::WaitingForRetry => Self::WaitingForRetry,
            TaskState::BlockedByFailures => Self::BlockedByFailures,
            TaskState::Complete => Self::Complete,
            TaskState::Error => Self::Error,
            TaskState::Cancelled => Self::Cancelled,
            TaskState::ResolvedManually => Self::ResolvedManually,
        }
    }
}

impl From<StepState> for v1::StepState {
    fn from(state: StepState) -> Self {
        match state {
            StepState::Pending => Self::Pending,
            StepState::Enqueued => Self::Enqueued,
            StepState::InProgress => Self::InProgress,
            StepState::EnqueuedForOrchestration => Self::EnqueuedForOrchestration,
            StepState::EnqueuedAsErrorForOrchestration => Self::EnqueuedAsErrorForOrchestration,
            StepState::WaitingForRetry => Self::WaitingForRetry,
            StepState::Complete => Self::Complete,
            StepState::Error => Self::Error,
            StepState::Cancelled => Self::Cancelled,
            StepState::ResolvedManually => Self::ResolvedManually,
        }
    }
}

impl From<Kind> for v1::StepType {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Standard => Self::Standard,
            Kind::Decision => Self::Decision,
            Kind::DeferredConvergence => Self::DeferredConvergence,
            Kind::Batchable(_) => Self::Batchable,
            Kind::BatchWorker => Self::BatchWorker,
        }
    }
}

impl From<StepCounts> for v1::StepCounts {
    fn from(counts: StepCounts) -> Self {
        Self {
            total: counts.total,
            ready: counts.ready,
            in_flight: counts.in_flight,
            waiting_for_retry: counts.waiting_for_retry,
            failed: counts.failed,
            satisfied: counts.satisfied,
        }
    }
}

/// Reads a list of task states.
///
/// # Errors
/// One of them is unspecified or unknown.
pub fn task_states(path: &str, states: &[i32]) -> Result<Vec<TaskState>, Invalid> {
    let read = |(index, number): (usize, &i32)| {
        let known = v1::TaskState::try_from(*number).ok();
        let state = known.and_then(|wire| {
            TaskState::ALL.into_iter().find(|state| v1::TaskState::from(*state) == wire)
        });
        state.ok_or_else(|| Invalid::field(format!("{path}[{index}]"), "not a task state"))
    };
    states.iter().enumerate().map(read).collect()
}
