//! What the database does with the mesh's own statements when nothing else is there: no service, no
//! RPC, no worker.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};
use tasker_domain::{TaskId, Template, identity};
use tasker_integration_tests::example;
use tasker_store::{
    Completion, Front, NewTask, Options, Payload, Place, ReadyStep, Registered, Said, Started,
    Store, ToEnqueue, ToStart, Verdict,
};
use uuid::Uuid;

use crate::report::Report;

/// Tasks created together, which then go through all their steps together: what a statement can hold and
/// costs least by, and about what the statements of a full mesh hold.
const BATCHES: [usize; 2] = [100, 16];
/// At once, each on connections of its own.
const LANES: usize = 2;
/// How long tasks go through alone, one after another.
const BY_ONE: Duration = Duration::from_secs(2);
pub const ACTOR: &str = "bench";
/// The namespace of the example.
const NAMESPACE: &str = "arithmetic";
/// The handler of all its steps.
const HANDLER: &str = "square";
/// How long an attempt may take, in ms.
const TIMEOUT_MS: i64 = 30_000;

/// Linear tasks, by the statements that a full mesh runs: creates them by the batch, puts their first steps into
/// the worker queue, looks there and leases them, and completes each batch of steps in the statement that leases
/// the next or ends their tasks; in two lanes. Before that one by one in a single lane, as an idle mesh does it:
/// first steps are leased where their tasks are born. So it is told what each statement of a lone task takes from
/// the caller's point of view, if nothing else happens.
pub async fn measure(url: &str, time: Duration, report: &mut Report) -> Result<()> {
    let (store, template_id) = open(url).await?;
    lane(store.clone(), template_id, 1, BY_ONE).await?.report(1, report);
    for batch in BATCHES {
        let begun = Instant::now();
        let lanes = (0..LANES).map(|_| tokio::spawn(lane(store.clone(), template_id, batch, time)));
        let mut spent = Spent::default();
        for lane in futures::future::join_all(lanes).await {
            spent.add(&lane??);
        }
        let took = begun.elapsed().as_secs_f64();
        report.add(&format!("database_alone_steps_per_s_by_{batch}"), spent.steps as f64 / took);
        spent.report(batch, report);
    }
    store.close().await;
    Ok(())
}

/// A database with nothing but the example in it, and which template that is.
pub async fn open(url: &str) -> Result<(Store, Uuid)> {
    let store = Store::connect(&Options {
        url: url.to_owned(),
        max_connections: 4,
        acquire_timeout: Duration::from_secs(10),
        application_name: "bench".to_owned(),
    })
    .await?;
    let yaml = example("linear");
    let Ok(template) = Template::parse(&yaml) else { bail!("the example is no template") };
    let Registered::As(template) = store.register_template(&template, &yaml, "").await? else {
        bail!("the example is registered with another definition");
    };
    Ok((store, template.template_id.0))
}

/// Time and items of each verb, and how far a lane has come.
#[derive(Default)]
struct Spent {
    steps: usize,
    /// The last message of its worker queue that a lane has taken.
    seen: i64,
    create: (Duration, usize),
    enqueue: (Duration, usize),
    look: (Duration, usize),
    start: (Duration, usize),
    complete: (Duration, usize),
}

impl Spent {
    fn verbs(&self) -> [(&'static str, (Duration, usize)); 5] {
        let Self { create, enqueue, look, start, complete, .. } = *self;
        [
            ("create", create),
            ("enqueue", enqueue),
            ("look", look),
            ("start", start),
            ("complete", complete),
        ]
    }

    fn add(&mut self, other: &Self) {
        self.steps += other.steps;
        let Self { create, enqueue, look, start, complete, .. } = self;
        let parts = [create, enqueue, look, start, complete].into_iter().zip(other.verbs());
        for (sum, (_, part)) in parts {
            sum.0 += part.0;
            sum.1 += part.1;
        }
    }

    /// Adds how long each statement took, which had so many items.
    fn report(&self, batch: usize, report: &mut Report) {
        for (verb, (time, items)) in self.verbs().into_iter().filter(|(_, (_, items))| *items > 0) {
            let ms = 1e3 * time.as_secs_f64() / (items as f64 / batch as f64);
            report.add(&format!("database_alone_{verb}_ms_by_{batch}"), ms);
        }
    }
}

async fn lane(store: Store, template_id: Uuid, batch: usize, time: Duration) -> Result<Spent> {
    let begun = Instant::now();
    let session = Uuid::now_v7();
    let mut spent = Spent::default();
    while begun.elapsed() < time {
        let tasks: Vec<NewTask> = (0..batch).map(|_| new_task(template_id)).collect();
        let mut started = if batch == 1 {
            begin_at_once(&store, &tasks, session, &mut spent).await?
        } else {
            begin_by_queue(&store, &tasks, session, &mut spent).await?
        };
        ensure!(!started.is_empty(), "no first steps have been leased");
        while !started.is_empty() {
            ensure!(started.len() == batch, "not all steps have been leased");
            let results = completed(&started, session);
            let judged =
                timed(&mut spent.complete, batch, store.complete_steps(&results, ACTOR)).await?;
            let taken = judged.verdicts.iter().all(|verdict| *verdict == Verdict::Committed.into());
            ensure!(taken, "not all results have been taken");
            spent.steps += batch;
            started = judged.started;
            ensure!(judged.ready.is_empty(), "not all steps have begun in their places");
            ensure!(judged.finalizations.is_empty(), "not all tasks have ended by their results");
        }
    }
    Ok(spent)
}

/// Births in which first steps begin, as where workers have room.
async fn begin_at_once(
    store: &Store,
    tasks: &[NewTask],
    session: Uuid,
    spent: &mut Spent,
) -> Result<Vec<Started>> {
    let places = tasks.iter().map(|task| (task.task_id.0, vec![place(0, session)])).collect();
    let create = store.create_tasks_in_places(tasks, &places, ACTOR);
    Ok(timed(&mut spent.create, tasks.len(), create).await?.started)
}

/// Births whose first steps wait for a worker, as where there is a backlog.
async fn begin_by_queue(
    store: &Store,
    tasks: &[NewTask],
    session: Uuid,
    spent: &mut Spent,
) -> Result<Vec<Started>> {
    let items = tasks.len();
    let no_places = HashMap::new();
    let create = store.create_tasks_in_places(tasks, &no_places, ACTOR);
    let born = timed(&mut spent.create, items, create).await?;
    let queued: Vec<ToEnqueue> = born.ready.into_iter().map(to_enqueue).collect();
    timed(&mut spent.enqueue, items, store.enqueue_steps(&queued, ACTOR)).await?;
    // Wide enough for what the other lane has there, too, and from what was not there before.
    let (handlers, window) = ([HANDLER.to_owned()], i64::try_from(LANES * items + 1)?);
    let from = Front { message_id: spent.seen + 1, priorities: vec![0] };
    let look = store.waiting_steps(NAMESPACE, &handlers, &from, window);
    let mut waiting = timed(&mut spent.look, items, look).await?.steps;
    let ours: HashSet<Uuid> = tasks.iter().map(|task| task.task_id.0).collect();
    waiting.retain(|step| ours.contains(&step.task_id));
    spent.seen = waiting.iter().map(|step| step.message_id).max().unwrap_or(spent.seen);
    let to_start = |waiting| ToStart {
        waiting,
        delivery_id: Uuid::now_v7(),
        session_id: session,
        timeout_ms: TIMEOUT_MS,
    };
    let batch: Vec<ToStart> = waiting.into_iter().map(to_start).collect();
    let start = store.start_steps(NAMESPACE, &batch, ACTOR);
    Ok(timed(&mut spent.start, items, start).await?.0)
}

fn to_enqueue(ready: ReadyStep) -> ToEnqueue {
    ToEnqueue {
        traceparent: ready.traceparent.clone(),
        queue: NAMESPACE.to_owned(),
        callable: HANDLER.to_owned(),
        ready,
        to: None,
        held_to: None,
    }
}

async fn timed<T, E>(
    spent: &mut (Duration, usize),
    items: usize,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let begun = Instant::now();
    let done = work.await?;
    spent.0 += begun.elapsed();
    spent.1 += items;
    Ok(done)
}

/// As task-request makes it of a client's call.
pub fn new_task(template_id: Uuid) -> NewTask {
    let request_id = Uuid::now_v7().to_string();
    NewTask {
        message_id: None,
        task_id: TaskId::new(),
        template_id,
        newest: true,
        steps: 4,
        repetition: Some(identity::request_key(&request_id)),
        identity: None,
        priority: 0,
        context: json(br#"{"n":6}"#),
        idempotency_key: String::new(),
        correlation_id: String::new(),
        requested_by: String::new(),
        reason: String::new(),
        look_after: None,
        traceparent: String::new(),
        tracestate: String::new(),
    }
}

/// Results that bring a place for the next step, as a worker with room does: it begins there in the same
/// statement.
pub fn completed(started: &[Started], session_id: Uuid) -> Vec<Completion> {
    let complete = |step: &Started| Completion {
        message_id: None,
        held: step.held,
        payload: json(b"1296"),
        said: Said::Nothing,
        worker_id: ACTOR.to_owned(),
        traceparent: String::new(),
        places: vec![place(step.held.ordinal + 1, session_id)],
    };
    started.iter().map(complete).collect()
}

pub fn place(ordinal: i32, session_id: Uuid) -> Place {
    Place { ordinal, delivery_id: Uuid::now_v7(), session_id, timeout_ms: TIMEOUT_MS }
}

fn json(data: &'static [u8]) -> Payload {
    Payload { content_type: "application/json".to_owned(), data: data.into(), ..Payload::default() }
}
