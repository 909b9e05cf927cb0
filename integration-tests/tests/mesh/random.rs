//! Random graphs end as they must, whatever happens meanwhile.
//!
//! A [`plan`] is drawn, the [`reference`] says what must come of it, and the [`check`] reads what has. A
//! failure names its plan: `TASKER_RANDOM_SEED` draws all of them again, with `TASKER_RANDOM_ONLY` only that
//! one, though not with the same timing; `TASKER_RANDOM_TASKS` draws more.

mod careless;
mod check;
mod operate;
mod plan;
mod reference;

use std::{
    collections::BTreeMap,
    env,
    fmt::Display,
    str::FromStr,
    time::{Duration, Instant},
};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tasker_client::{Client, NewTask, RetryPolicy};
use tasker_integration_tests::{Ledger, Mesh, Program, Record, Service, Setup, scripted, until};
use tokio::task::JoinHandle;

use self::{
    careless::Careless,
    check::{limits, rates},
    operate::operate,
    plan::{Hand, Plan},
};

const PATIENCE: Duration = Duration::from_secs(120);
const NAMESPACE: &str = "random";
const CALLERS: usize = 8;
const TASKS: u64 = 60;
/// One kill for so many tasks.
const TASKS_PER_KILL: usize = 12;

/// A mesh in which what a lost worker held, and what nobody was told of, is noticed soon.
fn setup() -> Setup {
    Mesh::setup().with("step_enqueuer.session_ttl", "1s").with("mesh.fallback_interval", "1s")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_graphs_end_as_they_must_though_results_are_careless_and_operators_step_in() {
    let clock = Clock::start();
    let (seed, plans) = plans(&[
        Hand::Off,
        Hand::Off,
        Hand::PausesTask,
        Hand::PausesTemplate,
        Hand::Cancels,
        Hand::Resolves,
    ]);
    let mesh = setup().start_in_one_process().await;
    clock.tell("the mesh is ready");
    let (client, ledger) = (mesh.client(), mesh.ledger().await);
    ledger.note_grants().await;
    register(&client, &plans).await;
    clock.tell("the templates are registered");
    let worker = mesh.worker(&[NAMESPACE], &scripted());
    let careless = Careless::start(mesh.gateway(), seed);
    let tasks = submit(&client, &plans).await.unwrap();
    operate(&client, &ledger, &plans, &tasks).await;
    until_at_rest(&ledger, plans.len()).await;
    clock.tell("all tasks are at rest");
    let answers = careless.stop().await;
    worker.stop().await;
    let sent = answers.come_to_nothing().await;
    assert!(sent > 0 || plans.len() < CALLERS, "the careless worker had nothing to do");
    all_is_as_it_must(&ledger, seed, &plans, &tasks).await;
    clock.tell("all is checked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_graphs_end_as_they_must_though_services_and_workers_are_killed() {
    let clock = Clock::start();
    let (seed, plans) = plans(&[Hand::Off, Hand::Off, Hand::PausesTask, Hand::PausesTemplate]);
    let mesh = setup().start().await;
    clock.tell("the mesh is ready");
    let client = patient(&mesh);
    let ledger = mesh.ledger().await;
    ledger.note_grants().await;
    register(&client, &plans).await;
    clock.tell("the templates are registered");
    let none: [(&str, &str); 0] = [];
    let arguments = [mesh.gateway(), NAMESPACE];
    let start =
        |name: &str| Program::start("tasker-scripted-worker", name, &arguments, none, mesh.logs());
    let workers = [start("one"), start("other")];
    let careless = Careless::start(mesh.gateway(), seed);
    let kills = kill(&mesh, &ledger, seed, &workers, plans.len());
    let operated = async {
        let tasks = submit(&client, &plans).await.unwrap();
        operate(&client, &ledger, &plans, &tasks).await;
        tasks
    };
    let (tasks, ()) = tokio::join!(operated, kills);
    until_at_rest(&ledger, plans.len()).await;
    clock.tell("all tasks are at rest");
    let answers = careless.stop().await;
    for worker in workers {
        worker.kill();
    }
    answers.come_to_nothing().await;
    all_is_as_it_must(&ledger, seed, &plans, &tasks).await;
    clock.tell("all is checked");
}

/// Kills a program again and again, and starts it again: a drawn one, when drawn parts of the tasks rest.
async fn kill(mesh: &Mesh, ledger: &Ledger, seed: u64, workers: &[Program], tasks: usize) {
    let mut random = StdRng::seed_from_u64(seed);
    let kills = (tasks / TASKS_PER_KILL).max(1);
    let mut moments: Vec<usize> = (0..kills).map(|_| random.random_range(0..tasks)).collect();
    moments.sort_unstable();
    for moment in moments {
        until_at_rest(ledger, moment).await;
        match random.random_range(0..Service::ALL.len() + workers.len()) {
            nth if nth < workers.len() => {
                workers[nth].kill();
                workers[nth].start_again();
            }
            nth => {
                let service = Service::ALL[nth - workers.len()];
                mesh.kill(service, 0);
                mesh.restart(service, 0).await;
            }
        }
    }
}

/// What is to be run, and from which seed: printed, and shown where the test fails.
fn plans(hands: &[Hand]) -> (u64, Vec<Plan>) {
    let seed: u64 = given("TASKER_RANDOM_SEED").unwrap_or_else(rand::random);
    let count = given("TASKER_RANDOM_TASKS").unwrap_or(TASKS);
    println!("TASKER_RANDOM_SEED={seed} TASKER_RANDOM_TASKS={count}");
    let only: Option<u64> = given("TASKER_RANDOM_ONLY");
    let nths = (0..count).filter(|nth| only.is_none_or(|only| only == *nth));
    // Each from a seed of its own, so that it can be drawn without the others.
    let plan = |nth| Plan::random(format!("task_{nth}"), seed.wrapping_add(nth), hands);
    (seed, nths.map(plan).collect())
}

fn given<T: FromStr<Err: Display>>(variable: &str) -> Option<T> {
    let text = env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|error| panic!("{variable}={text}: {error}")))
}

/// A client whose calls go on through any fault.
fn patient(mesh: &Mesh) -> Client {
    let policy = RetryPolicy { deadline: PATIENCE, ..RetryPolicy::default() };
    mesh.client().with_retry_policy(policy)
}

async fn register(client: &Client, plans: &[Plan]) {
    let register = |plan: &Plan| {
        let template = plan.template(NAMESPACE);
        async move {
            let registered = client.register_template(&template).await;
            registered.unwrap_or_else(|error| panic!("{template}: {error}"));
        }
    };
    stream::iter(plans.iter().map(register)).buffer_unordered(CALLERS).collect::<()>().await;
}

/// Submits a task for each plan. Returns their ids, in the same order.
fn submit(client: &Client, plans: &[Plan]) -> JoinHandle<Vec<String>> {
    let client = client.clone();
    let tasks: Vec<NewTask> = plans
        .iter()
        .map(|plan| NewTask::of(NAMESPACE, &plan.name).context(&plan.script).unwrap())
        .collect();
    tokio::spawn(async move {
        let create = |task| client.create_task(task);
        let created = stream::iter(tasks).map(create).buffered(CALLERS);
        created.map_ok(|created| created.task_id).try_collect().await.unwrap()
    })
}

/// Waits until so many tasks have ended or are blocked.
async fn until_at_rest(ledger: &Ledger, tasks: usize) {
    until(&format!("{tasks} tasks are at rest"), PATIENCE, async || {
        let at_rest = ledger.number("SELECT count(*) FROM task_search WHERE rests_in IS NOT NULL");
        (usize::try_from(at_rest.await).unwrap() >= tasks).then_some(())
    })
    .await;
}

async fn all_is_as_it_must(ledger: &Ledger, seed: u64, plans: &[Plan], task_ids: &[String]) {
    ledger.histories_hold().await;
    ledger.every_attempt_has_ended_once().await;
    ledger.nothing_is_left().await;
    let records = ledger.records().await;
    assert_eq!(records.len(), plans.len());
    let tasks = || plans.iter().zip(task_ids).map(|(plan, id)| (plan, &records[id]));
    for (nth, (plan, record)) in tasks().enumerate() {
        let wrong = check::wrong(plan, record);
        assert!(
            wrong.is_empty(),
            "{wrong:#?}\nTASKER_RANDOM_SEED={seed} TASKER_RANDOM_ONLY={nth}\n{plan:#?}\n{record:#?}"
        );
    }
    let most = limits::most(tasks());
    println!("at once: {most:?}");
    assert_eq!(limits::wrong(&most), [""; 0]);
    let grants = ledger.grants().await;
    println!("in a time: {:?}", rates::most(&grants));
    assert_eq!(rates::wrong(tasks(), &grants), [""; 0]);
    tell(records.values());
}

/// Says how much has happened of all that could.
fn tell<'a>(records: impl Iterator<Item = &'a Record>) {
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    for record in records {
        *times.entry(format!("task {}", record.state)).or_default() += 1;
        for it in &record.moves {
            let why = it.reason.as_deref().unwrap_or_default();
            *times.entry(format!("step {:?} {why}", it.events)).or_default() += 1;
        }
    }
    for (what, times) in times {
        println!("{times:5} {what}");
    }
}

/// Where the time goes.
struct Clock(Instant);

impl Clock {
    fn start() -> Self {
        Self(Instant::now())
    }

    fn tell(&self, what: &str) {
        println!("{:5.1} s: {what}", self.0.elapsed().as_secs_f64());
    }
}
