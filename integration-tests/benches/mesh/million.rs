//! The same with a million finished tasks in the tables.

use std::time::Instant;

use anyhow::{Context as _, Result};

use crate::{multiply::multiply, report::Report, rig::Rig, yardstick::Yardstick};

/// The finished tasks are not run: a few that were are multiplied by bulk SQL, with all their rows. Then
/// the tables are vacuumed and analyzed, as autovacuum does with tables that grow slowly.
pub async fn measure(rig: &mut Rig, report: &mut Report) -> Result<()> {
    report
        .section("million: finished tasks in the tables, made by bulk SQL of a few that were run");
    let tasks = rig.arguments.finished;
    let name = match tasks {
        1_000_000 => "with_1m_finished_tasks".to_owned(),
        // A smaller or larger one is not compared with it.
        other => format!("with_{other}_finished_tasks"),
    };
    let before = Yardstick::take(rig).await?;
    let begun = Instant::now();
    let rows = multiply(&rig.postgres.url("bench"), "linear", tasks).await;
    let rows = rows.context("the finished tasks could not be made")?;
    rig.was_busy();
    report.add(&format!("{name}_rows"), rows as f64);
    report.add(&format!("{name}_build_s"), begun.elapsed().as_secs_f64());
    Yardstick::take(rig).await?.add(report, &name, &before);
    Ok(())
}
