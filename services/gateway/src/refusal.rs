//! What the gateway itself says to a caller: each refusal with its code, reason and details.

use std::{collections::HashMap, time::Duration};

use http::HeaderMap;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// How long a caller should wait before it tries a service again that no replica answers for.
const RETRY_DELAY: Duration = Duration::from_millis(500);

/// No public method has this path.
pub(crate) fn unknown_method(path: &str) -> Status {
    let method = [("method", path.to_owned())];
    let details = reason("UNKNOWN_METHOD", method);
    let message = format!("there is no public method {path}");
    Status::with_error_details(Code::Unimplemented, message, details)
}

/// What a failed call to `service` means to the caller.
///
/// The channel's own words name addresses: they are for the log.
pub(crate) fn lost(service: &str, error: Status) -> Status {
    match error.code() {
        Code::Unavailable => unavailable(service),
        Code::DeadlineExceeded => deadline_exceeded(),
        // The service itself has refused the call.
        _ => error,
    }
}

/// No replica of `service` has answered, or not to the end.
pub(crate) fn unavailable(service: &str) -> Status {
    let mut details = reason("SERVICE_UNAVAILABLE", [("service", service.to_owned())]);
    details.set_retry_info(Some(RETRY_DELAY));
    let message = format!("{service} cannot be reached");
    Status::with_error_details(Code::Unavailable, message, details)
}

/// The gateway is about to end, and an open stream with it.
pub(crate) fn stopping() -> Status {
    let mut details = reason("SERVICE_UNAVAILABLE", [("service", "gateway".to_owned())]);
    details.set_retry_info(Some(RETRY_DELAY));
    let message = "the gateway is stopping: connect again";
    Status::with_error_details(Code::Unavailable, message, details)
}

/// The time in the caller's `grpc-timeout` has passed.
pub(crate) fn deadline_exceeded() -> Status {
    let details = reason("DEADLINE_EXCEEDED", []);
    let message = "the call's deadline has passed";
    Status::with_error_details(Code::DeadlineExceeded, message, details)
}

/// The caller's `grpc-timeout` is not 1 to 8 digits and a unit.
pub(crate) fn bad_timeout() -> Status {
    let mut details = reason("INVALID_TIMEOUT", []);
    details.add_bad_request_violation("grpc-timeout", "must be 1 to 8 digits and one of HMSmun");
    Status::with_error_details(Code::InvalidArgument, "grpc-timeout is malformed", details)
}

/// One message of the caller is longer than the gateway lets pass.
///
/// `INVALID_ARGUMENT`, for sending it again will not help.
pub(crate) fn message_too_large(message_bytes: u64, limit_bytes: u64) -> Status {
    let sizes =
        [("message_bytes", message_bytes.to_string()), ("limit_bytes", limit_bytes.to_string())];
    let details = reason("MESSAGE_TOO_LARGE", sizes);
    let message =
        format!("a message of {message_bytes} bytes is over the limit of {limit_bytes} bytes");
    Status::with_error_details(Code::InvalidArgument, message, details)
}

/// `status` as the trailers that end a response whose head is already sent.
pub(crate) fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(3);
    if status.add_header(&mut trailers).is_err() {
        trailers.insert("grpc-status", (status.code() as i32).into());
    }
    trailers
}

fn reason<const N: usize>(reason: &str, metadata: [(&str, String); N]) -> ErrorDetails {
    let metadata: HashMap<_, _> =
        metadata.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    ErrorDetails::with_error_info(reason, "tasker", metadata)
}
