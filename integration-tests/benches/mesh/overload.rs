//! What happens when twice as much comes as can be done.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use anyhow::Result;
use tasker_api::v1::{CreateTaskRequest, task_service_client::TaskServiceClient};
use tasker_client::NewTask;
use tokio::{
    task::JoinSet,
    time::{Instant, interval, timeout},
};
use tonic::{
    Code, Request, Status,
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_types::StatusExt as _;
use uuid::Uuid;

use crate::{
    arrivals::arrivals,
    echo::Echo,
    processes::{self, Processes},
    report::Report,
    rig::Rig,
    sustained::{self, Load, STEPS},
};

/// How much more than the maximum.
const TIMES: f64 = 2.0;
/// The callers share so many: one takes a few hundred calls at once, and more would wait on our side.
const CONNECTIONS: usize = 16;
/// How long a caller waits for an answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at the memory.
const SAMPLE: Duration = Duration::from_millis(500);

/// What became of the callers.
#[derive(Default)]
struct Answers {
    accepted: usize,
    /// `RESOURCE_EXHAUSTED` with `RetryInfo`.
    refused: usize,
    /// Anything else, by what it is.
    otherwise: BTreeMap<String, usize>,
}

/// Linear tasks arrive in an open loop, at twice the maximum, and no caller tries again. Steps are counted
/// while they arrive. Afterwards every accepted task must come to a good end.
pub async fn measure(rig: &mut Rig, report: &mut Report) -> Result<()> {
    let maximum = sustained::maximum(rig).await?.steps_per_s;
    report.section("overload: twice the maximum offered, in an open loop, and nobody tries again");
    let offered = TIMES * maximum / STEPS;
    let mut resident = BTreeMap::new();
    let (first, begun_at) = (Uuid::now_v7(), SystemTime::now());
    let (cpu, offering) = (rig.processes()?.cpu()?, Instant::now());
    let (answers, time) = tokio::select! {
        answered = offer(rig, offered) => answered?,
        failed = keep_largest(rig.processes()?, &mut resident) => return failed,
    };
    let cpu = processes::spent(&cpu, &rig.processes()?.cpu()?);
    let offered_for = offering.elapsed().as_secs_f64();
    let steps = rig.database.steps_completed(first, begun_at, begun_at + time).await?;
    sustained::drained(rig).await?;
    let complete = rig.database.complete_since(first).await?;

    let steps_per_s = steps as f64 / time.as_secs_f64();
    let otherwise: usize = answers.otherwise.values().sum();
    report.add("overload_offered_tasks_per_s", offered);
    report.add("overload_steps_per_s", steps_per_s);
    report.add("overload_share_of_maximum_percent", 100.0 * steps_per_s / maximum);
    report.add("overload_accepted_tasks", answers.accepted as f64);
    report.add("overload_refused_tasks", answers.refused as f64);
    report.add("overload_failed_otherwise_tasks", otherwise as f64);
    report.add("overload_lost_tasks", answers.accepted.saturating_sub(complete) as f64);
    for (what, callers) in &answers.otherwise {
        eprintln!("{callers} callers were told: {what}");
    }
    // What the callers take is not there for the mesh.
    for (process, seconds) in &cpu {
        let figure = format!("overload_busy_cores_{}", process.replace('-', "_"));
        report.add(&figure, seconds / offered_for);
    }
    for (name, mib) in resident {
        report.add(&format!("overload_rss_mib_max_{}", name.replace('-', "_")), mib);
    }
    // Who does the maximum refuses the rest.
    let most = beside_a_bare_server(rig, offered - maximum / STEPS).await?;
    report.add("overload_beside_a_bare_server_steps_per_s", most);
    report.add("overload_beside_a_bare_server_share_of_maximum_percent", 100.0 * most / maximum);
    report.add("overload_share_of_beside_a_bare_server_percent", 100.0 * steps_per_s / most);
    Ok(())
}

/// What this mesh does at most beside the least that refusing could cost: as many calls as are to be refused,
/// from the same callers, go to a server that answers and does nothing else.
async fn beside_a_bare_server(rig: &mut Rig, calls_per_s: f64) -> Result<f64> {
    let echo = Echo::start().await?;
    let connections: Vec<_> =
        connections(echo.url()).await?.into_iter().map(HealthClient::new).collect();
    let load = Load::start(rig, Uuid::now_v7()).await?;
    let calls = async {
        let mut calls = JoinSet::new();
        let mut arriving = arrivals(calls_per_s, rig.arguments.overload());
        while let Some(arrival) = arriving.recv().await {
            let mut client = connections[arrival.nth % CONNECTIONS].clone();
            let check = async move { client.check(HealthCheckRequest::default()).await };
            calls.spawn(timeout(PATIENCE, check));
        }
        while let Some(answer) = calls.join_next().await {
            answer???;
        }
        anyhow::Ok(())
    };
    let (window, called) = tokio::join!(load.window(rig, rig.arguments.overload()), calls);
    called?;
    load.finish(rig).await?;
    Ok(window?.steps_per_s())
}

async fn connections(url: &str) -> Result<Vec<Channel>> {
    let mut connections = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        let server = Endpoint::from_shared(url.to_owned())?.tcp_nodelay(true);
        connections.push(server.connect().await?);
    }
    Ok(connections)
}

/// Has the callers come, and waits for their answers. Returns also for how long they came.
async fn offer(rig: &Rig, tasks_per_s: f64) -> Result<(Answers, Duration)> {
    let connections: Vec<_> =
        connections(rig.mesh.gateway()).await?.into_iter().map(TaskServiceClient::new).collect();
    let begun = Instant::now();
    let mut calls = JoinSet::new();
    let mut arriving = arrivals(tasks_per_s, rig.arguments.overload());
    while let Some(arrival) = arriving.recv().await {
        let client = connections[arrival.nth % CONNECTIONS].clone();
        let task = NewTask::of("arithmetic", "linear").request_id(Uuid::now_v7());
        calls.spawn(call(client, task.context(&serde_json::json!({"n": 0}))?.into()));
    }
    let time = begun.elapsed();
    let mut answers = Answers::default();
    while let Some(answer) = calls.join_next().await {
        answers.note(answer?);
    }
    Ok((answers, time))
}

async fn call(
    mut client: TaskServiceClient<Channel>,
    task: CreateTaskRequest,
) -> Result<(), Box<Status>> {
    let mut request = Request::new(task);
    request.set_timeout(PATIENCE);
    client.create_task(request).await.map(|_| ()).map_err(Box::new)
}

impl Answers {
    fn note(&mut self, answer: Result<(), Box<Status>>) {
        match answer {
            Ok(()) => self.accepted += 1,
            Err(status)
                if status.code() == Code::ResourceExhausted
                    && status.get_details_retry_info().is_some() =>
            {
                self.refused += 1;
            }
            Err(status) => {
                let what = format!("{:?}: {}", status.code(), status.message());
                *self.otherwise.entry(what).or_default() += 1;
            }
        }
    }
}

/// Notes the largest resident memory of each process, in MiB, for as long as it is asked. Returns only
/// if it cannot look.
async fn keep_largest(processes: Processes, largest: &mut BTreeMap<String, f64>) -> Result<()> {
    let mut ticks = interval(SAMPLE);
    loop {
        ticks.tick().await;
        for (name, mib) in processes.resident_mib()? {
            let most = largest.entry(name).or_insert(0.0);
            *most = most.max(mib);
        }
    }
}
