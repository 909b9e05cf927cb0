//! A receiver of telemetry: what a collector would be sent.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use opentelemetry_proto::tonic::{
    collector::{
        metrics::v1::metrics_service_server::MetricsServiceServer,
        trace::v1::{
            ExportTraceServiceRequest, ExportTraceServiceResponse,
            trace_service_server::{TraceService, TraceServiceServer},
        },
    },
    common::v1::{KeyValue, any_value::Value},
    trace::v1::Span,
};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};

use crate::metrics::Gauges;

/// A span as it came in; ids in hex, as `traceparent` has them.
#[derive(Clone, Debug)]
pub struct ReceivedSpan {
    /// `service.name` of the process that sent it.
    pub service: String,
    /// For example `rpc.serve`.
    pub name: String,
    /// Of its trace.
    pub trace_id: String,
    /// Its own.
    pub span_id: String,
    /// Empty for the root of a trace.
    pub parent_id: String,
    /// When it began, in nanoseconds since 1970.
    pub began: i64,
    /// When it ended, in nanoseconds since 1970.
    pub ended: i64,
    /// Its attributes that are text.
    pub attributes: BTreeMap<String, String>,
}

/// Takes spans and metrics by OTLP over gRPC, on a port of its own.
#[derive(Debug)]
pub struct SpanReceiver {
    address: SocketAddr,
    spans: Spans,
    gauges: Gauges,
    server: JoinHandle<()>,
}

type Spans = Arc<Mutex<Vec<ReceivedSpan>>>;

impl SpanReceiver {
    /// Starts to listen.
    ///
    /// # Panics
    /// No port is free.
    pub async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port is free");
        let address = listener.local_addr().expect("a listener has an address");
        let spans = Spans::default();
        let service = TraceServiceServer::new(Collector(spans.clone()));
        let gauges = Gauges::default();
        let metrics = MetricsServiceServer::new(gauges.clone());
        let server = tokio::spawn(async move {
            let incoming = TcpListenerStream::new(listener);
            let server = Server::builder().add_service(service).add_service(metrics);
            let served = server.serve_with_incoming(incoming).await;
            served.expect("a listener that was bound can be served");
        });
        Self { address, spans, gauges, server }
    }

    /// What to give as an OTLP endpoint.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What a gauge with a label was at when it was told last. `None`: it has not been.
    #[must_use]
    pub fn level(&self, gauge: &str, label: &str, value: &str) -> Option<i64> {
        self.gauges.level(gauge, label, value)
    }

    /// All spans that have come in.
    #[must_use]
    pub fn spans(&self) -> Vec<ReceivedSpan> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for SpanReceiver {
    fn drop(&mut self) {
        self.server.abort();
    }
}

struct Collector(Spans);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut received = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for of_process in request.into_inner().resource_spans {
            let resource = of_process.resource.unwrap_or_default();
            let service = texts(resource.attributes).remove("service.name").unwrap_or_default();
            let spans = of_process.scope_spans.into_iter().flat_map(|scope| scope.spans);
            received.extend(spans.map(|span| read(&service, span)));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn read(service: &str, span: Span) -> ReceivedSpan {
    ReceivedSpan {
        service: service.to_owned(),
        name: span.name,
        trace_id: hex(&span.trace_id),
        span_id: hex(&span.span_id),
        parent_id: hex(&span.parent_span_id),
        began: span.start_time_unix_nano.cast_signed(),
        ended: span.end_time_unix_nano.cast_signed(),
        attributes: texts(span.attributes),
    }
}

pub(crate) fn texts(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |attribute: KeyValue| match attribute.value?.value? {
        Value::StringValue(text) => Some((attribute.key, text)),
        _ => None,
    };
    attributes.into_iter().filter_map(text).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
