//! What several of them are made of.

use serde::{Serialize, Serializer};
use tasker_client::v1;

use crate::payload;

/// A template as it is named.
#[derive(Default, Serialize)]
pub(super) struct TemplateRef {
    namespace: String,
    name: String,
    version: String,
}

impl From<v1::TemplateRef> for TemplateRef {
    fn from(of: v1::TemplateRef) -> Self {
        let v1::TemplateRef { namespace, name, version } = of;
        Self { namespace, name, version }
    }
}

#[derive(Serialize)]
pub(super) struct Trace {
    traceparent: String,
    tracestate: String,
}

impl From<v1::TraceContext> for Trace {
    fn from(trace: v1::TraceContext) -> Self {
        let v1::TraceContext { traceparent, tracestate } = trace;
        Self { traceparent, tracestate }
    }
}

pub(super) struct Payload(pub(super) v1::Payload);

impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        payload::View::from(&self.0).serialize(serializer)
    }
}

#[derive(Serialize)]
pub(super) struct StepError {
    r#type: String,
    message: String,
    retryable: bool,
}

impl From<v1::StepError> for StepError {
    fn from(error: v1::StepError) -> Self {
        let v1::StepError { r#type, message, retryable } = error;
        Self { r#type, message, retryable }
    }
}
