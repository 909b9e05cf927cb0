//! How this client connects.

use std::time::Duration;

use tonic::transport::Endpoint;

use crate::error::Error;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
// Asked even when nothing is on its way: a silent proxy must not strand a watch.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Describes a connection to the gateway at `url`, for example `http://127.0.0.1:7700`.
///
/// Five seconds to connect, no delay of small packets, and an HTTP/2 ping every ten seconds, also
/// while idle, that must be answered within five.
///
/// # Errors
/// [`Error::Address`] if `url` is not an address.
pub fn endpoint(url: &str) -> Result<Endpoint, Error> {
    let endpoint = Endpoint::from_shared(url.to_owned()).map_err(Error::Address)?;
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true))
}
