//! One program in a process of its own.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use nix::{sys::signal, unistd::Pid};

use crate::{keeper, wait::until};

pub use nix::sys::signal::Signal;

/// How long a program may take to end after it was asked to.
const DRAIN: Duration = Duration::from_secs(20);
/// Of each log, where a test failed.
const LINES_SHOWN: usize = 60;

/// A program that tests may kill and start again. Killed when dropped; its log is then shown if the
/// test has failed.
#[derive(Debug)]
pub struct Program {
    name: String,
    log: PathBuf,
    process: Mutex<Process>,
}

#[derive(Debug)]
struct Process {
    command: Command,
    child: Option<Child>,
}

impl Program {
    /// Starts `program`, one of those that the workspace builds, with its log in `logs`.
    ///
    /// # Panics
    /// It has not been built, or cannot be started.
    pub fn start<N: AsRef<str>, V: AsRef<str>>(
        program: &str,
        name: &str,
        arguments: &[&str],
        environment: impl IntoIterator<Item = (N, V)>,
        logs: &Path,
    ) -> Self {
        let log = logs.join(format!("{name}.log"));
        let mut command = Command::new(built(program));
        command.args(arguments);
        for (variable, _) in env::vars_os() {
            // What somebody has set for a mesh of theirs is not for this one.
            let text = variable.to_string_lossy();
            if text.starts_with("TASKER_") || text.starts_with("OTEL_") || text == "RUST_LOG" {
                command.env_remove(&variable);
            }
        }
        for (variable, value) in environment {
            command.env(variable.as_ref(), value.as_ref());
        }
        let file = fs::OpenOptions::new().create(true).append(true).open(&log);
        let file = file.expect("the folder of the logs is ours");
        command.stdin(Stdio::null());
        command.stdout(file.try_clone().expect("there is room for another descriptor"));
        command.stderr(file);
        let program = Self {
            name: name.to_owned(),
            log,
            process: Mutex::new(Process { command, child: None }),
        };
        program.start_again();
        program
    }

    /// Starts it with the same arguments and environment.
    ///
    /// # Panics
    /// It still runs, or cannot be started.
    pub fn start_again(&self) {
        let mut process = self.process();
        assert!(process.child.is_none(), "{} still runs", self.name);
        let child = process.command.spawn();
        let child = child.unwrap_or_else(|error| panic!("cannot start {}: {error}", self.name));
        keeper::began(child.id());
        process.child = Some(child);
    }

    /// Kills it with SIGKILL, and returns when it is gone.
    pub fn kill(&self) {
        if let Some(mut child) = self.process().child.take() {
            // An error means that it is gone already.
            child.kill().ok();
            child.wait().ok();
            keeper::ended(child.id());
        }
    }

    /// Its process number.
    ///
    /// # Panics
    /// It does not run.
    pub fn process_id(&self) -> u32 {
        self.process().child.as_ref().expect("a running program was to be named").id()
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// It does not run.
    pub fn signal(&self, signal: Signal) {
        let process = self.process();
        let child = process.child.as_ref().expect("a running program was to be signalled");
        let id = i32::try_from(child.id()).expect("process numbers are small");
        signal::kill(Pid::from_raw(id), signal).expect("our own child can be signalled");
    }

    /// Asks it to end, and waits until it has.
    ///
    /// # Panics
    /// It does not end in time.
    pub async fn stop(&self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        until(&format!("{} has ended", self.name), DRAIN, async || self.ended()).await
    }

    /// How it has ended; nothing while it runs.
    pub fn ended(&self) -> Option<ExitStatus> {
        let mut process = self.process();
        let child = process.child.as_mut()?;
        let ended = child.try_wait().expect("our own child can be asked")?;
        keeper::ended(child.id());
        process.child = None;
        Some(ended)
    }

    /// What it has written so far.
    pub fn log(&self) -> String {
        fs::read(&self.log)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    fn process(&self) -> std::sync::MutexGuard<'_, Process> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let last = lines.len().saturating_sub(LINES_SHOWN);
            eprintln!(
                "--- {}, the last of {} lines\n{}",
                self.name,
                lines.len(),
                lines[last..].join("\n")
            );
        }
    }
}

/// Where Cargo has put a program of the workspace.
fn built(program: &str) -> PathBuf {
    let path = build_dir().join(program);
    assert!(
        path.is_file(),
        "{} is missing: run scripts/test, or `cargo build --workspace --bins` before this",
        path.display()
    );
    path
}

/// The folder of the programs that were built as this test was, such as `target/debug`.
fn build_dir() -> PathBuf {
    let test = env::current_exe().expect("a test knows where it is");
    let folder = test.parent().expect("a program is in a folder");
    let folder = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
    folder.to_owned()
}
