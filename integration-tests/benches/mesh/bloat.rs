//! What updates and deletes leave behind, in a long run.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Result;
use tokio::time::{MissedTickBehavior, interval};
use uuid::Uuid;

use crate::{database::Database, report::Report, rig::Rig, sustained::Load};

const SAMPLE: Duration = Duration::from_secs(5);

/// Looks at the dead tuples every 5 s while a backlog never runs dry, beginning without any. They are
/// bounded if the second half of the run has no more of them than the first.
pub async fn measure(rig: &mut Rig, report: &mut Report) -> Result<()> {
    report.section("bloat: dead tuples of the hot tables in a long run");
    rig.database.vacuum().await?;
    let half = rig.arguments.bloat() / 2;
    let load = Load::start(rig, Uuid::now_v7()).await?;
    let mut largest = BTreeMap::new();
    let mut totals = [0.0, 0.0];
    let mut steps_per_s = [0.0, 0.0];
    for nth in 0..2 {
        let window = tokio::select! {
            window = load.window(rig, half) => window?,
            failed = keep_largest(&rig.database, &mut largest, &mut totals[nth]) => return failed,
        };
        steps_per_s[nth] = window.steps_per_s();
    }
    load.finish(rig).await?;
    for (table, dead) in &largest {
        report.add(&format!("bloat_dead_tuples_max_{table}"), *dead);
    }
    report.add("bloat_dead_tuples_max", totals[0].max(totals[1]));
    report.add("bloat_dead_tuples_second_half_ratio", totals[1] / totals[0]);
    report.add("bloat_steps_per_s_second_half_ratio", steps_per_s[1] / steps_per_s[0]);
    Ok(())
}

/// Notes the most dead tuples of each table, and of all at one time. Returns only if it cannot look.
async fn keep_largest(
    database: &Database,
    largest: &mut BTreeMap<String, f64>,
    total: &mut f64,
) -> Result<()> {
    let mut ticks = interval(SAMPLE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let dead = database.dead_tuples().await?;
        *total = total.max(dead.values().sum());
        for (table, tuples) in dead {
            let most: &mut f64 = largest.entry(table).or_insert(0.0);
            *most = most.max(tuples);
        }
    }
}
