//! W3C Trace Context: from and to headers, queue messages, deliveries, and `tracing` spans.
//!
//! A task is one trace. Its context is stored with the task and travels in gRPC metadata, in PGMQ
//! message headers and in deliveries. Without a telemetry layer everything passes through unchanged.

use http::{HeaderMap, HeaderValue};
use opentelemetry::{
    Context, global,
    propagation::{Extractor, Injector},
    trace::TraceContextExt,
};
use serde::{Deserialize, Serialize};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// Where in a trace something happened, as W3C Trace Context writes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceContext {
    /// `00-<trace id>-<span id>-<flags>`; empty if not traced.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub traceparent: String,
    /// What vendors add; usually empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tracestate: String,
}

impl TraceContext {
    /// Makes `span` a child of this place; does nothing if there is none.
    pub fn adopt(&self, span: &Span) {
        if !self.traceparent.is_empty() {
            // It fails only where no telemetry layer would record the span.
            span.set_parent(self.extract()).ok();
        }
    }

    /// Links `span` to this place, for work that serves several traces.
    pub fn link(&self, span: &Span) {
        if !self.traceparent.is_empty() {
            span.add_link(self.extract().span().span_context().clone());
        }
    }

    /// The place of `span`, or this place if `span` is not recorded.
    #[must_use]
    pub fn or_of(&self, span: &Span) -> Self {
        let mut found = Self::default();
        inject(&span.context(), &mut found);
        if found.traceparent.is_empty() { self.clone() } else { found }
    }

    /// Reads what a caller sent.
    #[must_use]
    pub fn from_headers(headers: &HeaderMap) -> Self {
        let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        Self {
            traceparent: text("traceparent").unwrap_or_default().to_owned(),
            tracestate: text("tracestate").unwrap_or_default().to_owned(),
        }
    }

    /// Tells whoever is called, in place of what `headers` said before.
    pub fn write_to(&self, headers: &mut HeaderMap) {
        for (name, value) in [("traceparent", &self.traceparent), ("tracestate", &self.tracestate)] {
            match HeaderValue::from_str(value) {
                Ok(value) if !value.is_empty() => headers.insert(name, value),
                _ => headers.remove(name),
            };
        }
    }

    fn extract(&self) -> Context {
        global::get_text_map_propagator(|propagator| propagator.extract_with_context(&Context::new(), self))
    }
}

fn inject(context: &Context, into: &mut TraceContext) {
    if context.span().span_context().is_valid() {
        global::get_text_map_propagator(|propagator| propagator.inject_context(context, into));
    }
}

impl Extractor for TraceContext {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            "traceparent" => Some(&self.traceparent),
            "tracestate" => Some(&self.tracestate),
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent", "tracestate"]
    }
}

impl Injector for TraceContext {
    fn set(&mut self, key: &str, value: String) {
        match key {
            "traceparent" => self.traceparent = value,
            "tracestate" => self.tracestate = value,
            _ => {}
        }
    }
}
