//! Metadata on its way through: everything passes, but for what belongs to one hop or is ours.

use http::{HeaderMap, HeaderName, HeaderValue, header};

/// What services tell each other about a caller; a client that could set it would be believed.
const INTERNAL: &str = "tasker-";

/// Meant for one connection, and wrong on the next.
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::TE,
    header::HOST,
    header::CONTENT_LENGTH,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// What a client sent, as the service is to see it.
pub(crate) fn clean_request(headers: &mut HeaderMap) {
    remove_hop_by_hop(headers);
    let internal: Vec<_> =
        headers.keys().filter(|name| name.as_str().starts_with(INTERNAL)).cloned().collect();
    for name in internal {
        headers.remove(name);
    }
    // What tells a gRPC server that its trailers will be understood.
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
}

/// What a service answered, as the client is to see it.
pub(crate) fn clean_response(headers: &mut HeaderMap) {
    remove_hop_by_hop(headers);
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

/// Whether this is a gRPC request: `application/grpc`, alone or with `+proto`, `-web` and the like.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    content_type.and_then(|it| it.strip_prefix(b"application/grpc")).is_some_and(|rest| {
        // So that `application/grpcfoo` is not.
        matches!(rest.first(), None | Some(b'+' | b'-' | b';'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn a_client_cannot_speak_as_a_service() {
        let mut sent = headers(&[("tasker-caller", "root"), ("authorization", "Bearer x")]);
        clean_request(&mut sent);
        assert_eq!(sent, headers(&[("authorization", "Bearer x"), ("te", "trailers")]));
    }

    #[test]
    fn what_belongs_to_one_connection_stays_there() {
        let mut sent = headers(&[("connection", "close"), ("keep-alive", "5"), ("my-key", "1")]);
        clean_request(&mut sent);
        assert_eq!(sent, headers(&[("my-key", "1"), ("te", "trailers")]));
    }

    #[test]
    fn only_grpc_is_grpc() {
        let with = |value| headers(&[("content-type", value)]);
        for yes in ["application/grpc", "application/grpc+proto", "application/grpc-web-text"] {
            assert!(is_grpc(&with(yes)), "{yes}");
        }
        for no in ["application/json", "application/grpcfoo", "text/html"] {
            assert!(!is_grpc(&with(no)), "{no}");
        }
        assert!(!is_grpc(&HeaderMap::new()));
    }
}
