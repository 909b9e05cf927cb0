//! The step machine.

use std::{fmt, str::FromStr};

/// Where a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StepState {
    /// Waits for its dependencies, or to be enqueued.
    Pending,
    /// Waits for a worker.
    Enqueued,
    /// At a worker, under a lease.
    InProgress,
    /// Its good result waits to be judged.
    EnqueuedForOrchestration,
    /// Its failure waits to be judged.
    EnqueuedAsErrorForOrchestration,
    /// Failed, and will be tried again.
    WaitingForRetry,
    /// Ended well.
    Complete,
    /// Failed for good.
    Error,
    /// Ended with its task.
    Cancelled,
    /// An operator settled it without a result.
    ResolvedManually,
}

/// What happens to a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StepEvent {
    /// Its dependencies are met: it goes to a queue.
    Enqueue,
    /// A worker gets it: attempt + 1, a new delivery.
    Start,
    /// It comes back unbegun: attempt − 1.
    Release,
    /// Its worker is lost, or it took too long.
    LeaseExpired,
    /// A good result has come.
    EnqueueForOrchestration,
    /// A failure has come.
    EnqueueAsErrorForOrchestration,
    /// The good result is taken.
    Complete,
    /// It failed and may be tried again.
    WaitForRetry,
    /// It failed for good.
    Fail,
    /// Its back-off is over.
    Retry,
    /// An operator gives it another life: attempts back to 0.
    ResetForRetry,
    /// Its failed task is repaired.
    Reopen,
    /// Its task ends.
    Cancel,
    /// An operator gives its result.
    CompleteManually,
    /// An operator settles it without a result.
    ResolveManually,
}

/// The event may not come in this state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a step that is {from} does not take {event:?}")]
pub struct IllegalTransition {
    /// Where the step stands.
    pub from: StepState,
    /// What does not fit.
    pub event: StepEvent,
}

impl StepState {
    /// Every state.
    pub const ALL: [Self; 10] = [
        Self::Pending,
        Self::Enqueued,
        Self::InProgress,
        Self::EnqueuedForOrchestration,
        Self::EnqueuedAsErrorForOrchestration,
        Self::WaitingForRetry,
        Self::Complete,
        Self::Error,
        Self::Cancelled,
        Self::ResolvedManually,
    ];

    /// Returns the state that follows `event`, or why there is none.
    ///
    /// This is the whole step machine.
    ///
    /// # Errors
    /// The event may not come in this state.
    pub fn after(self, event: StepEvent) -> Result<Self, IllegalTransition> {
        use StepEvent as On;
        use StepState::*;

        // No `_` row: a new event must not compile until someone has decided when it may come.
        let (legal, next) = match event {
            On::Enqueue => (self == Pending, Enqueued),
            On::Start => (self == Enqueued, InProgress),
            On::Release => (self == InProgress, Enqueued),
            On::LeaseExpired | On::EnqueueAsErrorForOrchestration => {
                (self == InProgress, EnqueuedAsErrorForOrchestration)
            }
            On::EnqueueForOrchestration => (self == InProgress, EnqueuedForOrchestration),
            On::Complete => (self == EnqueuedForOrchestration, Complete),
            On::WaitForRetry => (self == EnqueuedAsErrorForOrchestration, WaitingForRetry),
            On::Fail => (self.is_before_start() || self.is_being_judged(), Error),
            On::Retry => (self == WaitingForRetry, Pending),
            On::ResetForRetry => (self == Error, Pending),
            On::Reopen => (self == Cancelled, Pending),
            On::Cancel => (self.is_open() || self == Error, Cancelled),
            On::CompleteManually => (self.is_open() || self == Error, Complete),
            On::ResolveManually => (self.is_open() || self == Error, ResolvedManually),
        };
        if legal { Ok(next) } else { Err(IllegalTransition { from: self, event }) }
    }

    /// Whether it has not ended.
    #[must_use]
    pub fn is_open(self) -> bool {
        match self {
            Self::Pending
            | Self::Enqueued
            | Self::InProgress
            | Self::EnqueuedForOrchestration
            | Self::EnqueuedAsErrorForOrchestration
            | Self::WaitingForRetry => true,
            Self::Complete | Self::Error | Self::Cancelled | Self::ResolvedManually => false,
        }
    }

    /// Whether no worker has it yet, in this attempt.
    #[must_use]
    pub fn is_before_start(self) -> bool {
        match self {
            Self::Pending | Self::Enqueued => true,
            Self::InProgress
            | Self::EnqueuedForOrchestration
            | Self::EnqueuedAsErrorForOrchestration
            | Self::WaitingForRetry
            | Self::Complete
            | Self::Error
            | Self::Cancelled
            | Self::ResolvedManually => false,
        }
    }

    /// Whether its result waits to be judged.
    #[must_use]
    pub fn is_being_judged(self) -> bool {
        match self {
            Self::EnqueuedForOrchestration | Self::EnqueuedAsErrorForOrchestration => true,
            Self::Pending
            | Self::Enqueued
            | Self::InProgress
            | Self::WaitingForRetry
            | Self::Complete
            | Self::Error
            | Self::Cancelled
            | Self::ResolvedManually => false,
        }
    }

    /// Whether its dependants need not wait for it any more.
    #[must_use]
    pub fn satisfies_dependants(self) -> bool {
        match self {
            Self::Complete | Self::ResolvedManually => true,
            Self::Pending
            | Self::Enqueued
            | Self::InProgress
            | Self::EnqueuedForOrchestration
            | Self::EnqueuedAsErrorForOrchestration
            | Self::WaitingForRetry
            | Self::Error
            | Self::Cancelled => false,
        }
    }

    /// As the database and people write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Enqueued => "enqueued",
            Self::InProgress => "in_progress",
            Self::EnqueuedForOrchestration => "enqueued_for_orchestration",
            Self::EnqueuedAsErrorForOrchestration => "enqueued_as_error_for_orchestration",
            Self::WaitingForRetry => "waiting_for_retry",
            Self::Complete => "complete",
            Self::Error => "error",
            Self::Cancelled => "cancelled",
            Self::ResolvedManually => "resolved_manually",
        }
    }
}

impl StepEvent {
    /// Every event.
    pub const ALL: [Self; 15] = [
        Self::Enqueue,
        Self::Start,
        Self::Release,
        Self::LeaseExpired,
        Self::EnqueueForOrchestration,
        Self::EnqueueAsErrorForOrchestration,
        Self::Complete,
        Self::WaitForRetry,
        Self::Fail,
        Self::Retry,
        Self::ResetForRetry,
        Self::Reopen,
        Self::Cancel,
        Self::CompleteManually,
        Self::ResolveManually,
    ];
}

impl StepEvent {
    /// The state that it leads to, wherever it comes from.
    #[must_use]
    pub fn leads_to(self) -> StepState {
        let next = |state: StepState| state.after(self).ok();
        StepState::ALL.into_iter().find_map(next).expect("every event may come in some state")
    }
}

/// Text that names no event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a step event")]
pub struct UnknownEvent(String);

impl FromStr for StepEvent {
    type Err = UnknownEvent;

    fn from_str(text: &str) -> Result<Self, UnknownEvent> {
        let found = Self::ALL.into_iter().find(|event| format!("{event:?}") == text);
        found.ok_or_else(|| UnknownEvent(text.to_owned()))
    }
}

impl fmt::Display for StepState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Text that names no state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a step state")]
pub struct UnknownState(String);

impl FromStr for StepState {
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
        for event in StepEvent::ALL {
            let all = StepState::ALL.into_iter().filter_map(|state| state.after(event).ok());
            assert!(all.into_iter().all(|next| next == event.leads_to()), "{event:?}");
            assert_eq!(format!("{event:?}").parse(), Ok(event));
        }
    }

    #[test]
    fn a_satisfied_step_takes_nothing_more() {
        for state in [StepState::Complete, StepState::ResolvedManually] {
            for event in StepEvent::ALL {
                assert!(state.after(event).is_err(), "{state} + {event:?}");
            }
        }
    }

    #[test]
    fn every_state_is_reached_from_pending() {
        let mut reached = vec![StepState::Pending];
        let mut next = 0;
        while let Some(state) = reached.get(next).copied() {
            next += 1;
            for state in StepEvent::ALL.into_iter().filter_map(|event| state.after(event).ok()) {
                if !reached.contains(&state) {
                    reached.push(state);
                }
            }
        }
        assert_eq!(reached.len(), StepState::ALL.len());
    }
}
