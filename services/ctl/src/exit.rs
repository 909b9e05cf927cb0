//! How a command ends: exit codes, and what went wrong.

use std::{
    fmt::Write as _,
    io::{self, ErrorKind},
    process::ExitCode,
};

use tasker_client::{Failure, FieldViolation};

/// See `--help`.
pub(crate) const NOT_COMPLETE: u8 = 3;
/// See `--help`.
pub(crate) const TIMED_OUT: u8 = 4;

/// Says what went wrong, and returns the exit code for it.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    if is_closed_pipe(error) {
        // Whoever read the output has seen enough.
        return ExitCode::SUCCESS;
    }
    eprint!("{}", explanation(error));
    ExitCode::FAILURE
}

/// Message, reason, and what is wrong with each field: one a line.
fn explanation(error: &anyhow::Error) -> String {
    let call = error.chain().find_map(|cause| cause.downcast_ref::<tasker_client::Error>());
    match call.and_then(tasker_client::Error::failure) {
        Some(failure) => refusal(&prefix(error), failure),
        None => format!("error: {error:#}\n"),
    }
}

/// What was being done when the call failed.
fn prefix(error: &anyhow::Error) -> String {
    let contexts = error.chain().take_while(|cause| !cause.is::<tasker_client::Error>());
    contexts.map(|context| format!("{context}: ")).collect()
}

fn refusal(doing: &str, failure: &Failure) -> String {
    // The message of a wrong request is all its violations on one line; they follow one by one.
    let told = |it: &FieldViolation| failure.message.contains(&it.description);
    let repeats = !failure.violations.is_empty() && failure.violations.iter().all(told);
    let message = if repeats { "not valid" } else { &failure.message };
    let mut text = format!("error: {doing}{message}\n");
    let code = format!("{:?}", failure.code);
    let reason = match failure.reason.as_str() {
        "" => code,
        reason => format!("{reason} ({code})"),
    };
    let mut line = |name: &str, value: &dyn std::fmt::Display| {
        writeln!(text, "{name}: {value}").expect("writing to a string cannot fail");
    };
    line("reason", &reason);
    let mut about: Vec<_> = failure.metadata.iter().collect();
    about.sort();
    for (name, value) in about {
        line(name, value);
    }
    for violation in &failure.violations {
        let whole = if violation.field.is_empty() { "(the whole)" } else { &violation.field };
        line(whole, &violation.description);
    }
    if let Some(wait) = failure.retry_after {
        line("try again after", &humantime::format_duration(wait));
    }
    text
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let broken = |error: &io::Error| error.kind() == ErrorKind::BrokenPipe;
    // Not of a connection: that is an error of the client, with a source.
    error.downcast_ref::<io::Error>().is_some_and(broken)
}
