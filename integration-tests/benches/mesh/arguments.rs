//! What is measured, and how much of it.

use std::{path::PathBuf, time::Duration};

use clap::{Parser, ValueEnum};

/// Measures the whole mesh: five services and a worker as processes of their own, on a private
/// PostgreSQL with `fsync` and `synchronous_commit` on, all on this machine.
#[derive(Debug, Parser)]
pub struct Arguments {
    /// What to measure; everything if nothing is named.
    pub sections: Vec<Section>,
    /// The core figures in less than a minute: latency, floors, throughput, idle.
    #[arg(long)]
    pub quick: bool,
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
    /// The bench's own other end, for the floors.
    #[arg(long, hide = true)]
    pub echo: bool,
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
}

impl Arguments {
    /// The sections asked for, in the order in which they are measured.
    pub fn sections(&self) -> Vec<Section> {
        let core = [Section::Latency, Section::Floors, Section::Throughput, Section::Idle];
        let all = Section::value_variants().iter().copied();
        all.filter(|section| match self.sections.as_slice() {
            [] => !self.quick || core.contains(section),
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
}
