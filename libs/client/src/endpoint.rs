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
    let no_address = || Error::Address(url.to_owned());
    let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|_| no_address())?;
    // Would only be found out while connecting, and look like a mesh that is away.
    if endpoint.uri().scheme_str() != Some("http") {
        return Err(no_address());
    }
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_an_address_is_found_before_connecting() {
        assert!(endpoint("http://127.0.0.1:7700").is_ok());
        for wrong in ["", "gateway:7700", "nonsense", "ftp://gateway", "http://"] {
            assert!(matches!(endpoint(wrong), Err(Error::Address(_))), "{wrong}");
        }
    }
}
