//! Dead letters and lifecycle limits on the wire and in the domain.

use tasker_domain::{
    DeadLetterReason, DeadLetterStatus,
    template::lifecycle::{Health, Limit},
};

use crate::{Invalid, v1};

impl From<DeadLetterReason> for v1::DlqReason {
    fn from(reason: DeadLetterReason) -> Self {
        match reason {
            DeadLetterReason::Staleness => Self::Staleness,
            DeadLetterReason::RetriesExhausted => Self::RetriesExhausted,
            DeadLetterReason::PermanentFailure => Self::PermanentFailure,
            DeadLetterReason::Impossible => Self::Impossible,
            DeadLetterReason::WorkerUnavailable => Self::WorkerUnavailable,
            DeadLetterReason::Manual => Self::Manual,
            DeadLetterReason::PoisonMessage => Self::PoisonMessage,
        }
    }
}

impl From<DeadLetterStatus> for v1::DlqStatus {
    fn from(status: DeadLetterStatus) -> Self {
        match status {
            DeadLetterStatus::Pending => Self::Pending,
            DeadLetterStatus::ManuallyResolved => Self::ManuallyResolved,
            DeadLetterStatus::PermanentFailure => Self::PermanentFailure,
            DeadLetterStatus::Cancelled => Self::Cancelled,
        }
    }
}

impl From<Health> for v1::TaskHealth {
    fn from(health: Health) -> Self {
        match health {
            Health::Healthy => Self::Healthy,
            Health::Warning => Self::Warning,
            Health::Stale => Self::Stale,
        }
    }
}

impl From<Limit> for v1::LifecycleLimit {
    fn from(limit: Limit) -> Self {
        match limit {
            Limit::Duration => Self::Duration,
            Limit::WaitingForDependencies => Self::WaitingForDependencies,
            Limit::WaitingForRetry => Self::WaitingForRetry,
            Limit::WaitingForWorker => Self::WaitingForWorker,
            Limit::Blocked => Self::Blocked,
        }
    }
}

/// Reads a list of reasons.
///
/// # Errors
/// One of them is unspecified or unknown.
pub fn reasons(path: &str, reasons: &[i32]) -> Result<Vec<DeadLetterReason>, Invalid> {
    let read = |(index, number): (usize, &i32)| {
        let same = |reason: &DeadLetterReason| i32::from(v1::DlqReason::from(*reason)) == *number;
        let known = DeadLetterReason::ALL.into_iter().find(same);
        known.ok_or_else(|| Invalid::field(format!("{path}[{index}]"), "not a reason"))
    };
    reasons.iter().enumerate().map(read).collect()
}

/// Reads a list of statuses.
///
/// # Errors
/// One of them is unspecified or unknown.
pub fn statuses(path: &str, statuses: &[i32]) -> Result<Vec<DeadLetterStatus>, Invalid> {
    let read = |(index, number): (usize, &i32)| {
        status(*number).ok_or_else(|| Invalid::field(format!("{path}[{index}]"), "not a status"))
    };
    statuses.iter().enumerate().map(read).collect()
}

/// Reads a status; unspecified means none.
///
/// # Errors
/// It is unknown.
pub fn optional_status(path: &str, number: i32) -> Result<Option<DeadLetterStatus>, Invalid> {
    match number {
        0 => Ok(None),
        given => match status(given) {
            Some(known) => Ok(Some(known)),
            None => Err(Invalid::field(path, "not a status")),
        },
    }
}

fn status(number: i32) -> Option<DeadLetterStatus> {
    let same = |status: &DeadLetterStatus| i32::from(v1::DlqStatus::from(*status)) == number;
    DeadLetterStatus::ALL.into_iter().find(same)
}
