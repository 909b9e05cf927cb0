//! Which states of a task ask nothing more of a client.

use tasker_api::v1::TaskState;

/// Whether a task in `state` has ended: it will never move again by itself.
#[must_use]
pub const fn has_ended(state: TaskState) -> bool {
    match state {
        TaskState::Complete
        | TaskState::Error
        | TaskState::Cancelled
        | TaskState::ResolvedManually => true,
        TaskState::Unspecified
        | TaskState::Pending
        | TaskState::Initializing
        | TaskState::EnqueuingSteps
        | TaskState::StepsInProcess
        | TaskState::EvaluatingResults
        | TaskState::WaitingForDependencies
        | TaskState::WaitingForRetry
        | TaskState::BlockedByFailures => false,
    }
}

/// Whether a task in `state` has ended, or moves only when an operator acts.
#[must_use]
pub const fn has_settled(state: TaskState) -> bool {
    has_ended(state) || matches!(state, TaskState::BlockedByFailures)
}
