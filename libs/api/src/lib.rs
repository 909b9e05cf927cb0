//! The contract in Rust: code generated from `proto/`, its conversions to and from domain types,
//! and errors as `google.rpc.Status`.
//!
//! Generated types stop here: a service decodes them into domain types, or answers
//! `INVALID_ARGUMENT` with a `BadRequest` that names the field.

#[expect(missing_docs, reason = "generated: comments stand in proto/")]
#[allow(clippy::all, rustdoc::all, reason = "generated")]
mod generated {
    pub mod tasker {
        pub mod v1 {
            include!("generated/tasker.v1.rs");
        }
        pub mod mesh {
            pub mod v1 {
                include!("generated/tasker.mesh.v1.rs");
            }
        }
    }
}

pub use generated::tasker::{mesh, v1};

/// All proto files, compiled, with our options: for reflection and the gateway's route table.
pub const DESCRIPTORS: &[u8] = include_bytes!("generated/descriptors.bin");

impl From<tasker_trace::TraceContext> for v1::TraceContext {
    fn from(trace: tasker_trace::TraceContext) -> Self {
        Self { traceparent: trace.traceparent, tracestate: trace.tracestate }
    }
}

impl From<v1::TraceContext> for tasker_trace::TraceContext {
    fn from(trace: v1::TraceContext) -> Self {
        Self { traceparent: trace.traceparent, tracestate: trace.tracestate }
    }
}
