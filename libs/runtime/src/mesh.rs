//! Calls from one service to another.

use std::task::{Context, Poll};

use http::{Request, Response};
use tasker_stack::balance::{Balance, Endpoint, EndpointError};
use tasker_trace::TraceContext;
use tokio_util::sync::CancellationToken;
use tonic::{Status, body::Body};
use tower::Service;
use tracing::Span;

use crate::config;

/// A channel over the replicas of `service`, at `endpoints` from the section `mesh`. Once we drain, it is
/// no news that they go.
///
/// # Errors
///
/// If an endpoint is not `host:port` or `http://host:port`, or there is none.
///
/// # Panics
///
/// Outside a tokio runtime.
pub fn channel(
    service: &'static str,
    endpoints: &[String],
    drain: &CancellationToken,
) -> Result<TracedBalance, config::Error> {
    let endpoints = endpoints_of(service, endpoints)?;
    Ok(TracedBalance { inner: Balance::new(service, endpoints, drain.clone()) })
}

/// The endpoints of `service`, from the section `mesh`.
///
/// # Errors
///
/// If one is not `host:port` or `http://host:port`, or there is none.
pub fn endpoints_of(service: &str, endpoints: &[String]) -> Result<Vec<Endpoint>, config::Error> {
    let wrong = |problem: String| {
        config::Error::invalid(format!("mesh.{}", service.replace('-', "_")), problem)
    };
    if endpoints.is_empty() {
        return Err(wrong("it names no endpoint".to_owned()));
    }
    let read: Result<_, _> = endpoints.iter().map(|text| text.parse()).collect();
    read.map_err(|error: EndpointError| wrong(error.to_string()))
}

/// A [`Balance`] that tells whoever is called in which trace; clones share its connections.
#[derive(Clone, Debug)]
pub struct TracedBalance {
    inner: Balance,
}

impl TracedBalance {
    /// How many replicas are connected now.
    #[must_use]
    pub fn connected(&self) -> usize {
        self.inner.connected()
    }
}

impl Service<Request<Body>> for TracedBalance {
    type Response = Response<Body>;
    type Error = Status;
    type Future = <Balance as Service<Request<Body>>>::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Status>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        // Without a span of ours, the caller's trace is passed on as it came.
        let headers = request.headers_mut();
        TraceContext::from_headers(headers).or_of(&Span::current()).write_to(headers);
        self.inner.call(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_wrong_endpoint_is_named_with_its_field() {
        for endpoints in [vec![], vec!["https://there:1".to_owned()]] {
            let drain = CancellationToken::new();
            let error = channel("task-request", &endpoints, &drain).unwrap_err().to_string();
            assert!(error.starts_with("`mesh.task_request` is wrong"), "{error}");
        }
        let nobody = channel("finalizer", &["127.0.0.1:1".to_owned()], &CancellationToken::new());
        assert_eq!(nobody.unwrap().connected(), 0);
    }
}
