//! The whole mesh as one program.

fn main() -> std::process::ExitCode {
    tasker_standalone::run()
}
