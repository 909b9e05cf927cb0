//! What is measured, and how much of it.

use std::{path::PathBuf, time::Duration};

use clap::{Parser, ValueEnum};

/// Measures the whole mesh: five services, or one process with all of them, and a worker, on a private
/// PostgreSQL with `fsync` and `synchronous_commit` on, all on this machine.
#[derive(Debug, Parser)]
pub struct Arguments {
    /// What to measure; everything if nothing is named.
    pub sections: Vec<Section>,
    /// The core figures in less than a minute: latency, floors, throughput, idle.
    #[arg(long)]
    pub quick: bool,
    /// All services in one process (`tasker-standalone`), without `recovery`.
    #[arg(long)]
    pub one_process: bool,
    /// Sets a field of the services' configuration, such as `result_processor.lanes=2`
    #[arg(long = "with", value_name = "FIELD=VALUE", value_parser = setting)]
    pub settings: Vec<(String, String)>,
    /// Also writes the figures to this file, as one JSON object.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Tasks run one after another, for each latency.
    #[arg(
        long,
        value_name = "TASKS",
        default_value = "300",
        default_value_if("quick", "true", "100")
    )]
    pub sequential: usize,
    /// How long throughput is measured.
    #[arg(
        long,
        value_name = "SECONDS",
        default_value = "60",
        default_value_if("quick", "true", "8")
    )]
    sustained: u64,
    /// Open tasks that the mesh is kept supplied with, for throughput.
    #[arg(
        long,
        value_name = "TASKS",
        default_value = "4000",
        default_value_if("quick", "true", "1500")
    )]
    pub backlog: usize,
    /// Requests that the submitter of a backlog has on their way at once.
    #[arg(long, value_name = "REQUESTS", default_value_t = 32)]
    pub callers: usize,
    /// Worker processes.
    #[arg(long, value_name = "PROCESSES", default_value_t = 1)]
    pub workers: usize,
    /// Deliveries that each worker runs at once.
    #[arg(long, value_name = "DELIVERIES", default_value_t = 256)]
    pub concurrency: usize,
    /// How long the database works alone.
    #[arg(
        long,
        value_name = "SECONDS",
        default_value = "10",
        default_value_if("quick", "true", "4")
    )]
    alone: u64,
    /// How long the idle mesh is looked at.
    #[arg(
        long,
        value_name = "SECONDS",
        default_value = "20",
        default_value_if("quick", "true", "6")
    )]
    idle: u64,
    /// How long tasks arrive at each part of the maximum.
    #[arg(long, value_name = "SECONDS", default_value_t = 20)]
    load_seconds: u64,
    /// How long twice the maximum arrives.
    #[arg(long, value_name = "SECONDS", default_value_t = 20)]
    overload_seconds: u64,
    /// How long a snapshot is held.
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    snapshot_seconds: u64,
    /// How long dead tuples are looked at.
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    bloat_seconds: u64,
    /// Finished tasks that are put into the tables.
    #[arg(long, value_name = "TASKS", default_value_t = 1_000_000)]
    pub finished: i64,
    /// How long throughput is measured before and after something, to compare.
    #[arg(long, value_name = "SECONDS", default_value_t = 20)]
    compared_seconds: u64,
    /// The bench's own other end, for the floors.
    #[arg(long, hide = true)]
    pub echo: bool,
    /// Where that one passes everything on to, instead of answering.
    #[arg(long, value_name = "URL", hide = true)]
    pub echo_before: Option<String>,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

/// A group of figures that are measured together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Section {
    /// One task while nothing else happens.
    Latency,
    /// What this machine can do at best.
    Floors,
    /// More to do than can be done.
    Throughput,
    /// Nothing to do.
    Idle,
    /// One task among others, at a part of the maximum.
    Load,
    /// Wide, long and large tasks.
    Shapes,
    /// Twice the maximum offered.
    Overload,
    /// Each process killed under load.
    Recovery,
    /// An old snapshot held through a load.
    Snapshot,
    /// Dead tuples in a long run.
    Bloat,
    /// A million finished tasks in the tables.
    Million,
}

impl Arguments {
    /// The sections asked for, in the order in which they are measured.
    pub fn sections(&self) -> Vec<Section> {
        let core = [Section::Latency, Section::Floors, Section::Throughput, Section::Idle];
        let all = Section::value_variants().iter().copied();
        all.filter(|section| match self.sections.as_slice() {
            [] if self.quick => core.contains(section),
            // Services of one process are not killed one by one.
            [] => !self.one_process || *section != Section::Recovery,
            named => named.contains(section),
        })
        .collect()
    }

    pub fn sustained(&self) -> Duration {
        Duration::from_secs(self.sustained)
    }

    pub fn alone(&self) -> Duration {
        Duration::from_secs(self.alone)
    }

    pub fn idle(&self) -> Duration {
        Duration::from_secs(self.idle)
    }

    pub fn load(&self) -> Duration {
        Duration::from_secs(self.load_seconds)
    }

    pub fn overload(&self) -> Duration {
        Duration::from_secs(self.overload_seconds)
    }

    pub fn snapshot(&self) -> Duration {
        Duration::from_secs(self.snapshot_seconds)
    }

    pub fn bloat(&self) -> Duration {
        Duration::from_secs(self.bloat_seconds)
    }

    pub fn compared(&self) -> Duration {
        Duration::from_secs(self.compared_seconds)
    }
}

fn setting(text: &str) -> Result<(String, String), String> {
    let (field, value) = text.split_once('=').ok_or("give a field, = and its value")?;
    Ok((field.to_owned(), value.to_owned()))
}
