//! What callers are told when the database or a stage says no. SQL stays in the log.

use std::error::Error as _;

use tasker_api::status;
use tasker_domain::{ErrorKind, TaskId};
use tasker_stack::gather::Refused;
use tasker_store::StoreError;
use tonic::{Code, Status};

/// A store's error for a caller; logged here, once.
#[must_use]
pub fn store_error(error: &StoreError) -> Status {
    let source = error.source().map(|source| format!(": {source}")).unwrap_or_default();
    match error.kind() {
        ErrorKind::Unavailable => {
            tracing::warn!("{error}{source}");
            status(ErrorKind::Unavailable, "the database is not available: try again")
        }
        kind => {
            tracing::error!("{error}{source}");
            status(kind, "the database did not take it: the log of the service says why")
        }
    }
}

/// There is nothing left that could be worked on again.
#[must_use]
pub fn purged(task: TaskId) -> Status {
    status::with_reason(
        Code::FailedPrecondition,
        "TASK_PURGED",
        [("task_id", task.to_string())],
        format!("what task {task} worked on has been purged: submit another"),
    )
}

/// A stage's refusal for a caller.
#[must_use]
pub fn refused(refused: &Refused<StoreError>) -> Status {
    match refused {
        Refused::Overloaded => status(ErrorKind::Overloaded, "too many wait: try again"),
        Refused::Failed(error) => store_error(error),
        Refused::Panicked => status(ErrorKind::Internal, "the request could not be worked off"),
        Refused::Closed => status(ErrorKind::Unavailable, "the service is ending: try again"),
    }
}
