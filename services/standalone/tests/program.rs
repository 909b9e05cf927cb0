//! The program as a user runs it, with a real PostgreSQL of its own.

#![expect(clippy::unwrap_used, reason = "in a test, it is how a promise fails")]

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use futures::TryStreamExt as _;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tasker_client::{
    Client,
    v1::{ListTemplatesRequest, Template},
};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(30);

/// A folder with a space in its name, that the database's user can enter.
fn home() -> TempDir {
    let home = tempfile::Builder::new().prefix("a home ").tempdir_in(env!("CARGO_TARGET_TMPDIR"));
    // An ordinary user may run what root has built.
    let home = home.or_else(|_| tempfile::tempdir()).unwrap();
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
    home
}

fn command(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tasker-standalone"));
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"TASKER_") && name != "TASKER_PG_BIN" {
            command.env_remove(name);
        }
    }
    command.arg("--data-dir").arg(home.join("data")).args([
        "--standalone.postgres.fsync=off",
        "--standalone.postgres.shared_buffers=16MB",
        "--drain.timeout=5s",
    ]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The program, killed when a test fails.
struct Standalone {
    child: Child,
    out: BufReader<ChildStdout>,
    gateway: String,
}

impl Standalone {
    fn start(command: Command) -> Self {
        Self::start_with_log(command, Stdio::inherit())
    }

    fn start_with_log(mut command: Command, log: impl Into<Stdio>) -> Self {
        let mut child = command.stderr(log).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let gateway = line.trim().strip_prefix("ready ").expect("it is ready").to_owned();
        Self { child, out, gateway }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    /// The exit code; nothing more was printed.
    fn ended(mut self) -> Option<i32> {
        let mut rest = String::new();
        self.out.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "");
        self.child.wait().unwrap().code()
    }
}

impl Drop for Standalone {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Waits until the server of this mesh has ended: it removes this file last.
fn postgres_has_ended(home: &Path) {
    let (file, began) = (home.join("data/database/postmaster.pid"), Instant::now());
    while file.exists() {
        assert!(began.elapsed() < PATIENCE, "PostgreSQL is left behind");
        thread::sleep(Duration::from_millis(50));
    }
}

fn postgres_runs(home: &Path) -> bool {
    home.join("data/database/postmaster.pid").exists()
}

#[tokio::test(flavor = "multi_thread")]
async fn all_is_ready_when_it_says_so_and_all_ends_at_a_signal() {
    let home = home();
    let ready = home.path().join("ready");
    let templates = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/templates");
    let mut command = command(home.path());
    command.arg("--ready-file").arg(&ready).arg("--templates").arg(templates);
    let mesh = Standalone::start(command);
    assert_eq!(fs::read_to_string(&ready).unwrap(), format!("{}\n", mesh.gateway));

    let client = Client::connect(&mesh.gateway).await.unwrap();
    let health = client.health().await.unwrap();
    assert!(health.ready, "{health:?}");
    assert_eq!(health.services.len(), 5);
    let versions: Vec<&str> = health.services.iter().map(|it| it.version.as_str()).collect();
    assert_eq!(versions, [env!("CARGO_PKG_VERSION"); 5]);
    let listed: Vec<Template> =
        client.list_templates(ListTemplatesRequest::default()).try_collect().await.unwrap();
    assert_eq!(listed.len(), 7);
    assert!(postgres_runs(home.path()));

    mesh.signal(Signal::SIGTERM);
    assert_eq!(mesh.ended(), Some(0));
    assert!(!postgres_runs(home.path()), "it waited for the end of PostgreSQL");
}

#[test]
fn an_orderly_stop_warns_of_nothing() {
    let home = home();
    let log = home.path().join("log");
    let mut command = command(home.path());
    command.arg("--telemetry.log_format=json");
    let mesh = Standalone::start_with_log(command, fs::File::create(&log).unwrap());
    mesh.signal(Signal::SIGTERM);
    assert_eq!(mesh.ended(), Some(0));
    let log = fs::read_to_string(&log).unwrap();
    assert!(log.contains("is connected"), "{log}");
    let loud = |line: &&str| {
        (line.contains(r#""level":"WARN""#) || line.contains(r#""level":"ERROR""#))
            // Of the beginning: another mesh may be on this machine.
            && !line.contains("something else listens")
    };
    let loud: Vec<&str> = log.lines().filter(loud).collect();
    assert!(loud.is_empty(), "{loud:#?}");
}

#[test]
fn a_second_start_finds_what_the_first_has_left() {
    let home = home();
    for signal in [Signal::SIGINT, Signal::SIGKILL, Signal::SIGTERM] {
        let mesh = Standalone::start(command(home.path()));
        mesh.signal(signal);
        assert_eq!(mesh.ended(), (signal != Signal::SIGKILL).then_some(0));
    }
    postgres_has_ended(home.path());
}

#[test]
fn a_second_signal_leaves_no_database_behind() {
    let home = home();
    let mesh = Standalone::start(command(home.path()));
    mesh.signal(Signal::SIGTERM);
    mesh.signal(Signal::SIGINT);
    // The drain may have been quicker.
    assert!(matches!(mesh.ended(), Some(0 | 130)));
    postgres_has_ended(home.path());
}

#[test]
fn a_signal_while_it_starts_leaves_nothing_behind() {
    let home = home();
    let mut child = command(home.path()).spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(log.any(|line| line.unwrap().contains("PostgreSQL in ")));
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
    let rest = thread::spawn(move || log.count());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    rest.join().unwrap();
    postgres_has_ended(home.path());
}

#[test]
fn an_address_that_was_asked_for_and_is_taken_is_refused_before_anything_starts() {
    let home = home();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let mut command = command(home.path());
    let output = command.arg(format!("--gateway.listen={address}")).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains(&format!("cannot listen on {address} (`gateway.listen`)")), "{said}");
    assert_eq!((output.status.code(), output.stdout), (Some(1), Vec::new()));
    assert!(!home.path().join("data").exists());
}

#[test]
fn a_wrong_configuration_ends_with_64_before_anything_starts() {
    let home = home();
    let output = command(home.path()).arg("--finalizer.colour=red").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("`finalizer.colour` is wrong"), "{said}");
    assert_eq!(output.status.code(), Some(64));
    assert!(!home.path().join("data").exists());
}

#[test]
fn a_template_that_is_refused_takes_the_rest_down() {
    let home = home();
    let templates = home.path().join("templates");
    fs::create_dir(&templates).unwrap();
    fs::write(templates.join("wrong.yaml"), "name: 1").unwrap();
    let mut command = command(home.path());
    let output = command.arg("--templates").arg(&templates).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("wrong.yaml"), "{said}");
    assert_eq!((output.status.code(), output.stdout), (Some(1), Vec::new()));
    assert!(!postgres_runs(home.path()));
}
