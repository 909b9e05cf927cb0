//! The mesh that is measured, and what it stands on.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tasker_client::Client;
use tasker_integration_tests::{Mesh, Program, example};
use tasker_private_postgres::{PrivatePostgres, Settings};
use tempfile::TempDir;
use tokio::time::sleep;

use crate::{
    arguments::Arguments,
    database::Database,
    latency::{self, By},
    processes::{Process, Processes},
    sustained::Maximum,
};

/// Longer than idle connections take to report what they have done.
const REPORTED: Duration = Duration::from_secs(11);

/// Of each log, where something broke.
const LINES_SHOWN: usize = 20;

/// Services, workers and database, with a client and an eye on the database.
pub struct Rig {
    pub arguments: Arguments,
    pub client: Client,
    pub database: Database,
    pub mesh: Mesh,
    pub workers: Vec<Program>,
    pub postgres: PrivatePostgres,
    /// Once it has been measured.
    pub maximum: Option<Maximum>,
    /// When the mesh has last been given something to do.
    busy_until: Instant,
    // Goes last.
    _folder: TempDir,
}

impl Rig {
    /// Starts everything, and returns when a worker has done its first tasks.
    pub async fn start(arguments: Arguments) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("tasker-bench-").tempdir()?;
        let settings = Settings::for_a_mesh(folder.path().join("postgres"));
        let postgres = PrivatePostgres::start(settings).await?;
        postgres.create_database("bench").await?;
        let url = postgres.url("bench");
        tasker_store::migrate(&url).await?;
        let database = Database::connect(&url).await?;
        database.fill_log().await?;
        let cores = std::thread::available_parallelism()?;
        println!("{cores} cores, {}", database.describe().await?);
        let mut setup = Mesh::setup().database(&url).with("telemetry.log_filter", "warn");
        for (field, value) in &arguments.settings {
            setup = setup.with(field, value);
        }
        let mesh = if arguments.one_process {
            setup.start_in_one_process().await
        } else {
            setup.start().await
        };
        let client = mesh.client();
        for template in ["linear", "diamond", "tree"] {
            client.register_template(example(template)).await?;
        }
        let workers = (0..arguments.workers)
            .map(|nth| {
                let environment = [
                    ("TASKER_GATEWAY", mesh.gateway().to_owned()),
                    ("TASKER_WORKER_CONCURRENCY", arguments.concurrency.to_string()),
                    ("RUST_LOG", "warn".to_owned()),
                    // As the services have it on such a machine: its handlers do next to nothing.
                    ("TOKIO_WORKER_THREADS", "1".to_owned()),
                ];
                let name = format!("worker-{nth}");
                Program::start("tasker-example-worker", &name, &[], environment, mesh.logs())
            })
            .collect();
        let mut rig = Self {
            arguments,
            client,
            database,
            mesh,
            workers,
            postgres,
            maximum: None,
            busy_until: Instant::now(),
            _folder: folder,
        };
        // Plans, caches and connections are made before anything is measured.
        latency::sequential(&mut rig, "linear", 50, By::Wait)
            .await
            .context("the warm-up failed")?;
        Ok(rig)
    }

    /// Notes that the mesh has had something to do until now.
    pub fn was_busy(&mut self) {
        self.busy_until = Instant::now();
    }

    /// Waits until every connection has reported what it did: the database's counters are complete.
    pub async fn settled(&self) {
        sleep(REPORTED.saturating_sub(self.busy_until.elapsed())).await;
    }

    /// Everything that runs, by name: services, workers, the database, this bench.
    pub fn processes(&self) -> Result<Processes> {
        let services = self.mesh.process_ids().into_iter();
        let mut all: Vec<_> = services.map(|(name, id)| (name, Process::One(id))).collect();
        let workers = self.workers.iter();
        all.extend(workers.map(|worker| ("worker".to_owned(), Process::One(worker.process_id()))));
        let pid_file = self.postgres.data_dir().join("postmaster.pid");
        let text =
            std::fs::read_to_string(&pid_file).with_context(|| pid_file.display().to_string())?;
        let postmaster = text.lines().next().context("postmaster.pid is empty")?.trim().parse()?;
        all.push(("postgres".to_owned(), Process::Tree(postmaster)));
        all.push(("bench".to_owned(), Process::One(std::process::id())));
        Ok(Processes(all))
    }

    /// Has the workers hand in what they hold, and end.
    pub async fn stop_workers(&mut self) -> Result<()> {
        for worker in &self.workers {
            let ended = worker.stop().await;
            ensure!(ended.success(), "a worker has ended with {ended}");
        }
        Ok(())
    }

    /// Starts the workers that were stopped.
    pub fn start_workers(&self) {
        for worker in &self.workers {
            worker.start_again();
        }
    }

    /// Shows what the services have logged, which is little: why something broke.
    pub fn show_logs(&self) {
        for (name, log) in self.mesh.all_logs() {
            let lines: Vec<&str> = log.lines().collect();
            let last = lines.len().saturating_sub(LINES_SHOWN);
            eprintln!("--- {name}, the last of {} lines", lines.len());
            eprintln!("{}", lines[last..].join("\n"));
        }
    }

    /// Stops everything.
    pub async fn stop(mut self) -> Result<()> {
        self.stop_workers().await?;
        self.mesh.stop().await;
        self.database.close().await;
        self.postgres.stop().await?;
        Ok(())
    }
}
