//! The gateway as a program of its own.

use tasker_gateway::{Config, Gateway};
use tasker_runtime::Process;

fn main() -> std::process::ExitCode {
    Process::new("gateway").run(Config::load, Gateway::build)
}
