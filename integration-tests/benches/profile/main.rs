//! Where a step's time and the database's CPU go: the whole mesh as it is deployed, on a private
//! PostgreSQL that counts its statements and explains them.
//!
//! Each load runs several times, since what is looked at closely is slowed by it: counted, explained,
//! sampled, traced.

mod activity;
mod folder;
mod load;
mod plans;
mod samples;
mod spans;
mod statements;

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result};
use clap::Parser;
use sqlx::{PgPool, postgres::PgPoolOptions};
use tasker_client::Client;
use tasker_integration_tests::{Mesh, Program, SpanReceiver, example};
use tasker_private_postgres::{PrivatePostgres, Settings};
use tokio::time::sleep;

use crate::{
    activity::Activity, folder::Folder, load::Load, plans::Plans, samples::Sampler, spans::Traces,
    statements::Statements,
};

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
    let postgres = PrivatePostgres::start(settings(home.path().join("postgres"))).await.context(
        "pg_stat_statements and auto_explain are needed: they come with PostgreSQL's contrib \
         (on Fedora and Alpine, the package postgresql-contrib)",
    )?;
    postgres.create_database("profile").await?;
    let url = postgres.url("profile");
    tasker_store::migrate(&url).await?;
    let looking = PgPoolOptions::new().max_connections(1).connect(&url).await?;
    sqlx::query("CREATE EXTENSION pg_stat_statements").execute(&looking).await?;

    let lone = Load::Lone { tasks: arguments.lone };
    let loaded = Load::Many { tasks: arguments.tasks, callers: arguments.callers };
    let sampled = Sampler::works().await;
    if let Err(why) = &sampled {
        println!("No samples: {why:#}");
    }
    let profile = Profile { postgres, looking, url, output, concurrency: arguments.concurrency };
    let running = profile.start(None).await?;
    for load in [&lone, &loaded] {
        println!("\n=== {load}");
        profile.counted(&running, load).await?;
        profile.explained(&running, load).await?;
        if sampled.is_ok() {
            profile.sampled(&running, load).await?;
        }
    }
    running.stop().await;
    for load in [&lone, &loaded] {
        profile.traced(load).await?;
    }
    println!("\nPlans and samples in {}", profile.output.path().display());
    profile.looking.close().await;
    profile.postgres.stop().await?;
    Ok(())
}

/// As the bench's server has them, and what counts and explains.
fn settings(data_dir: PathBuf) -> Settings {
    Settings::for_a_mesh(data_dir)
        .with("shared_preload_libraries", "pg_stat_statements,auto_explain")
        // Statements within functions and triggers too.
        .with("pg_stat_statements.track", "all")
        .with("track_wal_io_timing", "on")
        .with("auto_explain.log_min_duration", "-1")
        .with("auto_explain.log_analyze", "on")
        .with("auto_explain.log_buffers", "on")
        .with("auto_explain.log_wal", "on")
        .with("auto_explain.log_triggers", "on")
        .with("auto_explain.log_verbose", "on")
        .with("auto_explain.log_format", "json")
        .with("logging_collector", "on")
        .with("log_destination", "jsonlog")
        .with("log_directory", "profile_log")
        .with("log_filename", "log")
        .with("log_rotation_size", "0")
}

/// What every run needs.
#[derive(Debug)]
struct Profile {
    postgres: PrivatePostgres,
    looking: PgPool,
    url: String,
    output: Folder,
    concurrency: usize,
}

/// A mesh with a worker.
#[derive(Debug)]
struct Running {
    worker: Program,
    mesh: Mesh,
    client: Client,
}

impl Profile {
    /// Starts a mesh that is warm; its spans go to `otlp`, if given.
    async fn start(&self, otlp: Option<&str>) -> Result<Running> {
        let mut setup = Mesh::setup().database(&self.url).with("telemetry.log_filter", "warn");
        if let Some(endpoint) = otlp {
            setup = setup.with("telemetry.otlp_endpoint", endpoint);
        }
        let mesh = setup.start().await;
        let mut environment = vec![
            ("TASKER_GATEWAY", mesh.gateway().to_owned()),
            ("TASKER_WORKER_CONCURRENCY", self.concurrency.to_string()),
            ("RUST_LOG", "warn".to_owned()),
        ];
        environment
            .extend(otlp.map(|endpoint| ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.to_owned())));
        let worker =
            Program::start("tasker-example-worker", "worker", &[], environment, mesh.logs());
        let client = mesh.client();
        client.register_template(example("linear")).await?;
        // Plans, caches and connections are made before anything is measured.
        let warm_up = Load::Lone { tasks: 50 }.run(&client, &self.looking).await;
        warm_up.context("the warm-up failed")?;
        Ok(Running { worker, mesh, client })
    }

    /// Statements and processor time of a run that nothing disturbs.
    async fn counted(&self, running: &Running, load: &Load) -> Result<()> {
        let processes = running.processes();
        let look = async || Activity::read(&self.looking, &self.postgres, &processes).await;
        // What came before is reported by then.
        sleep(REPORTED).await;
        Statements::forget(&self.looking).await?;
        let before = look().await?;
        let took = load.run(&running.client, &self.looking).await?;
        let busy = look().await?;
        let statements = Statements::read(&self.looking).await?;
        sleep(REPORTED).await;
        let reported = look().await?;
        println!("{took}");
        reported.print_counters(&before, load.steps());
        statements.print(load.steps());
        busy.print_processes(&before, load.steps());
        Ok(())
    }

    /// Plans with the time of each node, of smaller runs that are slowed by measuring them.
    async fn explained(&self, running: &Running, load: &Load) -> Result<()> {
        let explain = async |nested| {
            let plans = Plans::begin(&self.looking, &self.postgres, nested).await?;
            load.smaller(10).run(&running.client, &self.looking).await?;
            plans.end(&self.looking).await
        };
        // Explained on its own, what triggers run does not slow who fires them.
        let plans = explain(false).await?.with_others_of(explain(true).await?);
        plans.save(&self.output.folder(&format!("plans-{}", load.name()))?)?;
        println!("\nPlans: mean time of each node itself, in ms, the slowest first");
        plans.print();
        Ok(())
    }

    /// Functions of each process in which it is most.
    async fn sampled(&self, running: &Running, load: &Load) -> Result<()> {
        let folder = self.output.folder(&format!("samples-{}", load.name()))?;
        let mut processes = running.processes();
        processes.extend(activity::servers(&self.looking, &self.postgres).await?);
        println!("\nFunctions, by their share of the processor time of their process");
        let sampler = Sampler::begin(processes, &folder)?;
        load.run(&running.client, &self.looking).await?;
        sampler.end(&folder).await
    }

    /// Spans, of a mesh that sends them.
    async fn traced(&self, load: &Load) -> Result<()> {
        let receiver = SpanReceiver::start().await;
        let running = self.start(Some(&receiver.endpoint())).await?;
        let warm = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_nanos();
        let load = load.smaller(2);
        let took = load.run(&running.client, &self.looking).await?;
        // Whoever ends has sent its last spans before.
        running.stop().await;
        let mut spans = receiver.spans();
        spans.retain(|span| u128::try_from(span.began).is_ok_and(|began| began > warm));
        let traces = Traces::of_tasks(spans);
        println!("\n=== traced, {load}\n{took}");
        traces.print_kinds();
        if let Load::Lone { .. } = load {
            traces.print_way();
        }
        Ok(())
    }
}

impl Running {
    fn processes(&self) -> Vec<(String, u32)> {
        let mut processes = self.mesh.process_ids();
        processes.push(("worker".to_owned(), self.worker.process_id()));
        processes.push(("this program".to_owned(), std::process::id()));
        processes
    }

    async fn stop(self) {
        self.worker.stop().await;
        self.mesh.stop().await;
    }
}
