//! How long steps stop when a process is killed under load and started again at once.

use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, ensure};
use tasker_integration_tests::Service;
use tokio::time::sleep;
use uuid::Uuid;

use crate::{report::Report, rig::Rig, sustained::Load};

/// What the rate after a kill is compared with.
const BEFORE: Duration = Duration::from_secs(5);
/// What a kill stops shows by then.
const AFTER: Duration = Duration::from_secs(5);
/// How long the rate may stay away.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_secs(1);

/// Kills each service, then a worker, under a backlog that never runs dry, and starts it again at once,
/// as a supervisor would. Afterwards every task must have come to a good end. An outage of less than a
/// quarter of a second shows in the longest pause only.
pub async fn measure(rig: &mut Rig, report: &mut Report) -> Result<()> {
    ensure!(!rig.arguments.one_process, "services of one process are not killed one by one");
    report.section("recovery: from kill -9 until half the rate of the 5 s before is back");
    let first = Uuid::now_v7();
    let load = Load::start(rig, first).await?;
    for service in Service::ALL {
        sleep(BEFORE).await;
        let killed_at = SystemTime::now();
        rig.mesh.kill(service, 0);
        rig.mesh.restart(service, 0).await;
        let outage = recovered(rig, first, killed_at).await?;
        outage.add(report, &service.name().replace('-', "_"));
    }
    sleep(BEFORE).await;
    let worker = rig.workers.first().context("there is no worker")?;
    let killed_at = SystemTime::now();
    worker.kill();
    worker.start_again();
    recovered(rig, first, killed_at).await?.add(report, "worker");
    // That none is lost is looked at here: it would be an error.
    load.finish(rig).await?;
    report.add("recovery_lost_tasks", 0.0);
    Ok(())
}

/// What a kill stopped, in seconds.
struct Outage {
    /// Until the rate was back.
    recovery: f64,
    /// The longest time without a step.
    pause: f64,
}

impl Outage {
    fn add(&self, report: &mut Report, name: &str) {
        report.add(&format!("recovery_{name}_s"), self.recovery);
        report.add(&format!("recovery_{name}_longest_pause_s"), self.pause);
    }
}

/// Waits until steps complete again, and says how long they did not.
async fn recovered(rig: &Rig, first: Uuid, killed_at: SystemTime) -> Result<Outage> {
    let database = &rig.database;
    let before = database.steps_completed(first, killed_at - BEFORE, killed_at).await?;
    let per_s = before as f64 / BEFORE.as_secs_f64();
    sleep(AFTER).await;
    let waiting = Instant::now();
    loop {
        let now = SystemTime::now();
        let lately = database.steps_completed(first, now - LOOK, now).await? as f64;
        if lately / LOOK.as_secs_f64() >= per_s / 2.0 {
            let times = database.completion_times(first, killed_at, now).await?;
            let pauses = times.windows(2).map(|pair| pair[1] - pair[0]);
            let pause = pauses.chain(times.first().copied()).fold(0.0, f64::max);
            return Ok(Outage { recovery: recovery(&times, per_s / 2.0), pause });
        }
        ensure!(waiting.elapsed() < PATIENCE, "the rate does not come back");
        sleep(LOOK).await;
    }
}

/// The middle of the first half second that has this rate, after the first one that has not; zero if
/// none of those that begin in the first 3 s is without. Times are in seconds since the kill, sorted.
fn recovery(times: &[f64], per_s: f64) -> f64 {
    const SPAN: f64 = 0.5;
    const SHOWN: f64 = 3.0;
    let enough = |from: f64| {
        let before = |end: f64| times.partition_point(|time| *time < end);
        (before(from + SPAN) - before(from)) as f64 >= per_s * SPAN
    };
    let begins = || (0..).map(|nth| f64::from(nth) * 0.05);
    let Some(stopped) = begins().take_while(|at| *at < SHOWN).find(|at| !enough(*at)) else {
        return 0.0;
    };
    let last = times.last().copied().unwrap_or(stopped);
    let back = begins().find(|at| *at > stopped && (enough(*at) || *at > last));
    back.unwrap_or(last) + SPAN / 2.0
}
