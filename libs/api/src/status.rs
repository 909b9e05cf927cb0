//! Errors as `google.rpc.Status`: what a code means is decided here, once.

use std::{collections::HashMap, time::Duration};

use tasker_domain::ErrorKind;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

/// The domain of every `ErrorInfo`.
pub const DOMAIN: &str = "tasker";

/// How long to wait before trying again what was refused or could not be reached.
pub const RETRY_AFTER: Duration = Duration::from_millis(100);

/// An error of a kind, with a sentence that says what to do.
///
/// The reason in `ErrorInfo` follows from the kind; programs decide by it, so it is never renamed.
#[must_use]
pub fn status(kind: ErrorKind, message: impl Into<String>) -> Status {
    let (code, reason) = match kind {
        // Nothing to do again: the world is as it is.
        ErrorKind::Invalid => (Code::InvalidArgument, "INVALID_ARGUMENT"),
        ErrorKind::NotFound => (Code::NotFound, "NOT_FOUND"),
        ErrorKind::AlreadyExists => (Code::AlreadyExists, "ALREADY_EXISTS"),
        ErrorKind::IllegalTransition => (Code::FailedPrecondition, "ILLEGAL_TRANSITION"),
        ErrorKind::SessionLost => (Code::FailedPrecondition, "SESSION_LOST"),
        // Worth trying again, after the time that RetryInfo names.
        ErrorKind::Overloaded => (Code::ResourceExhausted, "OVERLOADED"),
        ErrorKind::Unavailable => (Code::Unavailable, "DATABASE_UNAVAILABLE"),
        // A row this code could not have written. Never hidden behind a default.
        ErrorKind::Corrupt => (Code::Internal, "CORRUPT_ROW"),
        ErrorKind::Internal => (Code::Internal, "INTERNAL"),
    };
    with_reason(code, reason, [], message)
}

/// An error with a reason of its own, and what it is about.
#[must_use]
pub fn with_reason<const N: usize>(
    code: Code,
    reason: &str,
    about: [(&str, String); N],
    message: impl Into<String>,
) -> Status {
    let about: HashMap<String, String> =
        about.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    let mut details = ErrorDetails::new();
    details.set_error_info(reason, DOMAIN, about);
    if matches!(code, Code::ResourceExhausted | Code::Unavailable) {
        details.set_retry_info(Some(RETRY_AFTER));
    }
    Status::with_error_details(code, message, details)
}

/// There is no such thing: names its type and name.
#[must_use]
pub fn not_found(resource_type: &str, name: &str) -> Status {
    let mut details = ErrorDetails::new();
    let about = HashMap::from([("name".to_owned(), name.to_owned())]);
    let reason = format!("{}_NOT_FOUND", resource_type.to_uppercase());
    details.set_error_info(reason, DOMAIN, about);
    details.set_resource_info(resource_type, name, "", "");
    Status::with_error_details(
        Code::NotFound,
        format!("there is no {resource_type} {name}"),
        details,
    )
}

/// What is wrong with a request: every field, not only the first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Invalid {
    reason: Option<&'static str>,
    violations: Vec<(String, String)>,
}

impl Invalid {
    /// Nothing wrong yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// One wrong field.
    #[must_use]
    pub fn field(path: impl Into<String>, description: impl Into<String>) -> Self {
        let mut invalid = Self::new();
        invalid.add(path, description);
        invalid
    }

    /// A reason that says more than `INVALID_ARGUMENT`.
    #[must_use]
    pub fn because(mut self, reason: &'static str) -> Self {
        self.reason = Some(reason);
        self
    }

    /// Another wrong field.
    pub fn add(&mut self, path: impl Into<String>, description: impl Into<String>) {
        self.violations.push((path.into(), description.into()));
    }

    /// Takes the value, or notes what is wrong and goes on.
    pub fn take<T>(&mut self, value: Result<T, Self>) -> Option<T> {
        match value {
            Ok(value) => Some(value),
            Err(other) => {
                self.reason = self.reason.or(other.reason);
                self.violations.extend(other.violations);
                None
            }
        }
    }

    /// The violations, as path and description.
    #[must_use]
    pub fn violations(&self) -> &[(String, String)] {
        &self.violations
    }

    /// Fails if anything is wrong.
    ///
    /// # Errors
    /// Something is.
    pub fn check(self) -> Result<(), Self> {
        if self.violations.is_empty() { Ok(()) } else { Err(self) }
    }
}

impl From<Invalid> for Status {
    fn from(invalid: Invalid) -> Self {
        let mut details = ErrorDetails::new();
        let reason = invalid.reason.unwrap_or("INVALID_ARGUMENT");
        details.set_error_info(reason, DOMAIN, HashMap::new());
        let sentence = |(path, what): &(String, String)| {
            if path.is_empty() { what.clone() } else { format!("{path}: {what}") }
        };
        let message = invalid.violations.iter().map(sentence).collect::<Vec<_>>().join("; ");
        let violations =
            invalid.violations.into_iter().map(|(path, what)| FieldViolation::new(path, what));
        details.set_bad_request(violations.collect::<Vec<_>>());
        // Headers are bounded: the rest stands in the details.
        let message: String = message.chars().take(1_000).collect();
        Self::with_error_details(Code::InvalidArgument, message, details)
    }
}
