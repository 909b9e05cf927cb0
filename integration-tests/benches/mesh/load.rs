//! How long one task takes while others do, at a part of what the mesh can do at most.

use std::time::Instant;

use anyhow::Result;
use hdrhistogram::Histogram;
use serde_json::json;
use tasker_client::{Client, NewTask};
use tokio::task::JoinSet;

use crate::{
    arrivals::arrivals,
    bare_chain,
    latency::{self, By, add_quantiles, micros, one_since},
    processes,
    report::Report,
    rig::Rig,
    sustained::{self, STEPS},
};

const PERCENTS: [u32; 3] = [25, 50, 75];
/// Of these, the one for which there is a target.
const HALF: f64 = 0.5;
/// Tasks per second that are followed to their end by WaitForTask; following all would be another load.
const FOLLOWED_PER_S: f64 = 100.0;
/// Tasks for the latency without load, if it has not been measured.
const IDLE: usize = 100;

/// Linear tasks arrive in an open loop. Times are from a task's scheduled arrival to its completion
/// received through WaitForTask, as in an idle mesh. What a step costs at each load is told, too: the smaller
/// the batches, the more.
pub async fn measure(rig: &mut Rig, report: &mut Report) -> Result<()> {
    let maximum = sustained::maximum(rig).await?.steps_per_s;
    report.section("load: one task among others, in an open loop, from its scheduled arrival");
    for percent in PERCENTS {
        let tasks_per_s = maximum * f64::from(percent) / 100.0 / STEPS;
        let name = format!("load_{percent}_percent");
        rig.settled().await;
        let (before, cpu) = (rig.database.counters().await?, rig.processes()?.cpu()?);
        let waited = rig.processes()?.waited()?;
        let begun = Instant::now();
        let (times, tasks) = open_loop(rig, tasks_per_s).await?;
        sustained::drained(rig).await?;
        let took = begun.elapsed().as_secs_f64();
        let cpu = processes::spent(&cpu, &rig.processes()?.cpu()?);
        let waited = processes::spent(&waited, &rig.processes()?.waited()?);
        rig.settled().await;
        let spent = rig.database.counters().await?.since(&before);
        report.add(&format!("{name}_tasks_per_s"), tasks_per_s);
        add_quantiles(report, &name, &times);
        let steps = STEPS * tasks as f64;
        report.add(&format!("{name}_commits_per_step"), spent.commits / steps);
        let per_1000_steps = 1e3 / steps;
        for (process, seconds) in &cpu {
            let figure = format!("{name}_cpu_s_per_1000_steps_{}", process.replace('-', "_"));
            report.add(&figure, seconds * per_1000_steps);
        }
        let seconds: f64 = cpu.values().sum();
        report.add(&format!("{name}_busy_cores"), seconds / took);
        if !waited.is_empty() {
            let seconds: f64 = waited.values().sum();
            report.add(&format!("{name}_threads_waiting_for_a_core"), seconds / took);
        }
        report.add(&format!("{name}_cpu_s_per_1000_steps"), seconds * per_1000_steps);
    }
    let idle = match report.get("linear4_p50_ms") {
        Some(p50) => p50,
        None => {
            let times = latency::sequential(rig, "linear", IDLE, By::Wait).await?;
            latency::quantile_ms(&times, 0.5)
        }
    };
    bare(rig, HALF * maximum / STEPS, report).await?;
    for (figure, p99) in [
        ("load_50_percent_p99_per_idle_p50", "load_50_percent_p99_ms"),
        ("bare_chain_50_percent_p99_per_idle_p50", "bare_chain_50_percent_p99_ms"),
    ] {
        if let Some(p99) = report.get(p99) {
            report.add(figure, p99 / idle);
        }
    }
    Ok(())
}

/// What a task takes in the same load where only statements, calls and hops are left of the mesh.
async fn bare(rig: &Rig, tasks_per_s: f64, report: &mut Report) -> Result<()> {
    rig.postgres.create_database("bare_chain").await?;
    let url = rig.postgres.url("bare_chain");
    tasker_store::migrate(&url).await?;
    let times = bare_chain::measure(&url, tasks_per_s, rig.arguments.load()).await?;
    add_quantiles(report, "bare_chain_50_percent", &times);
    Ok(())
}

/// Returns how long those took that were followed, in µs, and how many arrived.
async fn open_loop(rig: &mut Rig, tasks_per_s: f64) -> Result<(Histogram<u64>, usize)> {
    // The first of so many is followed.
    let every = (tasks_per_s / FOLLOWED_PER_S).ceil() as usize;
    let mut arriving = arrivals(tasks_per_s, rig.arguments.load());
    let (mut followed, mut others) = (JoinSet::new(), JoinSet::new());
    let mut tasks = 0;
    while let Some(arrival) = arriving.recv().await {
        let client = rig.client.clone();
        tasks += 1;
        if arrival.nth.is_multiple_of(every) {
            followed.spawn(follow(client, arrival.at));
        } else {
            others.spawn(submit(client));
        }
    }
    let mut times = Histogram::new(3)?;
    while let Some(time) = followed.join_next().await {
        times.record(time??)?;
    }
    while let Some(submitted) = others.join_next().await {
        submitted??;
    }
    Ok((times, tasks))
}

async fn follow(client: Client, at: Instant) -> Result<u64> {
    Ok(micros(one_since(&client, "linear", at, By::Wait).await?))
}

async fn submit(client: Client) -> Result<()> {
    client.create_task(NewTask::of("arithmetic", "linear").context(&json!({"n": 0}))?).await?;
    Ok(())
}
