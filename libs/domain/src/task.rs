//! The task machine.

use std::{fmt, str::FromStr};

use crate::counts::StepCounts;

/// Where a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TaskState {
    /// Just born.
    Pending,
    /// Its steps are being laid out.
    Initializing,
    /// Some steps are ready and not yet in a queue.
    EnqueuingSteps,
    /// Steps wait for a worker or run at one.
    StepsInProcess,
    /// For a moment after each result; for longer only while the finalizer has not looked yet.
    EvaluatingResults,
    /// Nothing moves until something outside happens: a pause or a limit holds whatever could.
    WaitingForDependencies,
    /// Nothing moves until a back-off is over.
    WaitingForRetry,
    /// A step failed for good and nothing else can move.
    BlockedByFailures,
    /// Ended: every step is satisfied.
    Complete,
    /// Ended: failed for good.
    Error,
    /// Ended: somebody cancelled it.
    Cancelled,
    /// Ended: an operator settled it outside.
    ResolvedManually,
}

/// What happens to a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TaskEvent {
    /// Its birth begins.
    Start,
    /// Some of its steps may be enqueued.
    ReadyStepsFound,
    /// None of its steps can move: those that are ready are held.
    NoDependenciesReady,
    /// It has no steps.
    NoStepsFound,
    /// All ready steps are in a queue or at a worker.
    StepsEnqueued,
    /// Its steps can never be enqueued.
    EnqueueFailed,
    /// A step has succeeded.
    StepCompleted,
    /// A step has failed, for now or for good.
    StepFailed,
    /// An operator has repaired a step.
    StepResolved,
    /// The last step has succeeded.
    AllStepsCompleted,
    /// What it waited for has come.
    DependenciesReady,
    /// An operator repaired a step after the task had failed.
    Reset,
    /// Steps are still enqueued or running.
    StepsStillInProcess,
    /// Steps wait for their back-off.
    RetryPending,
    /// Every step is satisfied.
    AllStepsSuccessful,
    /// A step failed for good and nothing else can move.
    PermanentFailure,
    /// A back-off is over, or what was held may be enqueued.
    RetryReady,
    /// An operator has settled it outside.
    ManualResolution,
    /// An operator or a limit has given it up.
    GiveUp,
    /// Somebody cancels it.
    Cancel,
    /// It has taken longer than it may.
    Timeout,
}

/// The event may not come in this state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a task that is {from} does not take {event:?}")]
pub struct IllegalTransition {
    /// Where the task stands.
    pub from: TaskState,
    /// What does not fit.
    pub event: TaskEvent,
}

impl TaskState {
    /// Every state.
    pub const ALL: [Self; 12] = [
        Self::Pending,
        Self::Initializing,
        Self::EnqueuingSteps,
        Self::StepsInProcess,
        Self::EvaluatingResults,
        Self::WaitingForDependencies,
        Self::WaitingForRetry,
        Self::BlockedByFailures,
        Self::Complete,
        Self::Error,
        Self::Cancelled,
        Self::ResolvedManually,
    ];

    /// Returns the state that follows `event`, or why there is none.
    ///
    /// This is the whole task machine.
    ///
    /// # Errors
    /// The event may not come in this state.
    pub fn after(self, event: TaskEvent) -> Result<Self, IllegalTransition> {
        use TaskEvent as On;
        use TaskState::*;

        // No `_` row: a new event must not compile until someone has decided when it may come.
        let (legal, next) = match event {
            On::Start => (self == Pending, Initializing),
            On::ReadyStepsFound => {
                (self == Initializing || self == EvaluatingResults, EnqueuingSteps)
            }
            // From EnqueuingSteps, as the last step that could be enqueued is held.
            On::NoDependenciesReady => (
                matches!(self, Initializing | EnqueuingSteps | EvaluatingResults),
                WaitingForDependencies,
            ),
            On::NoStepsFound => (self == Initializing, Complete),
            On::StepsEnqueued => (self == EnqueuingSteps, StepsInProcess),
            On::EnqueueFailed => (self == EnqueuingSteps, Error),
            On::StepCompleted | On::StepFailed | On::AllStepsCompleted | On::DependenciesReady => {
                (self.awaits_results(), EvaluatingResults)
            }
            On::StepResolved => {
                (self.awaits_results() || self == BlockedByFailures, EvaluatingResults)
            }
            On::Reset => (self == Error, EvaluatingResults),
            On::StepsStillInProcess => (self == EvaluatingResults, StepsInProcess),
            On::RetryPending => {
                (self == EnqueuingSteps || self == EvaluatingResults, WaitingForRetry)
            }
            On::AllStepsSuccessful => (self == EvaluatingResults, Complete),
            On::PermanentFailure => (self == EvaluatingResults, BlockedByFailures),
            On::RetryReady => (
                matches!(self, StepsInProcess | WaitingForRetry | WaitingForDependencies),
                EnqueuingSteps,
            ),
            On::ManualResolution => (self == BlockedByFailures, ResolvedManually),
            On::GiveUp => (self == BlockedByFailures, Error),
            On::Cancel => (!self.is_end(), Cancelled),
            On::Timeout => (!self.is_end(), Error),
        };
        if legal { Ok(next) } else { Err(IllegalTransition { from: self, event }) }
    }

    /// Whether nothing happens to it any more, unless an operator repairs it.
    #[must_use]
    pub fn is_end(self) -> bool {
        match self {
            Self::Complete | Self::Error | Self::Cancelled | Self::ResolvedManually => true,
            Self::Pending
            | Self::Initializing
            | Self::EnqueuingSteps
            | Self::StepsInProcess
            | Self::EvaluatingResults
            | Self::WaitingForDependencies
            | Self::WaitingForRetry
            | Self::BlockedByFailures => false,
        }
    }

    /// Whether a step's result moves it.
    #[must_use]
    pub fn awaits_results(self) -> bool {
        match self {
            Self::EnqueuingSteps
            | Self::StepsInProcess
            | Self::WaitingForDependencies
            | Self::WaitingForRetry => true,
            Self::Pending
            | Self::Initializing
            | Self::EvaluatingResults
            | Self::BlockedByFailures
            | Self::Complete
            | Self::Error
            | Self::Cancelled
            | Self::ResolvedManually => false,
        }
    }

    /// As the database and people write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Initializing => "initializing",
            Self::EnqueuingSteps => "enqueuing_steps",
            Self::StepsInProcess => "steps_in_process",
            Self::EvaluatingResults => "evaluating_results",
            Self::WaitingForDependencies => "waiting_for_dependencies",
            Self::WaitingForRetry => "waiting_for_retry",
            Self::BlockedByFailures => "blocked_by_failures",
            Self::Complete => "complete",
            Self::Error => "error",
            Self::Cancelled => "cancelled",
            Self::ResolvedManually => "resolved_manually",
        }
    }
}

impl TaskEvent {
    /// Every event.
    pub const ALL: [Self; 21] = [
        Self::Start,
        Self::ReadyStepsFound,
        Self::NoDependenciesReady,
        Self::NoStepsFound,
        Self::StepsEnqueued,
        Self::EnqueueFailed,
        Self::StepCompleted,
        Self::StepFailed,
        Self::StepResolved,
        Self::AllStepsCompleted,
        Self::DependenciesReady,
        Self::Reset,
        Self::StepsStillInProcess,
        Self::RetryPending,
        Self::AllStepsSuccessful,
        Self::PermanentFailure,
        Self::RetryReady,
        Self::ManualResolution,
        Self::GiveUp,
        Self::Cancel,
        Self::Timeout,
    ];

    /// What the counts of a task's steps say after a result, in the order that decides. What is held runs on
    /// once it is let go, so a task is blocked only when nothing is.
    #[must_use]
    pub fn judged(counts: &StepCounts) -> Self {
        if counts.to_enqueue() > 0 {
            Self::ReadyStepsFound
        } else if counts.in_flight > 0 {
            Self::StepsStillInProcess
        } else if counts.waiting_for_retry > 0 {
            Self::RetryPending
        } else if counts.held > 0 {
            Self::NoDependenciesReady
        } else if counts.failed > 0 {
            Self::PermanentFailure
        } else if counts.satisfied == counts.total {
            Self::AllStepsSuccessful
        } else {
            Self::NoDependenciesReady
        }
    }
}

impl TaskEvent {
    /// The state that it leads to, wherever it comes from.
    #[must_use]
    pub fn leads_to(self) -> TaskState {
        let next = |state: TaskState| state.after(self).ok();
        TaskState::ALL.into_iter().find_map(next).expect("every event may come in some state")
    }
}

/// Text that names no event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a task event")]
pub struct UnknownEvent(String);

impl FromStr for TaskEvent {
    type Err = UnknownEvent;

    fn from_str(text: &str) -> Result<Self, UnknownEvent> {
        let found = Self::ALL.into_iter().find(|event| format!("{event:?}") == text);
        found.ok_or_else(|| UnknownEvent(text.to_owned()))
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Text that names no state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a task state")]
pub struct UnknownState(String);

impl FromStr for TaskState {
    type Err = UnknownState;

    fn from_str(text: &str) -> Result<Self, UnknownState> {
        let found = Self::ALL.into_iter().find(|state| state.as_str() == text);
        found.ok_or_else(|| UnknownState(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_leads_to_one_state_wherever_it_comes_from() {
        for event in TaskEvent::ALL {
            let all = TaskState::ALL.into_iter().filter_map(|state| state.after(event).ok());
            assert!(all.into_iter().all(|next| next == event.leads_to()), "{event:?}");
            assert_eq!(format!("{event:?}").parse(), Ok(event));
        }
    }

    #[test]
    fn an_end_is_left_only_by_a_repair() {
        for state in TaskState::ALL.into_iter().filter(|state| state.is_end()) {
            for event in TaskEvent::ALL {
                let repaired = state == TaskState::Error && event == TaskEvent::Reset;
                assert_eq!(state.after(event).is_ok(), repaired, "{state} + {event:?}");
            }
        }
    }

    #[test]
    fn every_state_is_reached_from_pending() {
        let mut reached = vec![TaskState::Pending];
        let mut next = 0;
        while let Some(state) = reached.get(next).copied() {
            next += 1;
            for state in TaskEvent::ALL.into_iter().filter_map(|event| state.after(event).ok()) {
                if !reached.contains(&state) {
                    reached.push(state);
                }
            }
        }
        assert_eq!(reached.len(), TaskState::ALL.len());
    }

    #[test]
    fn ready_steps_decide_before_running_ones_then_held_ones_and_failures_last() {
        let counts = StepCounts {
            total: 6,
            ready: 2,
            held: 1,
            in_flight: 1,
            waiting_for_retry: 1,
            failed: 1,
            satisfied: 1,
        };
        assert_eq!(TaskEvent::judged(&counts), TaskEvent::ReadyStepsFound);
        let counts = StepCounts { ready: 1, ..counts };
        assert_eq!(TaskEvent::judged(&counts), TaskEvent::StepsStillInProcess);
        let counts = StepCounts { in_flight: 0, ..counts };
        assert_eq!(TaskEvent::judged(&counts), TaskEvent::RetryPending);
        let counts = StepCounts { waiting_for_retry: 0, ..counts };
        assert_eq!(TaskEvent::judged(&counts), TaskEvent::NoDependenciesReady);
        let counts = StepCounts { ready: 0, held: 0, ..counts };
        assert_eq!(TaskEvent::judged(&counts), TaskEvent::PermanentFailure);
        let counts = StepCounts { failed: 0, ..counts };
        assert_eq!(TaskEvent::judged(&counts), TaskEvent::NoDependenciesReady);
        let counts = StepCounts { satisfied: 6, ..counts };
        assert_eq!(TaskEvent::judged(&counts), TaskEvent::AllStepsSuccessful);
    }
}
