//! A load that leaves the mesh always something to do, and windows of time that are looked at.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Result, ensure};
use tokio::time::sleep;
use uuid::Uuid;

use crate::{processes, rig::Rig, submit::Submitter};

/// Steps of a linear task.
pub const STEPS: f64 = 4.0;
/// For the maximum, where it has not been measured for longer.
const BRIEFLY: Duration = Duration::from_secs(10);
/// How long the backlog may take to build up. If it does not, tasks are run faster than submitted.
const FILLING: Duration = Duration::from_secs(10);
/// How long what is left may take at the end.
const DRAINING: Duration = Duration::from_secs(600);
const LOOK: Duration = Duration::from_millis(100);

/// A mesh under load.
pub struct Load {
    submitter: Submitter,
    /// Older than every task of this load.
    first: Uuid,
}

/// What happened in a time.
pub struct Window {
    pub time: Duration,
    pub steps: usize,
    /// Tasks submitted, in whole chunks.
    pub submitted: usize,
    /// The fewest tasks that were open: at zero the mesh had nothing to do.
    pub least_open: usize,
    /// Processor time by process, in seconds.
    pub cpu: BTreeMap<String, f64>,
}

impl Window {
    pub fn steps_per_s(&self) -> f64 {
        self.steps as f64 / self.time.as_secs_f64()
    }

    pub fn maximum(&self) -> Maximum {
        let cpu_s: f64 = self.cpu.values().sum();
        Maximum { steps_per_s: self.steps_per_s(), cpu_s_per_step: cpu_s / self.steps as f64 }
    }
}

/// What the mesh does at most, with small tasks.
#[derive(Clone, Copy)]
pub struct Maximum {
    pub steps_per_s: f64,
    /// Processor time of all processes together.
    pub cpu_s_per_step: f64,
}

/// The maximum of this run; measured for ten seconds if it is not known.
pub async fn maximum(rig: &mut Rig) -> Result<Maximum> {
    if let Some(maximum) = rig.maximum {
        return Ok(maximum);
    }
    let load = Load::start(rig, Uuid::now_v7()).await?;
    let maximum = load.window(rig, BRIEFLY).await?.maximum();
    load.finish(rig).await?;
    rig.maximum = Some(maximum);
    Ok(maximum)
}

/// Returns when no task is open any more.
pub async fn drained(rig: &mut Rig) -> Result<()> {
    let begun = Instant::now();
    while rig.database.open_tasks().await? > 0 {
        ensure!(begun.elapsed() < DRAINING, "the mesh does not get done");
        sleep(LOOK).await;
    }
    rig.was_busy();
    Ok(())
}

impl Load {
    /// Begins, and returns when the backlog is there and steps get done. Tasks submitted since `first`
    /// are the load's, too.
    pub async fn start(rig: &Rig, first: Uuid) -> Result<Self> {
        let (begun, begun_at) = (Instant::now(), SystemTime::now());
        let load = Self { submitter: Submitter::start(rig), first };
        loop {
            let open = rig.database.open_tasks().await?;
            let done = rig.database.steps_completed(first, begun_at, SystemTime::now()).await?;
            let full = open >= rig.arguments.backlog * 9 / 10 || begun.elapsed() > FILLING;
            if full && done >= rig.arguments.backlog / 4 {
                return Ok(load);
            }
            ensure!(begun.elapsed() < DRAINING, "no steps get done");
            sleep(LOOK).await;
        }
    }

    /// Lets it go on for a time, and says what happened in it.
    pub async fn window(&self, rig: &Rig, time: Duration) -> Result<Window> {
        let (begun, begun_at) = (Instant::now(), SystemTime::now());
        let before = rig.processes()?.cpu()?;
        let submitted = self.submitter.submitted();
        self.submitter.least_open();
        sleep(time).await;
        let submitted = self.submitter.submitted() - submitted;
        let (took, ended_at) = (begun.elapsed(), SystemTime::now());
        let cpu = processes::spent(&before, &rig.processes()?.cpu()?);
        let least_open = self.submitter.least_open();
        let steps = rig.database.steps_completed(self.first, begun_at, ended_at).await?;
        Ok(Window { time: took, steps, submitted, least_open, cpu })
    }

    /// Ends it when every task has completed, and says how many were submitted.
    pub async fn finish(self, rig: &mut Rig) -> Result<usize> {
        let submitted = self.submitter.stop().await?;
        drained(rig).await?;
        let complete = rig.database.complete_since(self.first).await?;
        let lost = submitted.saturating_sub(complete);
        ensure!(lost == 0, "{lost} of {submitted} tasks have not come to a good end");
        Ok(submitted)
    }
}
