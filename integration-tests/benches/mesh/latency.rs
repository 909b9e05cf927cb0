//! How long one task takes while nothing else happens.

use std::{
    pin::pin,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use futures::StreamExt as _;
use hdrhistogram::Histogram;
use serde_json::json;
use tasker_client::{Client, NewTask, v1::TaskState, v1::watch_task_response::Transition};

use crate::{report::Report, rig::Rig, templates};

/// Steps of the chain that tells what each further step costs.
const CHAIN: usize = 12;
/// Tasks before each measurement: a template's first task has it read and parsed everywhere.
const FIRST: usize = 5;
/// How long a task may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a client hears of the end of its task.
#[derive(Clone, Copy)]
pub enum By {
    /// WaitForTask: of nothing else.
    Wait,
    /// WatchTask: of each move before it, too.
    Watch,
}

pub async fn measure(rig: &mut Rig, report: &mut Report) -> Result<()> {
    report.section("latency: one task at a time, from CreateTask sent to completion received");
    let tasks = rig.arguments.sequential;
    let mut linear4_p50 = 0.0;
    for (template, figure) in [("linear", "linear4"), ("diamond", "diamond"), ("tree", "tree8")] {
        sequential(rig, template, FIRST, By::Wait).await?;
        let times = sequential(rig, template, tasks, By::Wait).await?;
        add_quantiles(report, figure, &times);
        if template == "linear" {
            linear4_p50 = quantile_ms(&times, 0.5);
            let times = sequential(rig, template, tasks, By::Watch).await?;
            add_quantiles(report, "linear4_watched", &times);
        }
    }
    rig.client.register_template(templates::chain(CHAIN)).await?;
    let name = format!("chain_{CHAIN}");
    sequential(rig, &name, FIRST, By::Wait).await?;
    let chain = sequential(rig, &name, tasks.div_ceil(2), By::Wait).await?;
    let chain_p50 = quantile_ms(&chain, 0.5);
    report.add(&format!("{name}_p50_ms"), chain_p50);
    report.add("further_step_ms", (chain_p50 - linear4_p50) / (CHAIN - 4) as f64);
    Ok(())
}

/// Adds the median and what few tasks are slower than, in ms.
pub fn add_quantiles(report: &mut Report, figure: &str, times: &Histogram<u64>) {
    for (name, quantile) in [("p50", 0.5), ("p95", 0.95), ("p99", 0.99)] {
        report.add(&format!("{figure}_{name}_ms"), quantile_ms(times, quantile));
    }
}

/// Of times in µs.
pub fn quantile_ms(times: &Histogram<u64>, quantile: f64) -> f64 {
    times.value_at_quantile(quantile) as f64 / 1e3
}

/// Runs tasks one after another: from CreateTask sent to completion received, in µs.
pub async fn sequential(
    rig: &mut Rig,
    template: &str,
    tasks: usize,
    by: By,
) -> Result<Histogram<u64>> {
    let mut times = Histogram::new(3)?;
    for _ in 0..tasks {
        times.record(micros(one_since(&rig.client, template, Instant::now(), by).await?))?;
    }
    rig.was_busy();
    Ok(times)
}

/// Runs a task, and says how long it took since `begun`.
pub async fn one_since(
    client: &Client,
    template: &str,
    begun: Instant,
    by: By,
) -> Result<Duration> {
    let task = NewTask::of("arithmetic", template).context(&json!({"n": 0}))?;
    let task = client.create_task(task).await?.task_id;
    let last = match by {
        By::Wait => client.wait_for_task(&task, PATIENCE).await?.state(),
        By::Watch => watched_to_its_end(client, &task).await?,
    };
    let time = begun.elapsed();
    ensure!(last == TaskState::Complete, "task {task} came to {last:?}");
    Ok(time)
}

async fn watched_to_its_end(client: &Client, task: &str) -> Result<TaskState> {
    let mut events = pin!(client.watch_task(task));
    let mut last = TaskState::Unspecified;
    while let Some(event) = events.next().await {
        if let Some(Transition::Task(moved)) = event.context("the watch broke")?.transition {
            last = moved.state();
        }
    }
    Ok(last)
}

pub fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).expect("no bench takes 500,000 years")
}
