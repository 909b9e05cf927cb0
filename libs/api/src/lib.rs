//! The contract in Rust: code generated from `proto/`, its conversions to and from domain types,
//! and errors as `google.rpc.Status`.
//!
//! Generated types stop here: a service decodes them into domain types, or answers
//! `INVALID_ARGUMENT` with a `BadRequest` that names the field.

#[expect(
    missing_docs,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::large_enum_variant,
    reason = "generated: comments stand in proto/"
)]
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

pub mod dead_letters;
pub mod expansion;
pub mod field;
pub mod page;
pub mod states;
pub mod status;
pub mod time;
pub mod token;

pub use generated::tasker::{mesh, v1};
pub use status::{Invalid, status};
pub use token::DeliveryToken;

/// All proto files, compiled, with our options: for reflection and the gateway's route table.
pub const DESCRIPTORS: &[u8] = include_bytes!("generated/descriptors.bin");

/// The largest message that a service takes or gives, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 16 << 20;

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
