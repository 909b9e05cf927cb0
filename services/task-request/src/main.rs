//! The process of task-request.

use tasker_runtime::Process;
use tasker_task_request::{Config, TaskRequest};

fn main() -> std::process::ExitCode {
    Process::new("task-request").run(Config::load, TaskRequest::build)
}
