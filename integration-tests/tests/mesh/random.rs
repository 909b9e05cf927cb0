//! Random graphs end as their handlers were told to, whatever happens meanwhile.
//!
//! `TASKER_RANDOM_SEED` runs what has failed again, though not with the same timing; `TASKER_RANDOM_TASKS`
//! runs more.

mod careless;
mod plan;

use std::{collections::BTreeSet, env, fmt::Display, str::FromStr, time::Duration};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tasker_client::{
    Client, NewTask, Operator, RetryPolicy,
    v1::{Remedy, StepState, TaskState},
};
use tasker_integration_tests::{Ledger, Mesh, Program, Service, scripted, until};
use tokio::task::JoinHandle;

use self::{
    careless::Careless,
    plan::{Plan, end_of},
};

const PATIENCE: Duration = Duration::from_secs(120);
const NAMESPACE: &str = "random";
const CALLERS: usize = 8;
/// One kill for so many tasks.
const TASKS_PER_KILL: usize = 8;
/// One cancelled for so many tasks.
const TASKS_PER_CANCEL: usize = 4;
/// Short, so that what a lost worker held comes back soon.
const SESSION_TTL: (&str, &str) = ("step_enqueuer.session_ttl", "2s");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_graphs_end_as_they_must_though_results_come_twice_late_or_never() {
    let mesh = Mesh::setup().with(SESSION_TTL.0, SESSION_TTL.1).start_in_one_process().await;
    let (seed, plans) = plans();
    let client = mesh.client();
    let worker = mesh.worker(&[NAMESPACE], &scripted());
    let careless = Careless::start(mesh.gateway(), seed);
    register(&client, &plans).await;
    let task_ids = submit(&client, &plans).await.unwrap();
    let ledger = mesh.ledger().await;
    until_at_rest(&ledger, plans.len()).await;
    let answers = careless.stop().await;
    worker.stop().await;
    assert!(answers.come_to_nothing().await > 0, "the careless worker had nothing to do");
    all_ended_as_they_must(&client, &ledger, &plans, &task_ids, Hands::Off).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_graphs_end_as_they_must_though_services_and_workers_are_killed() {
    let mesh = Mesh::setup().with(SESSION_TTL.0, SESSION_TTL.1).start().await;
    let (seed, plans) = plans();
    let client = mesh.client();
    let none: [(&str, &str); 0] = [];
    let arguments = [mesh.gateway(), NAMESPACE];
    let start =
        |name: &str| Program::start("tasker-scripted-worker", name, &arguments, none, mesh.logs());
    let workers = [start("one"), start("other")];
    let careless = Careless::start(mesh.gateway(), seed);
    register(&client, &plans).await;
    let submitted = submit(&client, &plans);
    let ledger = mesh.ledger().await;
    let mut random = StdRng::seed_from_u64(seed);
    let kills = plans.len() / TASKS_PER_KILL;
    let mut moments: Vec<usize> = (0..kills).map(|_| random.random_range(0..plans.len())).collect();
    moments.sort_unstable();
    for moment in moments {
        until_at_rest(&ledger, moment).await;
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
    let task_ids = submitted.await.unwrap();
    until_at_rest(&ledger, plans.len()).await;
    let answers = careless.stop().await;
    for worker in workers {
        worker.kill();
    }
    answers.come_to_nothing().await;
    all_ended_as_they_must(&client, &ledger, &plans, &task_ids, Hands::Off).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_graphs_end_as_operators_say() {
    let mesh = Mesh::setup().with(SESSION_TTL.0, SESSION_TTL.1).start_in_one_process().await;
    let (seed, plans) = plans();
    let client = mesh.client();
    let worker = mesh.worker(&[NAMESPACE], &scripted());
    let careless = Careless::start(mesh.gateway(), seed);
    register(&client, &plans).await;
    let task_ids = submit(&client, &plans).await.unwrap();
    let operate = |(nth, task_id)| operate(&client, task_id, nth % TASKS_PER_CANCEL == 0);
    let tasks = stream::iter(task_ids.iter().map(String::as_str).enumerate());
    tasks.for_each_concurrent(CALLERS, operate).await;
    let answers = careless.stop().await;
    worker.stop().await;
    answers.come_to_nothing().await;
    let ledger = mesh.ledger().await;
    all_ended_as_they_must(&client, &ledger, &plans, &task_ids, Hands::On).await;
}

/// Cancels a task, or resolves what fails in it until it completes.
async fn operate(client: &Client, task_id: &str, cancels: bool) {
    let by = Operator::new("random", "to see what comes of it");
    if cancels {
        let cancelled = client.cancel_task(task_id, &by).await;
        let refused = cancelled.err().map(|error| error.reason().map(str::to_owned));
        assert!(refused.is_none_or(|reason| reason.as_deref() == Some("TASK_ENDED")));
        return;
    }
    loop {
        let task = client.wait_for_task(task_id, PATIENCE).await.unwrap();
        match task.state() {
            TaskState::Complete => return,
            TaskState::BlockedByFailures => {
                client.repair_task(task_id, Remedy::Resolve, &by).await.unwrap();
            }
            state => panic!("task {task_id} is {state:?}"),
        }
    }
}

/// What is to be run, and from which seed: printed, and shown where the test fails.
fn plans() -> (u64, Vec<Plan>) {
    let seed = given("TASKER_RANDOM_SEED").unwrap_or_else(rand::random);
    let count = given("TASKER_RANDOM_TASKS").unwrap_or(40);
    println!("TASKER_RANDOM_SEED={seed} TASKER_RANDOM_TASKS={count}");
    let mut random = StdRng::seed_from_u64(seed);
    let plan = |nth| Plan::random(format!("task_{nth}"), &mut random);
    (seed, (0..count).map(plan).collect())
}

fn given<T: FromStr<Err: Display>>(variable: &str) -> Option<T> {
    let text = env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|error| panic!("{variable}={text}: {error}")))
}

async fn register(client: &Client, plans: &[Plan]) {
    for plan in plans {
        let template = plan.template(NAMESPACE);
        client
            .register_template(&template)
            .await
            .unwrap_or_else(|error| panic!("{template}: {error}"));
    }
}

/// Submits a task for each plan, through any fault. Returns their ids, in the same order.
fn submit(client: &Client, plans: &[Plan]) -> JoinHandle<Vec<String>> {
    let policy = RetryPolicy { deadline: PATIENCE, ..RetryPolicy::default() };
    let client = client.clone().with_retry_policy(policy);
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

/// Whether operators have cancelled tasks, and resolved what failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hands {
    On,
    Off,
}

async fn all_ended_as_they_must(
    client: &Client,
    ledger: &Ledger,
    plans: &[Plan],
    task_ids: &[String],
    hands: Hands,
) {
    ledger.histories_hold().await;
    ledger.every_attempt_has_ended_once().await;
    ledger.every_result_is_its_last_attempts().await;
    ledger.nothing_is_left().await;
    let mut lost = ledger.lost_attempts().await;
    println!("{} attempts were lost", lost.values().map(BTreeSet::len).sum::<usize>());
    for (plan, task_id) in plans.iter().zip(task_ids) {
        let must = plan.stands(&lost.remove(task_id).unwrap_or_default(), hands == Hands::On);
        let task = client.get_task(task_id).await.unwrap();
        let steps: Vec<_> = client.list_steps(task_id).try_collect().await.unwrap();
        assert_eq!(steps.len(), must.len(), "{task_id}");
        if hands == Hands::On && task.state() == TaskState::Cancelled {
            assert!(steps.iter().all(|step| has_ended(step.state())), "{task_id}: {steps:#?}");
            continue;
        }
        assert_eq!(task.state(), end_of(&must), "{task_id}: {plan:#?}");
        for step in steps {
            let stands = (step.state(), step.attempt);
            assert_eq!(stands, must[step.name.as_str()], "{task_id} {}: {plan:#?}", step.name);
        }
    }
}

fn has_ended(state: StepState) -> bool {
    use StepState::{Cancelled, Complete, Error, ResolvedManually};

    matches!(state, Complete | Error | Cancelled | ResolvedManually)
}
