//! Where a step's time and the database's CPU go: the whole mesh as it is deployed, on a private
//! PostgreSQL that counts its statements and explains them.
//!
//! Each load runs several times, since what is looked at closely is slowed by it: counted, explained,
//! sampled, traced.

mod activity;
mod folder;
mod load;
mod plans;
mod statements;

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};
use clap::Parser;
use sqlx::{PgPool, postgres::PgPoolOptions};
use tasker_client::Client;
use tasker_integration_tests::{Mesh, Program, example};
use tasker_private_postgres::{PrivatePostgres, Settings};

use crate::{activity::Activity, folder::Folder, load::Load, plans::Plans, statements::Statements};

/// Longer than idle backends take to report their counters.
const REPORTED: Duration = Duration::from_secs(11);

/// Says where a step's time and the database's CPU go.
#[derive(Debug, Parser)]
struct Arguments {
    /// Where plans and samples are kept.
    #[arg(long, default_value = "target/profile")]
    output: PathBuf,
    /// Tasks run one after another.
    #[arg(long, default_value_t = 200)]
    lone: usize,
    /// Tasks submitted at once.
    #[arg(long, default_value_t = 3_000)]
    tasks: usize,
    /// Callers that submit them.
    #[arg(long, default_value_t = 32)]
    callers: usize,
    /// Deliveries that the worker runs at once.
    #[arg(long, default_value_t = 256)]
    concurrency: usize,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let output = Folder::empty(&arguments.output)?;
    let home = tempfile::Builder::new().prefix("tasker-profile-").tempdir()?;
    // So that the server's own user can enter: else its data would stay elsewhere.
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755))?;
    let postgres = PrivatePostgres::start(settings(home.path().join("postgres"))).await?;
    postgres.create_database("profile").await?;
    let url = postgres.url("profile");
    tasker_store::migrate(&url).await?;
    let looking = PgPoolOptions::new().max_connections(1).connect(&url).await?;
    sqlx::query("CREATE EXTENSION pg_stat_statements").execute(&looking).await?;

    let mesh = Mesh::setup().database(&url).with("telemetry.log_filter", "warn").start().await;
    let worker = start_worker(&mesh, arguments.concurrency);
    let client = mesh.client();
    client.register_template(example("linear")).await?;
    let mut running = mesh.process_ids();
    running.push(("worker".to_owned(), worker.process_id()));
    running.push(("this program".to_owned(), std::process::id()));

    // Plans, caches and connections are made before anything is measured.
    Load::Lone { tasks: 50 }.run(&client, &looking).await.context("the warm-up failed")?;
    let lone = Load::Lone { tasks: arguments.lone };
    let loaded = Load::Many { tasks: arguments.tasks, callers: arguments.callers };
    for load in [lone, loaded] {
        counted(&load, &client, &looking, &postgres, &running).await?;
        explained(&load, &client, &looking, &postgres, &output).await?;
    }
    println!("\nPlans in {}", output.path().display());

    worker.stop().await;
    mesh.stop().await;
    drop(mesh);
    looking.close().await;
    postgres.stop().await?;
    Ok(())
}

/// As the bench has it, but for what counts and explains.
fn settings(data_dir: PathBuf) -> Settings {
    Settings::new(data_dir)
        .with("shared_buffers", "128MB")
        .with("max_wal_size", "1GB")
        .with("checkpoint_timeout", "15min")
        .with("autovacuum_naptime", "10s")
        .with("shared_preload_libraries", "pg_stat_statements,auto_explain")
        // Statements within functions and triggers too.
        .with("pg_stat_statements.track", "all")
        .with("track_wal_io_timing", "on")
        .with("auto_explain.log_min_duration", "-1")
        .with("auto_explain.log_analyze", "on")
        .with("auto_explain.log_buffers", "on")
        .with("auto_explain.log_wal", "on")
        .with("auto_explain.log_triggers", "on")
        .with("auto_explain.log_nested_statements", "on")
        .with("auto_explain.log_verbose", "on")
        .with("auto_explain.log_format", "json")
        .with("logging_collector", "on")
        .with("log_destination", "jsonlog")
        .with("log_directory", "profile_log")
        .with("log_filename", "log")
        .with("log_rotation_size", "0")
}

fn start_worker(mesh: &Mesh, concurrency: usize) -> Program {
    let environment = [
        ("TASKER_GATEWAY", mesh.gateway().to_owned()),
        ("TASKER_WORKER_CONCURRENCY", concurrency.to_string()),
        ("RUST_LOG", "warn".to_owned()),
    ];
    Program::start("tasker-example-worker", "worker", &[], environment, mesh.logs())
}

/// Statements and processor time of a run that nothing disturbs.
async fn counted(
    load: &Load,
    client: &Client,
    looking: &PgPool,
    postgres: &PrivatePostgres,
    running: &[(String, u32)],
) -> Result<()> {
    // What came before is reported by then.
    tokio::time::sleep(REPORTED).await;
    Statements::forget(looking).await?;
    let before = Activity::read(looking, postgres, running).await?;
    let took = load.run(client, looking).await?;
    let busy = Activity::read(looking, postgres, running).await?;
    let statements = Statements::read(looking).await?;
    tokio::time::sleep(REPORTED).await;
    let reported = Activity::read(looking, postgres, running).await?;
    println!("\n=== {load}\n{took}");
    reported.print_counters(&before, load.steps());
    statements.print(load.steps());
    busy.print_processes(&before, load.steps());
    Ok(())
}

/// Plans with the time of each node, of a smaller run that is slowed by measuring them.
async fn explained(
    load: &Load,
    client: &Client,
    looking: &PgPool,
    postgres: &PrivatePostgres,
    output: &Folder,
) -> Result<()> {
    let plans = Plans::begin(looking, postgres).await?;
    load.smaller(10).run(client, looking).await?;
    let plans = plans.end(looking).await?;
    plans.save(&output.folder(&format!("plans-{}", load.name()))?)?;
    println!("\nPlans of every statement; mean time of each node itself, slowest first");
    plans.print();
    Ok(())
}
