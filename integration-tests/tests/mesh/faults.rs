//! What is acknowledged is done in the end, whatever is killed meanwhile.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures::{StreamExt as _, stream};
use serde_json::json;
use tasker_client::{Client, NewTask, RetryPolicy};
use tasker_integration_tests::{
    Ledger, Mesh, Program, Recorder, Service, Signal, register_examples, until,
};
use tasker_private_postgres::{PrivatePostgres, Settings};
use tasker_worker::Registry;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tonic::Code;

const PATIENCE: Duration = Duration::from_secs(90);
const CALLERS: usize = 8;
/// Short, so that what a killed worker held comes back soon.
const SESSION_TTL: (&str, &str) = ("step_enqueuer.session_ttl", "3s");

/// Tasks that are submitted one after another, by several callers, while faults happen.
struct Load {
    tasks: usize,
    acknowledged: Arc<AtomicUsize>,
    submitted: JoinHandle<()>,
}

impl Load {
    fn start(client: &Client, tasks: usize) -> Self {
        // Submissions go on through any fault of this test: each has an id of its own.
        let policy = RetryPolicy { deadline: PATIENCE, ..RetryPolicy::default() };
        let client = client.clone().with_retry_policy(policy);
        let acknowledged = Arc::new(AtomicUsize::new(0));
        let count = acknowledged.clone();
        let submitted = tokio::spawn(async move {
            let submit = |nth: usize| {
                let (client, count) = (client.clone(), count.clone());
                let n = json!({"n": 2 * nth});
                let task = NewTask::of("arithmetic", "linear").context(&n).unwrap();
                async move {
                    client.create_task(task).await.unwrap();
                    count.fetch_add(1, Ordering::Relaxed);
                }
            };
            stream::iter(0..tasks).for_each_concurrent(CALLERS, submit).await;
        });
        Self { tasks, acknowledged, submitted }
    }

    /// Waits until this part of the tasks has been acknowledged.
    async fn until(&self, part: f64) {
        let wanted = (self.tasks as f64 * part) as usize;
        until("so many tasks are acknowledged", PATIENCE, async || {
            (self.acknowledged.load(Ordering::Relaxed) >= wanted).then_some(())
        })
        .await;
    }

    /// Waits until all are done, and checks that each was done once.
    async fn ends_well(self, ledger: &Ledger) {
        self.submitted.await.unwrap();
        ledger.until_completed(self.tasks, PATIENCE).await;
        ledger.every_task_has_completed_once(self.tasks).await;
    }
}

fn example_worker(mesh: &Mesh, name: &str) -> Program {
    let environment = [("TASKER_GATEWAY", mesh.gateway()), ("TASKER_WORKER_ID", name)];
    Program::start("tasker-example-worker", name, &[], environment, mesh.logs())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_task_completes_though_each_service_and_a_worker_are_killed_under_load() {
    let mesh = Mesh::setup().with(SESSION_TTL.0, SESSION_TTL.1).start().await;
    let client = mesh.client();
    register_examples(&client, &["linear"]).await;
    let (killed, other) = (example_worker(&mesh, "killed"), example_worker(&mesh, "other"));
    let load = Load::start(&client, 350);
    for (part, service) in [0.1, 0.25, 0.4, 0.55, 0.7].into_iter().zip(Service::ALL) {
        load.until(part).await;
        mesh.kill(service, 0);
        mesh.restart(service, 0).await;
    }
    load.until(0.85).await;
    killed.kill();
    let ledger = mesh.ledger().await;
    load.ends_well(&ledger).await;
    assert!(other.stop().await.success());
    ledger.nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_replica_of_each_service_may_be_killed_and_stay_away() {
    let mesh = Mesh::setup().replicas(2).with(SESSION_TTL.0, SESSION_TTL.1).start().await;
    // The gateway that stays is the first: clients and workers know but one address.
    let client = mesh.client();
    register_examples(&client, &["linear"]).await;
    let worker = example_worker(&mesh, "worker");
    let load = Load::start(&client, 200);
    load.until(0.3).await;
    for service in Service::ALL {
        mesh.kill(service, 1);
    }
    let ledger = mesh.ledger().await;
    load.ends_well(&ledger).await;
    assert!(worker.stop().await.success());
    ledger.nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_workers_step_comes_back_within_the_session_time() {
    a_lost_workers_step_comes_back(Signal::SIGKILL).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hung_workers_step_comes_back_within_the_session_time() {
    a_lost_workers_step_comes_back(Signal::SIGSTOP).await;
}

async fn a_lost_workers_step_comes_back(signal: Signal) {
    let mesh = Mesh::setup().with(SESSION_TTL.0, SESSION_TTL.1).start().await;
    let client = mesh.client();
    let yaml = "{namespace: faults, name: held, version: 1.0.0,
        steps: [{name: only, handler: {callable: hold}}]}";
    client.register_template(yaml).await.unwrap();
    let arguments = [mesh.gateway(), "faults", "hold"];
    let none: [(&str, &str); 0] = [];
    let lost = Program::start("tasker-test-worker", "lost", &arguments, none, mesh.logs());
    let task_id = client.create_task(NewTask::of("faults", "held")).await.unwrap().task_id;
    until("the worker holds the step", PATIENCE, async || {
        lost.log().contains("holds only").then_some(())
    })
    .await;
    // A step comes back to whoever is there; it must be the time of the session that passes, not
    // the time until the next worker comes.
    let recorder = Recorder::default();
    let mut handlers = Registry::new();
    handlers.register_fn("hold", |_| async { Ok(1) });
    let worker = mesh.worker(&["faults"], &recorder.of(&handlers));
    lost.signal(signal);
    let lost_at = Instant::now();
    let ledger = mesh.ledger().await;
    ledger.until_completed(1, PATIENCE).await;
    let run = recorder.runs(&task_id).remove("only").unwrap();
    assert_eq!(run.attempt, 2, "a lost attempt counts");
    // A hung worker is noticed by its silence, which a busy machine may notice a little later.
    let waited = run.began - lost_at;
    assert!(waited < Duration::from_secs(3 + 2), "it took {waited:?}");
    lost.kill();
    worker.stop().await;
    ledger.every_task_has_completed_once(1).await;
    ledger.nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_task_completes_though_postgresql_is_restarted_and_crashes_under_load() {
    let (_home, postgres) = own_postgres().await;
    let url = postgres.url("tasker");
    let mesh = Mesh::setup().database(&url).with(SESSION_TTL.0, SESSION_TTL.1).start().await;
    let client = mesh.client();
    register_examples(&client, &["linear"]).await;
    let worker = example_worker(&mesh, "worker");
    let load = Load::start(&client, 250);
    load.until(0.3).await;
    postgres.restart().await.unwrap();
    load.until(0.6).await;
    postgres.kill().await.unwrap();
    postgres.restart().await.unwrap();
    let ledger = mesh.ledger().await;
    load.ends_well(&ledger).await;
    assert!(worker.stop().await.success());
    ledger.nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readiness_follows_the_database_and_calls_meanwhile_say_when_to_try_again() {
    let (_home, postgres) = own_postgres().await;
    let url = postgres.url("tasker");
    let mesh = Mesh::setup().database(&url).start().await;
    let client = mesh.client();
    register_examples(&client, &["linear"]).await;
    let ready = async || client.health().await.unwrap();

    postgres.kill().await.unwrap();
    let health = until("the mesh says that it is not ready", PATIENCE, async || {
        let health = ready().await;
        (!health.ready && health.services.iter().filter(|it| !it.ready).count() == 4)
            .then_some(health)
    })
    .await;
    assert!(health.services.iter().all(|it| it.ready == it.reason.is_empty()), "{health:?}");
    let once = RetryPolicy {
        deadline: Duration::from_secs(8),
        first_wait: PATIENCE,
        ..RetryPolicy::default()
    };
    let impatient = client.clone().with_retry_policy(once);
    let error = impatient.create_task(NewTask::of("arithmetic", "linear")).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable, "{error}");
    assert!(error.failure().unwrap().retry_after.is_some(), "{error}");

    postgres.restart().await.unwrap();
    until("the mesh is ready again", PATIENCE, async || ready().await.ready.then_some(())).await;
    impatient.create_task(NewTask::of("arithmetic", "linear")).await.unwrap();
}

/// A server of its own, which waits for the disk as one in production does.
async fn own_postgres() -> (TempDir, PrivatePostgres) {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    // Where the server's own user can enter, as a checkout usually is.
    let home =
        tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).or_else(|_| tempfile::tempdir()).unwrap();
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut settings = Settings::new(home.path().join("cluster"))
        .with("shared_buffers", "32MB")
        .with("max_connections", "200");
    settings.fallback_binaries = vec![PathBuf::from(&workspace).join(".tasker/postgres/bin")];
    let postgres = PrivatePostgres::start(settings).await.unwrap();
    postgres.create_database("tasker").await.unwrap();
    tasker_store::migrate(&postgres.url("tasker")).await.unwrap();
    (home, postgres)
}
