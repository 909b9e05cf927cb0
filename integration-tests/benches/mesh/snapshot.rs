//! The same while somebody holds an old snapshot, so that nothing dead can be cleared away.

use anyhow::Result;
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use crate::{
    report::Report,
    rig::Rig,
    sustained::Load,
    yardstick::{self, Yardstick},
};

/// A REPEATABLE READ transaction is opened and kept, while a load runs for as long as is asked. At its
/// end the throughput is measured, then, with nothing else to do, the latency; the snapshot is as old.
pub async fn measure(rig: &mut Rig, report: &mut Report) -> Result<()> {
    report.section("snapshot: under an old snapshot, held through a load");
    let before = Yardstick::take(rig).await?;
    let mut holder = PgConnection::connect(&rig.postgres.url("bench")).await?;
    let mut held = holder.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ").await?;
    // The first statement takes the snapshot.
    sqlx::query("SELECT count(*) FROM templates").execute(&mut *held).await?;

    let load = Load::start(rig, Uuid::now_v7()).await?;
    let compared = rig.arguments.compared();
    let ageing = load.window(rig, rig.arguments.snapshot().saturating_sub(compared)).await?;
    let steps_per_s = load.window(rig, compared).await?.steps_per_s();
    let dead: f64 = rig.database.dead_tuples().await?.values().sum();
    load.finish(rig).await?;
    let (p50_ms, p99_ms) = yardstick::latency(rig).await?;
    held.rollback().await?;
    holder.close().await?;
    // For those who come after.
    rig.database.vacuum().await?;
    rig.was_busy();

    Yardstick { p50_ms, p99_ms, steps_per_s }.add(report, "snapshot", &before);
    report.add("snapshot_s", (ageing.time + compared).as_secs_f64());
    report.add("snapshot_dead_tuples", dead);
    Ok(())
}
