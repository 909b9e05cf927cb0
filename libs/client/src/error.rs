//! What can go wrong with a call, as programs and people need it.

use std::{collections::HashMap, error::Error as _, time::Duration};

use tonic::{Code, Status, TimeoutExpired};
use tonic_types::StatusExt as _;

/// Why a call brought no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address of the gateway is not one.
    #[error("`{0}` is not an address like http://127.0.0.1:7700")]
    Address(String),
    /// Nobody answers at the gateway's address.
    #[error("the gateway cannot be reached")]
    Connect(#[source] tonic::transport::Error),
    /// The mesh refused the call, or the way to it failed for longer than was allowed.
    #[error("{0}")]
    Failed(Box<Failure>),
    /// A payload is not the JSON that was asked for.
    #[error("`{path}` is not as expected")]
    Json {
        /// Where in the JSON, for example `items[2].sku`; `.` is the whole of it.
        path: String,
        /// What is wrong there.
        #[source]
        source: serde_json::Error,
    },
    /// A payload is of another type than JSON.
    #[error("the payload is `{0}`, not JSON")]
    NotJson(String),
}

/// A call's status, with its details.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The canonical code.
    pub code: Code,
    /// Why, for programs: never renamed. Empty if the mesh was not reached.
    pub reason: String,
    /// For people.
    pub message: String,
    /// What the reason is about, for example `task_id`.
    pub metadata: HashMap<String, String>,
    /// What is wrong with the request, field by field.
    pub violations: Vec<FieldViolation>,
    /// How long to wait before trying again, as the mesh asks.
    pub retry_after: Option<Duration>,
    lost: bool,
}

/// One field of a request that cannot be accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldViolation {
    /// The path of the field, for example `context.items[0]`.
    pub field: String,
    /// What is wrong with it.
    pub description: String,
}

impl Error {
    /// The canonical code of the call's status; `Unavailable` if nobody answers, `Internal` for JSON.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Address(_) => Code::InvalidArgument,
            Self::Connect(_) => Code::Unavailable,
            Self::Failed(failure) => failure.code,
            Self::Json { .. } | Self::NotJson(_) => Code::Internal,
        }
    }

    /// Why the mesh refused, for programs, for example `NOT_FOUND`.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        self.failure().map(|failure| failure.reason.as_str()).filter(|reason| !reason.is_empty())
    }

    /// What is wrong with the request, field by field; empty if that is not what is wrong.
    #[must_use]
    pub fn violations(&self) -> &[FieldViolation] {
        self.failure().map_or(&[], |failure| &failure.violations)
    }

    /// The status with all its details, if there is one.
    #[must_use]
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Failed(failure) => Some(failure),
            Self::Address(_) | Self::Connect(_) | Self::Json { .. } | Self::NotJson(_) => None,
        }
    }

    /// Whether the same call may succeed later: the mesh was away or busy, or the connection broke.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Connect(_) => true,
            Self::Failed(failure) => {
                failure.lost || matches!(failure.code, Code::Unavailable | Code::ResourceExhausted)
            }
            Self::Address(_) | Self::Json { .. } | Self::NotJson(_) => false,
        }
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info();
        let violations = details.bad_request().map_or(&[][..], |bad| &bad.field_violations);
        // A status that was made here, of something that happened to the connection, has a source;
        // one that came over it has none.
        let timed_out = was_caused_by_deadline(&status);
        let lost = status.source().is_some() && !timed_out;
        Self::Failed(Box::new(Failure {
            code: match () {
                () if timed_out => Code::DeadlineExceeded,
                () if lost => Code::Unavailable,
                () => status.code(),
            },
            reason: info.map(|info| info.reason.clone()).unwrap_or_default(),
            message: status.message().to_owned(),
            metadata: info.map(|info| info.metadata.clone()).unwrap_or_default(),
            violations: violations
                .iter()
                .map(|violation| FieldViolation {
                    field: violation.field.clone(),
                    description: violation.description.clone(),
                })
                .collect(),
            retry_after: details.retry_info().and_then(|info| info.retry_delay),
            lost,
        }))
    }
}

fn was_caused_by_deadline(status: &Status) -> bool {
    let mut source = status.source();
    while let Some(error) = source {
        if error.is::<TimeoutExpired>() {
            return true;
        }
        source = error.source();
    }
    false
}

impl std::fmt::Display for Failure {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{:?}", self.code)?;
        if !self.reason.is_empty() {
            write!(out, " ({})", self.reason)?;
        }
        write!(out, ": {}", self.message)?;
        for violation in &self.violations {
            write!(out, "; {}: {}", violation.field, violation.description)?;
        }
        Ok(())
    }
}
