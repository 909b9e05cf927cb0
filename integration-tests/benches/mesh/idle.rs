//! What a mesh costs that has nothing to do, with its workers connected.

use std::time::Duration;

use anyhow::Result;
use tokio::time::sleep;

use crate::{processes, report::Report, rig::Rig};

/// A connection tells what it has done at the latest this long after it fell idle: `PGSTAT_IDLE_INTERVAL`
/// of PostgreSQL 15, and a second.
const ALL_IS_TOLD: Duration = Duration::from_secs(11);

pub async fn measure(rig: &mut Rig, report: &mut Report) -> Result<()> {
    report.section("idle: workers connected, nothing to do");
    // What tidies up after the load is not the mesh's.
    rig.database.tidy_by_itself(false).await?;
    rig.settled().await;
    sleep(ALL_IS_TOLD).await;
    let (commits, cpu) = (rig.database.commits().await?, rig.processes()?.cpu()?);
    sleep(rig.arguments.idle()).await;
    let mut cpu = processes::spent(&cpu, &rig.processes()?.cpu()?);
    // Our own look is one.
    let commits = (rig.database.commits().await? - commits - 1).max(0);
    rig.database.tidy_by_itself(true).await?;
    let seconds = rig.arguments.idle().as_secs_f64();
    report.add("idle_queries_per_s", commits as f64 / seconds);
    cpu.remove("bench");
    let postgres = cpu.remove("postgres").unwrap_or(0.0);
    report.add("idle_cpu_percent", 100.0 * cpu.values().sum::<f64>() / seconds);
    report.add("idle_cpu_percent_postgres", 100.0 * postgres / seconds);
    for (name, mib) in rig.processes()?.resident_mib()? {
        if name != "bench" {
            report.add(&format!("rss_mib_{}", name.replace('-', "_")), mib);
        }
    }
    Ok(())
}
