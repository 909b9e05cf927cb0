//! What the processes cost.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result};
use tokio::time::sleep;

use crate::database::Database;

pub struct Quiet {
    pub queries_per_s: f64,
    /// Of one core, over the services and the worker.
    pub cpu_percent: f64,
}

/// Looks at a mesh that has nothing to do.
pub async fn while_idle(
    database: &Database,
    running: &[(String, u32)],
    time: Duration,
) -> Result<Quiet> {
    // What came before is done, and counted: idle backends report after ten seconds.
    sleep(Duration::from_secs(11)).await;
    let commits = |database: &Database| {
        let pool = database.0.clone();
        async move {
            sqlx::query_scalar::<_, i64>(
                "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()",
            )
            .fetch_one(&pool)
            .await
        }
    };
    let before = (commits(database).await?, cpu(running)?);
    sleep(time).await;
    let after = (commits(database).await?, cpu(running)?);
    let seconds = time.as_secs_f64();
    Ok(Quiet {
        queries_per_s: (after.0 - before.0 - 1).max(0) as f64 / seconds,
        cpu_percent: 100.0 * (after.1 - before.1) / seconds,
    })
}

/// Processor time so far, in seconds.
fn cpu(running: &[(String, u32)]) -> Result<f64> {
    let mut ticks = 0.0;
    for (name, pid) in running {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| name.clone())?;
        // The name, in brackets, may hold spaces. User and system time are the 14th and 15th fields.
        let rest = stat.rsplit_once(')').context("no process name")?.1;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        ticks += fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
    }
    // Linux tells them in hundredths of a second, whatever the kernel counts in.
    Ok(ticks / 100.0)
}

/// Resident memory, in MiB.
pub fn resident_mib(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("no VmRSS")?;
    let kib: f64 = line.split_whitespace().nth(1).context("no figure")?.parse()?;
    Ok(kib / 1024.0)
}
