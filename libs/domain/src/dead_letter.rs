//! Tasks that somebody has to look into: why, and what has come of it.

use std::{fmt, str::FromStr};

/// Why a task is among the dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeadLetterReason {
    /// It has passed a limit of its template.
    Staleness,
    /// It is blocked by a step that has used up its attempts.
    RetriesExhausted,
    /// It is blocked by a step whose failure no further attempt would mend.
    PermanentFailure,
    /// Nothing moves, and every step that is left waits for others.
    Impossible,
    /// A step has waited too long while no connected worker had its handler.
    WorkerUnavailable,
    /// An operator put it there.
    Manual,
    /// A message that names it could not be worked off, and was parked.
    PoisonMessage,
}

/// What has come of looking into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeadLetterStatus {
    /// Nothing yet.
    Pending,
    /// The task was mended or settled.
    ManuallyResolved,
    /// It cannot be.
    PermanentFailure,
    /// It need not be.
    Cancelled,
}

/// Text that names neither reason nor status.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not of a dead letter")]
pub struct Unknown(String);

impl DeadLetterReason {
    /// Every reason.
    pub const ALL: [Self; 7] = [
        Self::Staleness,
        Self::RetriesExhausted,
        Self::PermanentFailure,
        Self::Impossible,
        Self::WorkerUnavailable,
        Self::Manual,
        Self::PoisonMessage,
    ];

    /// As the database and people write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Staleness => "staleness",
            Self::RetriesExhausted => "retries_exhausted",
            Self::PermanentFailure => "permanent_failure",
            Self::Impossible => "impossible",
            Self::WorkerUnavailable => "worker_unavailable",
            Self::Manual => "manual",
            Self::PoisonMessage => "poison_message",
        }
    }

    /// How much sooner than others it is to be looked into: what may be the mesh's own fault first, then
    /// what somebody asked for, then what waits for a decision, then what may still go on by itself.
    #[must_use]
    pub fn weight(self) -> i32 {
        match self {
            Self::PoisonMessage | Self::Impossible => 400,
            Self::Manual => 300,
            Self::RetriesExhausted | Self::PermanentFailure => 200,
            Self::WorkerUnavailable => 100,
            Self::Staleness => 0,
        }
    }
}

impl DeadLetterStatus {
    /// Every status.
    pub const ALL: [Self; 4] =
        [Self::Pending, Self::ManuallyResolved, Self::PermanentFailure, Self::Cancelled];

    /// As the database and people write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::ManuallyResolved => "manually_resolved",
            Self::PermanentFailure => "permanent_failure",
            Self::Cancelled => "cancelled",
        }
    }
}

impl FromStr for DeadLetterReason {
    type Err = Unknown;

    fn from_str(text: &str) -> Result<Self, Unknown> {
        let found = Self::ALL.into_iter().find(|reason| reason.as_str() == text);
        found.ok_or_else(|| Unknown(text.to_owned()))
    }
}

impl FromStr for DeadLetterStatus {
    type Err = Unknown;

    fn from_str(text: &str) -> Result<Self, Unknown> {
        let found = Self::ALL.into_iter().find(|status| status.as_str() == text);
        found.ok_or_else(|| Unknown(text.to_owned()))
    }
}

impl fmt::Display for DeadLetterReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Display for DeadLetterStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_back_to_what_it_names() {
        for reason in DeadLetterReason::ALL {
            assert_eq!(reason.to_string().parse(), Ok(reason));
        }
        for status in DeadLetterStatus::ALL {
            assert_eq!(status.to_string().parse(), Ok(status));
        }
        assert!("other".parse::<DeadLetterReason>().is_err());
    }
}
