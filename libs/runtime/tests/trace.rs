//! Spans as a collector sees them.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{net::SocketAddr, sync::Arc};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    trace::v1::Span,
};
use tasker_api::v1::{
    GetHealthRequest, GetHealthResponse,
    health_service_client::HealthServiceClient,
    health_service_server::{HealthService, HealthServiceServer},
};
use tasker_runtime::{Context, Service, Telemetry, config, mesh, mesh::TracedBalance, serve};
use tokio::{net::TcpListener, sync::Mutex};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, service::Routes, transport::Server};
use tracing::{Instrument, info_span};

/// Answers by asking the next service, if there is one.
struct Hop(Option<HealthServiceClient<TracedBalance>>);

#[tonic::async_trait]
impl HealthService for Hop {
    async fn get_health(
        &self,
        request: Request<GetHealthRequest>,
    ) -> Result<Response<GetHealthResponse>, Status> {
        match &self.0 {
            Some(next) => next.clone().get_health(request.into_inner()).await,
            None => Err(Status::not_found("the end")),
        }
    }
}

#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<(String, Span)>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for spans in request.into_inner().resource_spans {
            let resource = format!("{:?}", spans.resource);
            let spans = spans.scope_spans.into_iter().flat_map(|scope| scope.spans);
            self.0.lock().await.extend(spans.map(|span| (resource.clone(), span)));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

async fn start(name: &'static str, hop: Hop) -> (SocketAddr, Context) {
    let (listener, listen) = listener().await;
    let context = Context::new(name, &config::Drain::default());
    let routes = Routes::new(HealthServiceServer::new(hop));
    tokio::spawn(serve(Service { listen, routes }, listener, context.clone()));
    (listen, context)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_through_two_services_is_one_trace() {
    let (listener, address) = listener().await;
    let collector = Collector::default();
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    let export = TraceServiceServer::new(collector.clone());
    tokio::spawn(Server::builder().add_service(export).serve_with_incoming(incoming));
    let telemetry = config::Telemetry {
        otlp_endpoint: Some(format!("http://{address}")),
        ..config::Telemetry::default()
    };
    let telemetry = Telemetry::init("test", &telemetry).unwrap();

    let (last, _context) = start("finalizer", Hop(None)).await;
    let drain = CancellationToken::new();
    let onwards = mesh::channel("finalizer", &[last.to_string()], &drain).unwrap();
    let (first, _context) = start("gateway", Hop(Some(HealthServiceClient::new(onwards)))).await;
    let mut client =
        HealthServiceClient::new(mesh::channel("gateway", &[first.to_string()], &drain).unwrap());
    let root = info_span!(target: "tasker_test", "client.call");
    client.get_health(GetHealthRequest {}).instrument(root).await.unwrap_err();

    tokio::task::spawn_blocking(|| drop(telemetry)).await.unwrap();
    let spans = collector.0.lock().await;
    let find = |name: &str, service: &str| {
        let is_it = |span: &Span| {
            span.name == name && (service.is_empty() || format!("{span:?}").contains(service))
        };
        spans.iter().map(|(_, span)| span).find(|span| is_it(span)).unwrap()
    };
    let (root, one, two) =
        (find("client.call", ""), find("rpc.serve", "gateway"), find("rpc.serve", "finalizer"));
    assert_eq!(spans.len(), 3, "{spans:#?}");
    assert!(root.parent_span_id.is_empty());
    assert_eq!((&one.parent_span_id, &two.parent_span_id), (&root.span_id, &one.span_id));
    assert!(spans.iter().all(|(resource, span)| {
        span.trace_id == root.trace_id && resource.contains("tasker-test")
    }));
    assert_eq!(two.status.as_ref().unwrap().code, 2);
}
