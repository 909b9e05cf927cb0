//! Where a service is to be found, before its name is resolved.

use std::{fmt, net::IpAddr, str::FromStr};

use http::uri::Authority;

/// A host and a port, read from `host:port` or `http://host:port`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    authority: Authority,
    port: u16,
}

/// Why a text is not an [`Endpoint`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an endpoint: {problem}; write `host:port` or `http://host:port`")]
pub struct EndpointError {
    text: String,
    problem: &'static str,
}

impl Endpoint {
    /// The name or address to resolve, without the brackets of an IPv6 address.
    #[must_use]
    pub fn host(&self) -> &str {
        self.authority.host().trim_start_matches('[').trim_end_matches(']')
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What goes into the `:authority` of a request.
    pub(super) fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Whether it is an address, which no resolver can change.
    pub(super) fn is_address(&self) -> bool {
        self.host().parse::<IpAddr>().is_ok()
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let problem = |problem| EndpointError { text: text.to_owned(), problem };
        if text.starts_with("https://") {
            return Err(problem("TLS is not spoken between services"));
        }
        let rest = text.strip_prefix("http://").unwrap_or(text);
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains("://") {
            return Err(problem("the scheme is not http"));
        }
        if rest.contains(['/', '?', '#', '@']) {
            return Err(problem("it has more than a host and a port"));
        }
        let authority: Authority = rest.parse().map_err(|_| problem("the host is not valid"))?;
        if authority.host().is_empty() {
            return Err(problem("the host is missing"));
        }
        match authority.port_u16() {
            Some(port) if port != 0 => Ok(Self { authority, port }),
            _ => Err(problem("the port is missing or not from 1 to 65535")),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.authority)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_of_writing_an_endpoint_mean_the_same() {
        for text in ["mesh.local:7701", "http://mesh.local:7701", "http://mesh.local:7701/"] {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!((endpoint.host(), endpoint.port()), ("mesh.local", 7701), "{text}");
        }
        let six: Endpoint = "[::1]:7701".parse().unwrap();
        assert_eq!((six.host(), six.port(), six.is_address()), ("::1", 7701, true));
    }

    #[test]
    fn what_is_not_an_endpoint_is_refused_with_its_text() {
        for text in ["", "mesh.local", ":7701", "host:0", "host:70000", "https://host:1"] {
            let error = text.parse::<Endpoint>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("`{text}` is not an endpoint")), "{error}");
        }
        for text in ["http://host:1/path", "grpc://host:1", "user@host:1"] {
            assert!(text.parse::<Endpoint>().is_err(), "{text}");
        }
    }
}
