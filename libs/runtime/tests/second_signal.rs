//! What a second signal does, seen from outside.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    env,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tasker_runtime::{Context, Process, Service, config::Source};
use tonic::service::Routes;

/// Set in the process that gets the signals: this test, once more.
const CHILD: &str = "SECOND_SIGNAL_CHILD";

#[test]
fn a_second_signal_ends_a_slow_drain_at_once() {
    if env::var_os(CHILD).is_some() {
        return serve_what_never_ends();
    }
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "a_second_signal_ends_a_slow_drain_at_once", "--nocapture"])
        .env(CHILD, "1")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut until =
        |words: &str| assert!(lines.any(|line| line.unwrap().contains(words)), "{words}");
    until("listens on");
    send(&child, Signal::SIGTERM);
    until("SIGTERM: draining");
    send(&child, Signal::SIGINT);
    until("SIGINT again");
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

fn send(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
}

fn serve_what_never_ends() {
    let source = Source::from_parts(["--drain.timeout=1m".to_owned()], []).unwrap();
    let build = |(), context: Context| async move {
        context.spawn("work without end", std::future::pending());
        Ok(Service { listen: ([127, 0, 0, 1], 0).into(), routes: Routes::default() })
    };
    Process::new("finalizer").run_from(&source, |_| Ok(()), build);
}
