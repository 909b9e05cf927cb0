//! Handlers that do what their task's context tells them, attempt by attempt.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};
use tasker_worker::{HandlerError, Registry, StepContext};
use tokio::time::sleep;

/// What the steps of a task are told, by name: for each attempt a line.
pub type Script = BTreeMap<String, Vec<Line>>;

/// What a handler does in one attempt.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Line {
    /// How long it works, in ms.
    pub works_ms: u64,
    /// How it ends.
    pub end: End,
}

/// How an attempt ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// With the number of its attempt as its result.
    Success,
    /// With the number of its attempt, but negative: not what a schema asks for.
    Misfit,
    /// With a failure that may be tried again, no sooner than this, in ms.
    Retryable {
        /// 0: as the step's template says.
        retry_after_ms: u64,
    },
    /// With a failure that may not.
    Permanent,
}

/// The one handler: `follow`.
#[must_use]
pub fn scripted() -> Registry {
    let mut registry = Registry::new();
    registry.register_fn("follow", |step: StepContext| async move {
        let line = line(&step)?;
        sleep(Duration::from_millis(line.works_ms)).await;
        match line.end {
            End::Success => Ok(step.attempt()),
            End::Misfit => Ok(-step.attempt()),
            End::Retryable { retry_after_ms } => {
                let failure = HandlerError::retryable("told_to", "as the script says");
                Err(failure.after(Duration::from_millis(retry_after_ms)))
            }
            End::Permanent => Err(HandlerError::permanent("told_to", "as the script says")),
        }
    });
    registry
}

/// What this attempt is told.
///
/// # Errors
/// The task has no script for it.
pub fn line(step: &StepContext) -> Result<Line, HandlerError> {
    let mut script = step.input::<Script>()?;
    let nth = usize::try_from(step.attempt() - 1).unwrap_or_default();
    let lines = script.remove(step.step_name()).unwrap_or_default();
    let none = || HandlerError::permanent("no_line", "the script has no line for this attempt");
    lines.get(nth).copied().ok_or_else(none)
}
