//! The process of result-processor.

use tasker_result_processor::{Config, ResultProcessor};
use tasker_runtime::Process;

fn main() -> std::process::ExitCode {
    Process::new("result-processor").run(Config::load, ResultProcessor::build)
}
