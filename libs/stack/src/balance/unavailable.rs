//! What callers are told when a replica, or every replica, cannot be reached.

use std::{error::Error, net::SocketAddr, time::Duration};

use tonic::{Code, Status};
use tracing::debug;

/// No replica was connected within `waited`.
pub(super) fn nobody(service: &str, waited: Duration) -> Status {
    Status::unavailable(format!(
        "no replica of {service} is connected (waited {} ms)",
        waited.as_millis()
    ))
}

/// The caller's own deadline passed first.
pub(super) fn too_late(service: &str) -> Status {
    Status::deadline_exceeded(format!("{service} did not answer within the deadline"))
}

/// `UNAVAILABLE` if the connection was lost; what the replica meant if it refused the one call.
pub(super) fn or_refused(service: &str, replica: SocketAddr, error: hyper::Error) -> Status {
    let lost = lost_connection(&error);
    debug!(service, %replica, error = &error as &dyn Error, "a call to {service} failed");
    let status = Status::from_error(error.into());
    if !lost && status.code() != Code::Unknown {
        return status;
    }
    Status::unavailable(format!("the connection to {service} at {replica} was lost"))
}

/// A replica that goes away ends its streams with a code of the connection, which says nothing of
/// the call.
fn lost_connection(error: &hyper::Error) -> bool {
    let mut source = error.source();
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            return error.is_io() || error.is_go_away();
        }
        source = error.source();
    }
    true
}
