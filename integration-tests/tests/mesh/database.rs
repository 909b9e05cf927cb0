//! PostgreSQL may restart, crash, be cut off, or be of another schema.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use tasker_client::{NewTask, RetryPolicy};
use tasker_integration_tests::{Mesh, Program, Service, register_examples, until};
use tasker_private_postgres::{PrivatePostgres, Settings};
use tasker_testing::TestDatabase;
use tempfile::TempDir;
use tonic::Code;

use crate::under_load::{Load, PATIENCE, example_worker};

/// Short, so that what a lost session held comes back soon.
const SESSION_TTL: (&str, &str) = ("step_enqueuer.session_ttl", "3s");

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_task_completes_though_connections_to_the_database_are_cut_again_and_again() {
    let mesh = Mesh::setup().with(SESSION_TTL.0, SESSION_TTL.1).start().await;
    let client = mesh.client();
    register_examples(&client, &["linear"]).await;
    let worker = example_worker(&mesh, "worker");
    let load = Load::start(&client, 250);
    let ledger = mesh.ledger().await;
    for part in 1..20 {
        load.until(f64::from(part) * 0.05).await;
        let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
             WHERE datname = current_database() AND pid <> pg_backend_pid()
               AND application_name LIKE 'tasker-%'";
        // Tasks whose answers were on their way may complete the next part before any service has connected
        // again.
        until("connections were cut", PATIENCE, async || {
            (ledger.number(cut).await > 0).then_some(())
        })
        .await;
    }
    load.ends_well(&ledger).await;
    // Whether a commit came to pass is not known where its answer was cut off: nobody may run such a
    // step, but it must not wait for its timeout.
    let timed_out = "SELECT count(*) FROM step_transitions
        WHERE 'LeaseExpired' = ANY(events) AND reason LIKE '%timeout%'";
    assert_eq!(ledger.number(timed_out).await, 0, "a step has waited for its timeout");
    assert!(worker.stop().await.success());
    ledger.nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_refuses_a_database_of_another_schema_and_says_which() {
    let (empty, logs) = (TestDatabase::empty().await, tempfile::tempdir().unwrap());
    for service in Service::ALL.into_iter().filter(|service| *service != Service::Gateway) {
        let environment = [("TASKER_DATABASE__URL", empty.url())];
        let name = format!("tasker-{}", service.name());
        let program = Program::start(&name, &name, &[], environment, logs.path());
        let ended = until("it has refused", PATIENCE, async || program.ended()).await;
        assert!(!ended.success());
        let told = program.log();
        assert!(
            told.contains("schema version none") && told.contains("tasker-ctl migrate"),
            "{told}"
        );
    }
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
    settings.fallback_binaries = vec![workspace.join(".tasker/postgres/bin")];
    let postgres = PrivatePostgres::start(settings).await.unwrap();
    postgres.create_database("tasker").await.unwrap();
    tasker_store::migrate(&postgres.url("tasker")).await.unwrap();
    (home, postgres)
}
