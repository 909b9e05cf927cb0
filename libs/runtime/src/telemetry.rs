//! Log lines to standard error, and spans and metrics by OTLP where an endpoint is given.

use std::{
    env,
    io::{self, IsTerminal},
    time::Duration,
};

use opentelemetry::{global, trace::TracerProvider};
use opentelemetry_otlp::{MetricExporter, SpanExporter, WithExportConfig};
use opentelemetry_sdk::{
    Resource,
    metrics::SdkMeterProvider,
    propagation::TraceContextPropagator,
    trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider},
};
use tracing::{Level, Metadata, Subscriber, level_filters::LevelFilter, warn};
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::{FilterExt, filter_fn},
    fmt,
    layer::SubscriberExt,
    registry::LookupSpan,
    util::SubscriberInitExt,
};

use crate::{
    config::{self, LogFormat},
    metrics,
};

/// How long the last spans may take to be sent.
const FLUSH: Duration = Duration::from_secs(5);
/// Spans that wait to be sent; more are dropped. `OTEL_BSP_MAX_QUEUE_SIZE` sets another bound.
const QUEUE: usize = 16_384;

/// The telemetry of this process, until it is dropped: what is still to be sent is sent then.
#[derive(Debug)]
#[must_use = "telemetry ends when this is dropped"]
pub struct Telemetry {
    spans: Option<SdkTracerProvider>,
    metrics: Option<SdkMeterProvider>,
}

/// Why there is no telemetry.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TelemetryError {
    /// `telemetry.log_filter` or `telemetry.otlp_endpoint` cannot be worked with.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// It was set up before in this process.
    #[error("telemetry has been set up before")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

impl Telemetry {
    /// Sets up log lines and spans of this process, whose `service.name` is `tasker-<name>`.
    ///
    /// A process that holds several services has one telemetry; the field `tasker.service` of the
    /// span `rpc.serve`, and the targets of all others, tell them apart.
    ///
    /// # Errors
    ///
    /// If the filter or the endpoint is wrong, or it was called before.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime, if an OTLP endpoint is given.
    pub fn init(name: &str, config: &config::Telemetry) -> Result<Self, TelemetryError> {
        let filter = EnvFilter::builder()
            .parse(&config.log_filter)
            .map_err(|error| config::Error::invalid("telemetry.log_filter", error))?;
        let endpoint = config.otlp_endpoint.clone().or_else(standard_endpoint);
        let spans = endpoint.map(|endpoint| provider(name, &endpoint)).transpose()?;
        let metrics =
            metrics_endpoint(config).map(|endpoint| meters(name, &endpoint)).transpose()?;
        // Also without an exporter, so that the trace of a caller is passed on.
        global::set_text_map_propagator(TraceContextPropagator::new());
        tracing_subscriber::registry()
            .with(logs(config.log_format, filter))
            .with(spans.as_ref().map(|provider| exported(provider, name)))
            .try_init()?;
        if let Some(provider) = &metrics {
            global::set_meter_provider(provider.clone());
            metrics::are_exported();
        }
        Ok(Self { spans, metrics })
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        if let Some(spans) = self.spans.take()
            && let Err(error) = spans.shutdown_with_timeout(FLUSH)
        {
            warn!(%error, "the last spans could not be sent");
        }
        if let Some(metrics) = self.metrics.take()
            && let Err(error) = metrics.shutdown_with_timeout(FLUSH)
        {
            warn!(%error, "the last metrics could not be sent");
        }
    }
}

/// The variables that every OpenTelemetry SDK knows.
fn standard_endpoint() -> Option<String> {
    ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"]
        .into_iter()
        .filter_map(|variable| env::var(variable).ok())
        .find(|endpoint| !endpoint.is_empty())
}

/// Where metrics go: `OTEL_METRICS_EXPORTER=none` is for a collector that takes spans alone.
fn metrics_endpoint(config: &config::Telemetry) -> Option<String> {
    let variable = |name| env::var(name).ok().filter(|value| !value.is_empty());
    if variable("OTEL_METRICS_EXPORTER").is_some_and(|exporter| exporter == "none") {
        return None;
    }
    let standard = || {
        variable("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT")
            .or_else(|| variable("OTEL_EXPORTER_OTLP_ENDPOINT"))
    };
    config.otlp_endpoint.clone().or_else(standard)
}

fn meters(name: &str, endpoint: &str) -> Result<SdkMeterProvider, config::Error> {
    let exporter = MetricExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .build()
        .map_err(|error| config::Error::invalid("telemetry.otlp_endpoint", error))?;
    Ok(SdkMeterProvider::builder()
        .with_resource(resource(name))
        .with_periodic_exporter(exporter)
        .build())
}

fn resource(name: &str) -> Resource {
    Resource::builder().with_service_name(format!("tasker-{name}")).build()
}

fn provider(name: &str, endpoint: &str) -> Result<SdkTracerProvider, config::Error> {
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .build()
        .map_err(|error| config::Error::invalid("telemetry.otlp_endpoint", error))?;
    let mut batches = BatchConfigBuilder::default();
    if env::var_os("OTEL_BSP_MAX_QUEUE_SIZE").is_none() {
        batches = batches.with_max_queue_size(QUEUE);
    }
    if env::var_os("OTEL_BSP_SCHEDULE_DELAY").is_none() {
        batches = batches.with_scheduled_delay(Duration::from_secs(1));
    }
    let processor =
        BatchSpanProcessor::builder(exporter).with_batch_config(batches.build()).build();
    Ok(SdkTracerProvider::builder()
        .with_resource(resource(name))
        .with_span_processor(processor)
        .build())
}

/// Events only: without an exporter every span is then disabled, and costs nothing.
fn logs<S>(format: LogFormat, filter: EnvFilter) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let lines = fmt::layer().with_writer(io::stderr).with_ansi(io::stderr().is_terminal());
    let lines = match format {
        LogFormat::Text => lines.with_target(false).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).boxed(),
    };
    // With its hint, what nobody wants is passed over where it would arise.
    let level = filter.max_level_hint().unwrap_or(LevelFilter::TRACE);
    lines.with_filter(filter_fn(is_event).with_max_level_hint(level).and(filter)).boxed()
}

fn is_event(metadata: &Metadata<'_>) -> bool {
    metadata.is_event()
}

fn exported<S>(provider: &SdkTracerProvider, name: &str) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let tracer = provider.tracer(format!("tasker-{name}"));
    tracing_opentelemetry::layer()
        .with_tracer(tracer)
        .with_context_activation(false)
        .with_location(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        .with_filter(filter_fn(is_ours).with_max_level_hint(LevelFilter::INFO))
}

/// Our own spans and what went wrong in them: the exporter's transport must not trace itself.
fn is_ours(metadata: &Metadata<'_>) -> bool {
    let wanted = if metadata.is_span() { Level::INFO } else { Level::WARN };
    *metadata.level() <= wanted && metadata.target().starts_with("tasker")
}
