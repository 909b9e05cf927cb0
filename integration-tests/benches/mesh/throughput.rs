//! How much the mesh does when there is more than enough to do, and what it costs.

use anyhow::Result;
use uuid::Uuid;

use crate::{
    database::Spent,
    report::Report,
    rig::Rig,
    submit,
    sustained::{Load, STEPS, Window},
};

/// Submits the backlog while no worker is connected; then workers run it, and a submitter keeps it
/// filled. Steps are counted within the window by when their results were recorded. What the database
/// spent is counted from the first request to the last task's end, over all steps.
pub async fn measure(rig: &mut Rig, report: &mut Report) -> Result<()> {
    report.section("throughput: linear tasks, a backlog that never runs dry");
    let backlog = rig.arguments.backlog;
    rig.stop_workers().await?;
    rig.settled().await;
    let before = rig.database.counters().await?;
    add_dead_tuples(rig, report, "before").await?;

    let first = Uuid::now_v7();
    let creating = submit::flat_out(&rig.client, backlog, rig.arguments.callers).await?;
    report.add("create_only_tasks_per_s", backlog as f64 / creating.as_secs_f64());
    rig.start_workers();
    let load = Load::start(rig, first).await?;
    let window = load.window(rig, rig.arguments.sustained()).await?;
    add_dead_tuples(rig, report, "after").await?;
    let tasks = backlog + load.finish(rig).await?;
    add_window(report, &window);
    rig.maximum = Some(window.maximum());

    rig.settled().await;
    let spent = rig.database.counters().await?.since(&before);
    add_spent(report, &spent, STEPS * tasks as f64);
    Ok(())
}

fn add_window(report: &mut Report, window: &Window) {
    report.add("throughput_steps_per_s", window.steps_per_s());
    report.add("throughput_tasks_per_s", window.steps_per_s() / STEPS);
    let seconds = window.time.as_secs_f64();
    report.add("create_tasks_per_s", window.submitted as f64 / seconds);
    report.add("throughput_window_s", seconds);
    report.add("throughput_least_open_tasks", window.least_open as f64);
    let thousands = window.steps as f64 / 1e3;
    for (name, seconds) in &window.cpu {
        let name = name.replace('-', "_");
        report.add(&format!("cpu_s_per_1000_steps_{name}"), seconds / thousands);
    }
    report.add("cpu_s_per_1000_steps", window.cpu.values().sum::<f64>() / thousands);
}

fn add_spent(report: &mut Report, spent: &Spent, steps: f64) {
    report.add("commits_per_step", spent.commits / steps);
    report.add("row_writes_per_step", spent.row_writes / steps);
    report.add("wal_bytes_per_step", spent.wal_bytes / steps);
    report.add("steps_hot_update_percent", spent.steps_hot_percent);
    report.add("tasks_hot_update_percent", spent.tasks_hot_percent);
}

async fn add_dead_tuples(rig: &Rig, report: &mut Report, when: &str) -> Result<()> {
    let dead: f64 = rig.database.dead_tuples().await?.values().sum();
    report.add(&format!("throughput_dead_tuples_{when}"), dead);
    Ok(())
}
