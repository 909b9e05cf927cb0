//! The process of step-enqueuer.

use tasker_runtime::Process;
use tasker_step_enqueuer::{Config, StepEnqueuer};

fn main() -> std::process::ExitCode {
    Process::new("step-enqueuer").run(Config::load, StepEnqueuer::build)
}
