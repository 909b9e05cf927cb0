//! What a program may expect of its private cluster, tried with a real one.

#![expect(clippy::unwrap_used, reason = "in a test, it is how a promise fails")]

use std::{
    fs,
    io::{BufRead, BufReader},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, Stdio},
};

use sqlx::{Connection, Executor, PgConnection};
use tasker_private_postgres::{Error, PrivatePostgres, Settings};
use tempfile::TempDir;

/// Tells the test's own program to hold this cluster until it is killed.
const HOLD: &str = "TASKER_TEST_HOLDS";

/// A folder that the server's user can enter, as a checkout usually is.
fn home() -> TempDir {
    let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"));
    // An ordinary user may run what root has built.
    let home = home.or_else(|_| tempfile::tempdir()).unwrap();
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
    home
}

fn quick(home: &Path) -> Settings {
    Settings::new(home.join("a cluster")).with("shared_buffers", "8MB").with("fsync", "off")
}

async fn ask(url: &str, question: &'static str) -> i32 {
    let mut connection = PgConnection::connect(url).await.unwrap();
    let answer = sqlx::query_scalar(question).fetch_one(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    answer
}

async fn tell(url: &str, statement: &'static str) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    connection.execute(statement).await.unwrap();
    connection.close().await.unwrap();
}

#[tokio::test]
async fn what_was_committed_is_there_after_a_stop_and_after_a_crash() {
    let home = home();
    let settings = Settings::new(home.path().join("cluster")).with("shared_buffers", "8MB");
    let postgres = PrivatePostgres::start(settings.clone()).await.unwrap();
    postgres.create_database("kept").await.unwrap();
    postgres.create_database("kept").await.unwrap();
    tell(&postgres.url("kept"), "CREATE TABLE t AS SELECT 1 AS n").await;

    let port = postgres.port();
    postgres.kill().await.unwrap();
    assert!(PgConnection::connect(&postgres.url("kept")).await.is_err());
    postgres.restart().await.unwrap();
    assert_eq!(postgres.port(), port);
    assert_eq!(ask(&postgres.url("kept"), "SELECT n FROM t").await, 1);

    postgres.stop().await.unwrap();
    drop(postgres);
    let again = PrivatePostgres::start(settings).await.unwrap();
    assert_eq!(ask(&again.tcp_url("kept"), "SELECT n FROM t").await, 1);
}

#[tokio::test]
async fn tcp_asks_for_the_password() {
    let home = home();
    let postgres = PrivatePostgres::start(quick(home.path())).await.unwrap();
    let with = postgres.tcp_url("postgres");
    let (before, after) = with.split_once('@').unwrap();
    let without = format!("{}:wrong@{after}", before.rsplit_once(':').unwrap().0);
    assert_eq!(ask(&with, "SELECT 1").await, 1);
    assert!(PgConnection::connect(&without).await.is_err());
}

#[tokio::test]
async fn a_second_starter_is_told_who_has_the_cluster() {
    let home = home();
    let _first = PrivatePostgres::start(quick(home.path())).await.unwrap();
    let refused = PrivatePostgres::start(quick(home.path())).await.unwrap_err();
    let Error::InUse { holder, .. } = refused else { panic!("{refused}") };
    assert!(holder.ends_with(&format!("process {}", std::process::id())), "{holder}");
}

#[tokio::test]
async fn a_taken_port_is_named_and_nothing_is_left_running() {
    let home = home();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let asked = Settings { port: Some(port), ..quick(home.path()) };
    let refused = PrivatePostgres::start(asked).await.unwrap_err();
    assert!(matches!(refused, Error::PortTaken { port: named } if named == port), "{refused}");
    PrivatePostgres::start(quick(home.path())).await.unwrap();
}

#[tokio::test]
async fn a_refused_setting_is_quoted_from_the_servers_log() {
    let home = home();
    let refused = PrivatePostgres::start(quick(home.path()).with("max_connections", "many")).await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("max_connections"), "{refused}");
    PrivatePostgres::start(quick(home.path())).await.unwrap();
}

#[tokio::test]
async fn a_folder_of_other_things_is_left_alone() {
    let home = home();
    fs::create_dir(home.path().join("a cluster")).unwrap();
    fs::write(home.path().join("a cluster/letter"), "dear").unwrap();
    let refused = PrivatePostgres::start(quick(home.path())).await;
    assert!(!matches!(refused, Ok(_) | Err(Error::Failed { .. })));
    assert_eq!(fs::read_to_string(home.path().join("a cluster/letter")).unwrap(), "dear");
}

#[tokio::test]
async fn a_long_path_and_one_that_the_server_may_not_enter_both_work() {
    let home = home();
    let closed = home.path().join("x".repeat(100));
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    let postgres = PrivatePostgres::start(quick(&closed)).await.unwrap();
    assert_eq!(ask(&postgres.url("postgres"), "SELECT 1").await, 1);

    let elsewhere = postgres.data_dir().to_owned();
    drop(postgres);
    if !elsewhere.starts_with(home.path()) {
        fs::remove_dir_all(elsewhere).unwrap();
    }
}

#[tokio::test]
async fn a_shared_server_is_joined_and_outlives_its_starter() {
    let home = home();
    let (one, two) = tokio::join!(
        PrivatePostgres::share(quick(home.path())),
        PrivatePostgres::share(quick(home.path()))
    );
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!(one.port(), two.port());
    drop((one, two));
    let three = PrivatePostgres::share(quick(home.path())).await.unwrap();
    assert_eq!(ask(&three.url("postgres"), "SELECT 1").await, 1);
    three.stop().await.unwrap();
    assert!(PgConnection::connect(&three.url("postgres")).await.is_err());
}

#[tokio::test]
async fn the_server_ends_when_its_program_is_killed() {
    if let Some(cluster) = std::env::var_os(HOLD) {
        return hold(Path::new(&cluster)).await;
    }
    let home = home();
    let (mut program, url, _) = holder(home.path());
    program.kill().unwrap();
    program.wait().unwrap();
    // The server's last connection ends with it: an event, however long the keeper takes.
    if let Ok(mut connection) = PgConnection::connect(&url).await {
        let asked = sqlx::query("SELECT pg_sleep(60)").execute(&mut connection).await;
        assert!(asked.is_err(), "the server outlived its program");
    }
    PrivatePostgres::start(quick(home.path())).await.unwrap();
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_server_whose_keeper_died_too_is_replaced_by_the_next_start() {
    let home = home();
    let (mut program, url, keeper) = holder(home.path());
    let killed = Command::new("sh").args(["-c", &format!("kill -9 {keeper}")]).status().unwrap();
    assert!(killed.success());
    program.kill().unwrap();
    program.wait().unwrap();
    assert_eq!(ask(&url, "SELECT 1").await, 1);
    let next = PrivatePostgres::start(quick(home.path())).await.unwrap();
    assert_eq!(ask(&next.url("postgres"), "SELECT 1").await, 1);
}

/// Another process that holds the cluster: itself, the server's URL, and the keeper's process.
fn holder(home: &Path) -> (Child, String, String) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "the_server_ends_when_its_program_is_killed", "--nocapture"]);
    command.env(HOLD, home).stdout(Stdio::piped());
    let mut program = command.spawn().unwrap();
    let lines = BufReader::new(program.stdout.take().unwrap()).lines();
    let mut lines = lines.map(Result::unwrap).skip_while(|line| !line.starts_with("holds "));
    let line = lines.next().expect("the holder says what it holds");
    let words: Vec<&str> = line.split(' ').collect();
    (program, words[1].to_owned(), words[2].to_owned())
}

async fn hold(home: &Path) {
    let postgres = PrivatePostgres::start(quick(home)).await.unwrap();
    println!("holds {} {}", postgres.url("postgres"), only_child());
    std::future::pending::<()>().await;
}

/// The process whose parent we are.
fn only_child() -> String {
    let ours = std::process::id().to_string();
    let processes = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    let child = processes.into_iter().find(|process| {
        // The name, in parentheses, may hold anything; state and parent follow it.
        let stat = fs::read_to_string(process.join("stat")).unwrap_or_default();
        let after = stat.rsplit_once(") ").map(|(_, after)| after);
        after.and_then(|after| after.split(' ').nth(1)) == Some(ours.as_str())
    });
    child.unwrap().file_name().unwrap().to_string_lossy().into_owned()
}
