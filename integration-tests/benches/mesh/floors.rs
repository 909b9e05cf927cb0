//! What this machine can do at best, in the same run: a commit, a call, a hop on a stream, a queue,
//! and the database without any service. And what the mesh needs, in multiples of it.
//!
//! All but the last are medians, rates by the median time: others on this machine do not change them much.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use hdrhistogram::Histogram;
use sqlx::{PgPool, postgres::PgPoolOptions};

use crate::{
    database_alone,
    echo::{Echo, health_checks},
    latency::{micros, quantile_ms},
    report::Report,
    rig::Rig,
};

/// At most, within the time below: a slow disk makes fewer.
const COMMITS: i32 = 1_000;
const COMMITTING: Duration = Duration::from_secs(2);
const CALLS: usize = 2_000;
const QUEUEING: Duration = Duration::from_secs(1);
/// Messages in a batch of PGMQ.
const BATCH: i32 = 100;
/// Steps on the longest way through a template.
const STEPS_IN_A_ROW: [(&str, f64); 3] = [("linear4", 4.0), ("diamond", 3.0), ("tree8", 4.0)];

pub async fn measure(rig: &mut Rig, report: &mut Report) -> Result<()> {
    report.section("floors: what this machine can do at best");
    // A database of its own: nothing of it is in the mesh's tables and counters.
    rig.postgres.create_database("floors").await?;
    let url = rig.postgres.url("floors");
    tasker_store::migrate(&url).await?;
    let database = PgPoolOptions::new().max_connections(1).connect(&url).await?;
    report.add("floor_durable_commit_ms", quantile_ms(&durable_commits(&database).await?, 0.5));
    let echo = Echo::start().await?;
    report.add("floor_unary_round_trip_ms", quantile_ms(&echo.unary(CALLS).await?, 0.5));
    let gateway = health_checks(rig.mesh.gateway(), CALLS).await?;
    report.add("floor_gateway_round_trip_ms", quantile_ms(&gateway, 0.5));
    report.add("floor_stream_hop_ms", quantile_ms(&echo.ping_pong(CALLS).await?, 0.5) / 2.0);
    report.add("floor_pgmq_send_pop_per_s", one_by_one(&database).await?);
    report.add("floor_pgmq_send_pop_by_100_per_s", by_batch(&database).await?);
    database.close().await;
    database_alone::measure(&url, rig.arguments.alone(), report).await
}

/// One-row commits that wait for the disk, in µs.
async fn durable_commits(database: &PgPool) -> Result<Histogram<u64>> {
    sqlx::query("CREATE TABLE floor (n integer)").execute(database).await?;
    let mut times = Histogram::new(3)?;
    let committing = Instant::now();
    for n in (0..COMMITS).take_while(|_| committing.elapsed() < COMMITTING) {
        let begun = Instant::now();
        sqlx::query("INSERT INTO floor VALUES ($1)").bind(n).execute(database).await?;
        times.record(micros(begun.elapsed()))?;
    }
    Ok(times)
}

/// Messages sent and popped per second by one connection, each in a durable commit of its own.
async fn one_by_one(database: &PgPool) -> Result<f64> {
    sqlx::query("SELECT pgmq.create('floor')").execute(database).await?;
    let mut times = Histogram::new(3)?;
    let queueing = Instant::now();
    while queueing.elapsed() < QUEUEING {
        let begun = Instant::now();
        sqlx::query("SELECT pgmq.send('floor', '{\"n\": 1}')").execute(database).await?;
        let popped = sqlx::query("SELECT * FROM pgmq.pop('floor')").fetch_all(database).await?;
        times.record(micros(begun.elapsed()))?;
        ensure!(popped.len() == 1, "PGMQ has popped {} messages", popped.len());
    }
    Ok(1e3 / quantile_ms(&times, 0.5))
}

/// The same in batches of 100.
async fn by_batch(database: &PgPool) -> Result<f64> {
    let bodies = vec![serde_json::json!({"n": 1}); usize::try_from(BATCH)?];
    let mut times = Histogram::new(3)?;
    let queueing = Instant::now();
    while queueing.elapsed() < QUEUEING {
        let begun = Instant::now();
        let send = sqlx::query("SELECT pgmq.send_batch('floor', $1::jsonb[])").bind(&bodies);
        send.execute(database).await?;
        let pop = sqlx::query("SELECT * FROM pgmq.pop('floor', $1)").bind(BATCH);
        let popped = pop.fetch_all(database).await?.len();
        times.record(micros(begun.elapsed()))?;
        ensure!(popped == bodies.len(), "PGMQ has popped {popped} messages");
    }
    Ok(1e3 * f64::from(BATCH) / quantile_ms(&times, 0.5))
}

/// Adds the figures as multiples of their floors, as far as both have been measured.
///
/// The floor of n steps in a row is n × (durable commit + 2 stream hops), creation (a unary round trip
/// and a durable commit), and finalization (a durable commit and a stream hop).
///
/// The way of such a task counts what that leaves out, each by itself and nothing beside it: its statements
/// instead of bare commits, for each step a call to result-processor and two hops each way between step-enqueuer
/// and the worker, whose stream passes the gateway, the calls from client to gateway to task-request, of which
/// only the first half counts, the call for the first step's place and the hop that says that it has begun, and
/// two hops back to the client. The first step begins with the task, and the last ends it: nothing is enqueued or
/// finalized on that way.
pub fn multiples(report: &mut Report) {
    let Some([commit, call, hop]) = all(
        report,
        &["floor_durable_commit_ms", "floor_unary_round_trip_ms", "floor_stream_hop_ms"],
    ) else {
        return;
    };
    report.section("multiples of the floors");
    let of_step = commit + 2.0 * hop;
    for (figure, steps) in STEPS_IN_A_ROW {
        let floor = steps * of_step + (call + commit) + (commit + hop);
        report.add(&format!("floor_{figure}_ms"), floor);
        if let Some(p50) = report.get(&format!("{figure}_p50_ms")) {
            report.add(&format!("{figure}_p50_per_floor"), p50 / floor);
        }
    }
    let of_lone = ["create", "complete"];
    let of_lone = of_lone.map(|verb| format!("database_alone_{verb}_ms_by_1"));
    if let Some([create, complete]) = all(report, &of_lone) {
        for (figure, steps) in STEPS_IN_A_ROW {
            let in_a_row = steps * (complete + call + 4.0 * hop);
            let way = create + in_a_row + 2.0 * call + 3.0 * hop;
            report.add(&format!("way_{figure}_ms"), way);
            if let Some(p50) = report.get(&format!("{figure}_p50_ms")) {
                report.add(&format!("{figure}_p50_per_way"), p50 / way);
            }
        }
    }
    report.add("floor_further_step_ms", of_step);
    if let Some(further) = report.get("further_step_ms") {
        report.add("further_step_per_floor", further / of_step);
    }
    for (share, floor) in [
        ("throughput_share_of_database_alone_percent", "database_alone_steps_per_s_by_100"),
        ("throughput_share_of_database_alone_by_16_percent", "database_alone_steps_per_s_by_16"),
        ("throughput_share_of_pgmq_by_100_percent", "floor_pgmq_send_pop_by_100_per_s"),
    ] {
        if let Some([steps, floor]) = all(report, &["throughput_steps_per_s", floor]) {
            report.add(share, 100.0 * steps / floor);
        }
    }
}

fn all<const N: usize>(report: &Report, names: &[impl AsRef<str>; N]) -> Option<[f64; N]> {
    let figures: Option<Vec<f64>> = names.iter().map(|name| report.get(name.as_ref())).collect();
    figures?.try_into().ok()
}
