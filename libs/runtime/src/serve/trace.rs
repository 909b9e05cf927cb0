//! One span for each request, in the trace that it came with.

use std::task::{Context, Poll};

use futures::future::{Either, FutureExt, Map};
use http::{Request, Response};
use tasker_trace::TraceContext;
use tower::{Layer, Service};
use tracing::{Instrument, Span, field::Empty, info_span, instrument::Instrumented};

/// Makes the span `rpc.serve`. It ends with the response's headers: the messages of a stream have
/// spans of their own.
#[derive(Clone, Copy, Debug)]
pub(super) struct TraceLayer {
    service: &'static str,
}

impl TraceLayer {
    pub(super) fn new(service: &'static str) -> Self {
        Self { service }
    }
}

impl<S> Layer<S> for TraceLayer {
    type Service = Trace<S>;

    fn layer(&self, inner: S) -> Trace<S> {
        Trace { inner, service: self.service }
    }
}

/// See [`TraceLayer`].
#[derive(Clone, Debug)]
pub(super) struct Trace<S> {
    inner: S,
    service: &'static str,
}

impl<S, A, B> Service<Request<A>> for Trace<S>
where
    S: Service<Request<A>, Response = Response<B>>,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = Either<S::Future, Instrumented<Map<S::Future, Recorded<S::Response, S::Error>>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let span = span(self.service, &request);
        // Without telemetry this is all it costs.
        if span.is_disabled() {
            return Either::Left(self.inner.call(request));
        }
        TraceContext::from_headers(request.headers()).adopt(&span);
        let answer = span.in_scope(|| self.inner.call(request));
        Either::Right(answer.map(record::<B, S::Error> as Recorded<_, _>).instrument(span))
    }
}

type Recorded<R, E> = fn(Result<R, E>) -> Result<R, E>;

fn span<A>(service: &'static str, request: &Request<A>) -> Span {
    let path = request.uri().path();
    if path.starts_with("/grpc.health.") || path.starts_with("/grpc.reflection.") {
        return Span::none();
    }
    info_span!(
        "rpc.serve",
        otel.kind = "server",
        otel.status_code = Empty,
        rpc.system = "grpc",
        rpc.method = path.trim_start_matches('/'),
        rpc.grpc.status_code = Empty,
        tasker.service = service,
    )
}

/// A refusal stands in the headers; the status of a stream that began comes too late for the span.
fn record<B, E>(answer: Result<Response<B>, E>) -> Result<Response<B>, E> {
    let status = answer.as_ref().ok().and_then(|response| response.headers().get("grpc-status"));
    if let Some(code) = status.and_then(|status| status.to_str().ok()).filter(|code| *code != "0") {
        Span::current().record("rpc.grpc.status_code", code).record("otel.status_code", "ERROR");
    }
    answer
}
