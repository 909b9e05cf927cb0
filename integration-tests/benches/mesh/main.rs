//! Measures the whole mesh: five services in processes of their own, one worker process, and a
//! private PostgreSQL with `fsync` and `synchronous_commit` on, all on this machine.

mod database;
mod floor;
mod latency;
mod processes;
mod report;
mod throughput;

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};
use clap::Parser;
use tasker_integration_tests::{Mesh, Program, example};
use tasker_private_postgres::{PrivatePostgres, Settings};

use crate::{database::Database, report::Report};

/// Measures the whole mesh.
#[derive(Debug, Parser)]
struct Arguments {
    /// Also writes the figures to this file, as one JSON object.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Tasks run one after another, for each latency.
    #[arg(long, default_value_t = 300)]
    sequential: usize,
    /// Tasks submitted at once, for the throughput.
    #[arg(long, default_value_t = 5_000)]
    tasks: usize,
    /// Callers that submit them.
    #[arg(long, default_value_t = 32)]
    callers: usize,
    /// Deliveries that the worker runs at once.
    #[arg(long, default_value_t = 256)]
    concurrency: usize,
    /// Seconds that the idle mesh is looked at.
    #[arg(long, default_value_t = 20)]
    idle: u64,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let folder = tempfile::Builder::new().prefix("tasker-bench-").tempdir()?;
    let postgres = PrivatePostgres::start(
        Settings::new(folder.path().join("postgres"))
            .with("shared_buffers", "128MB")
            .with("max_wal_size", "1GB")
            .with("checkpoint_timeout", "15min")
            .with("autovacuum_naptime", "10s"),
    )
    .await?;
    postgres.create_database("bench").await?;
    let url = postgres.url("bench");
    tasker_store::migrate(&url).await?;
    let database = Database::connect(&url).await?;
    let mut report = Report::new();
    report.add("floor_durable_commit_ms", floor::durable_commit(&database).await?);

    let mesh = Mesh::setup().database(&url).with("telemetry.log_filter", "warn").start().await;
    let client = mesh.client();
    for template in ["linear", "diamond", "tree"] {
        client.register_template(example(template)).await?;
    }
    let environment = [
        ("TASKER_GATEWAY", mesh.gateway().to_owned()),
        ("TASKER_WORKER_CONCURRENCY", arguments.concurrency.to_string()),
        ("RUST_LOG", "warn".to_owned()),
    ];
    let worker = Program::start("tasker-example-worker", "worker", &[], environment, mesh.logs());

    // Plans, caches and connections are made before anything is measured.
    latency::sequential(&client, "linear", 50).await.context("the warm-up failed")?;
    for (template, figure) in [("linear", "linear4"), ("diamond", "diamond"), ("tree", "tree8")] {
        let times = latency::sequential(&client, template, arguments.sequential).await?;
        for (name, quantile) in [("p50", 0.5), ("p95", 0.95), ("p99", 0.99)] {
            report.add(
                &format!("{figure}_{name}_ms"),
                times.value_at_quantile(quantile) as f64 / 1e3,
            );
        }
    }

    let run = throughput::run(&client, &database, arguments.tasks, arguments.callers).await?;
    let steps = 4.0 * arguments.tasks as f64;
    report.add("create_tasks_per_s", arguments.tasks as f64 / run.submitted.as_secs_f64());
    report.add("throughput_tasks_per_s", arguments.tasks as f64 / run.drained.as_secs_f64());
    report.add("throughput_steps_per_s", steps / run.drained.as_secs_f64());
    report.add("commits_per_step", run.spent.commits / steps);
    report.add("row_writes_per_step", run.spent.row_writes / steps);
    report.add("wal_bytes_per_step", run.spent.wal_bytes / steps);
    report.add("steps_hot_update_percent", run.spent.steps_hot_percent);

    let mut running = mesh.process_ids();
    running.push(("worker".to_owned(), worker.process_id()));
    let idle = Duration::from_secs(arguments.idle);
    let quiet = processes::while_idle(&database, &running, idle).await?;
    report.add("idle_queries_per_s", quiet.queries_per_s);
    report.add("idle_cpu_percent", quiet.cpu_percent);
    for (name, pid) in &running {
        report.add(&format!("rss_mib_{}", name.replace('-', "_")), processes::resident_mib(*pid)?);
    }

    report.print();
    if let Some(file) = &arguments.json {
        std::fs::write(file, report.json()).with_context(|| file.display().to_string())?;
    }
    worker.stop().await;
    mesh.stop().await;
    drop(mesh);
    drop(database);
    postgres.stop().await?;
    Ok(())
}
