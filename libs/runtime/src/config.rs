//! One configuration tree from a file, the environment and flags.
//!
//! Stronger sources come later: defaults, the TOML file (`--config FILE` or `TASKER_CONFIG`), the
//! environment (`TASKER_<SECTION>__<FIELD>`), flags (`--<section>.<field>=<value>`). A file may
//! hold the sections of every service: each process reads its own.

mod command_line;
mod error;
mod sections;
mod source;
#[cfg(test)]
mod tests;
mod text;

pub use self::{
    error::{Error, Origin},
    sections::{Database, DeploymentMode, Drain, LogFormat, Mesh, Telemetry},
    source::Source,
};

/// Every section that may stand in a file, the environment or flags.
pub const SECTIONS: [&str; 10] = [
    "database",
    "telemetry",
    "drain",
    "mesh",
    "gateway",
    "task_request",
    "step_enqueuer",
    "result_processor",
    "finalizer",
    "standalone",
];

/// Every field with its unit and default, as a commented TOML file; `--help` prints it.
pub const REFERENCE: &str = include_str!("config/reference.toml");
