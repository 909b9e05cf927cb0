//! The process of finalizer.

use tasker_finalizer::{Config, Finalizer};
use tasker_runtime::Process;

fn main() -> std::process::ExitCode {
    Process::new("finalizer").run(Config::load, Finalizer::build)
}
