//! The process around a service: configuration, telemetry, health, signals, drain.
//!
//! A service's `main` is one line, the same in all of them:
//!
//! ```text
//! fn main() -> std::process::ExitCode {
//!     Process::new("result-processor").run(Config::load, ResultProcessor::build)
//! }
//! ```
//!
//! `tasker-standalone` runs five services in one process: it makes a [`Context`] for each and calls
//! [`serve`] with listeners of its own.
//!
//! Exit codes: 0 after a drain, 1 if the service failed, 64 if its configuration is wrong, 130 if a
//! second signal cut the drain short.

pub mod config;
mod context;
mod database;
pub mod mesh;
mod metrics;
mod process;
mod readiness;
mod serve;
pub mod signals;
mod telemetry;

pub use self::{
    context::Context,
    database::database_readiness,
    metrics::Levels,
    process::Process,
    readiness::{Condition, Readiness},
    serve::{Service, VERSION, VERSION_KEY, serve},
    telemetry::{Telemetry, TelemetryError},
};
