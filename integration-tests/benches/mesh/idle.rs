//! What a mesh costs that has nothing to do, with its workers connected.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, Result};
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
    rig.database.log_statements(true).await?;
    sleep(ALL_IS_TOLD).await;
    let logged_before = logged(rig.postgres.data_dir())?;
    let (commits, cpu) = (rig.database.commits().await?, rig.processes()?.cpu()?);
    sleep(rig.arguments.idle()).await;
    let mut cpu = processes::spent(&cpu, &rig.processes()?.cpu()?);
    // Our own look at the commits is one, here and below.
    let statements = logged(rig.postgres.data_dir())?.saturating_sub(logged_before + 1);
    let commits = (rig.database.commits().await? - commits - 1).max(0);
    rig.database.log_statements(false).await?;
    rig.database.tidy_by_itself(true).await?;
    let seconds = rig.arguments.idle().as_secs_f64();
    report.add("idle_queries_per_s", statements as f64 / seconds);
    // More than there are statements: some run none.
    report.add("idle_transactions_per_s", commits as f64 / seconds);
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

/// How many statements the server has logged, those that failed among them.
fn logged(data_dir: &Path) -> Result<usize> {
    let log = fs::read_to_string(data_dir.join("server.log")).context("the log of PostgreSQL")?;
    let is_one = |line: &&str| {
        line.contains("ERROR:  ")
            || line.contains("LOG:  duration: ")
                && (line.contains(" ms  execute ") || line.contains(" ms  statement: "))
    };
    Ok(log.lines().filter(is_one).count())
}
