//! The example worker: serves the namespaces of the example templates until it is asked to stop.

use anyhow::Context as _;
use clap::Parser;
use tasker_example_worker::{NAMESPACES, registry};
use tasker_runtime::{Telemetry, config, signals};
use tasker_worker::Worker;

/// Runs the steps of the example templates.
///
/// Spans go to OTEL_EXPORTER_OTLP_ENDPOINT if it is set. SIGTERM and SIGINT drain: what was begun is
/// finished, the rest is given back.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Address of the gateway.
    #[arg(long, env = "TASKER_GATEWAY", default_value = "http://127.0.0.1:7700")]
    gateway: String,
    /// Steps to hold at once: 1 to 10,000.
    #[arg(long, env = "TASKER_WORKER_CONCURRENCY", default_value_t = 32)]
    concurrency: usize,
    /// Name of this worker through all its connections; a new one for each process if not given.
    #[arg(long, env = "TASKER_WORKER_ID")]
    worker_id: Option<String>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let _telemetry = Telemetry::init("example-worker", &config::Telemetry::default())?;
    let shutdown = signals::shutdown().context("cannot listen for signals")?;
    let mut worker = Worker::builder(arguments.gateway)
        .namespaces(NAMESPACES)
        .concurrency(arguments.concurrency)
        .registry(registry());
    if let Some(id) = arguments.worker_id {
        worker = worker.worker_id(id);
    }
    worker.build()?.run(shutdown).await?;
    Ok(())
}
