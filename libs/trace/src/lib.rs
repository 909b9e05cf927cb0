//! W3C Trace Context: from and to headers, queue messages, deliveries, and `tracing` spans.
//!
//! A task is one trace. Its context is stored with the task and travels in gRPC metadata, in PGMQ
//! message headers and in deliveries. Without a telemetry layer all of it passes unchanged.

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

    /// Makes `span` a child of a `traceparent`, and returns what to send on: the span's own, or the same
    /// if the span is not recorded.
    #[must_use]
    pub fn through(traceparent: &str, span: &Span) -> String {
        let from = Self { traceparent: traceparent.to_owned(), tracestate: String::new() };
        from.adopt(span);
        from.or_of(span).traceparent
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

    /// Reads what a caller sent. What is not well formed is not passed on, and so not stored.
    #[must_use]
    pub fn from_headers(headers: &HeaderMap) -> Self {
        let text = |name| {
            let value = headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
            value.unwrap_or_default()
        };
        let (traceparent, tracestate) = (text("traceparent"), text("tracestate"));
        if !is_traceparent(traceparent) {
            return Self::default();
        }
        let tracestate = if tracestate.len() <= TRACESTATE_LIMIT { tracestate } else { "" };
        Self { traceparent: traceparent.to_owned(), tracestate: tracestate.to_owned() }
    }

    /// Tells whoever is called, in place of what `headers` said before.
    pub fn write_to(&self, headers: &mut HeaderMap) {
        let fields = [("traceparent", &self.traceparent), ("tracestate", &self.tracestate)];
        for (name, value) in fields {
            match HeaderValue::from_str(value) {
                Ok(value) if !value.is_empty() => headers.insert(name, value),
                _ => headers.remove(name),
            };
        }
    }

    fn extract(&self) -> Context {
        global::get_text_map_propagator(|propagator| {
            propagator.extract_with_context(&Context::new(), self)
        })
    }
}

/// Names a span anew, of which it was not known in the beginning what it would come to.
pub fn rename(span: &Span, name: &'static str) {
    span.context().span().update_name(name);
}

/// The length that the W3C asks everyone to carry, in bytes.
const TRACESTATE_LIMIT: usize = 512;

/// Whether `text` is `<version>-<trace id>-<span id>-<flags>` in hexadecimal.
fn is_traceparent(text: &str) -> bool {
    let lengths = text.split('-').map(str::len);
    lengths.eq([2, 32, 16, 2]) && text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
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

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn headers(parent: &str, state: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("traceparent", parent.parse().unwrap());
        headers.insert("tracestate", state.parse().unwrap());
        headers
    }

    #[test]
    fn without_telemetry_a_trace_passes_unchanged() {
        let sent = headers(PARENT, "vendor=1");
        let mut passed_on = HeaderMap::new();
        TraceContext::from_headers(&sent).or_of(&Span::none()).write_to(&mut passed_on);
        assert_eq!(passed_on, sent);
    }

    #[test]
    fn what_is_not_a_trace_is_not_passed_on() {
        for parent in ["", "nonsense", &PARENT[1..], &PARENT.replace('a', "x"), &"0".repeat(55)] {
            let mut sent = headers(parent, "vendor=1");
            let read = TraceContext::from_headers(&sent);
            assert_eq!(read, TraceContext::default(), "{parent}");
            read.write_to(&mut sent);
            assert!(sent.is_empty());
        }
        let long = headers(PARENT, &"x".repeat(513));
        assert_eq!(TraceContext::from_headers(&long).tracestate, "");
    }
}
