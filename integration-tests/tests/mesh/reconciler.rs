//! The states in the tables are the promise: a queue may forget.

use std::time::Duration;

use tasker_client::{
    Client, NewTask,
    v1::{Delivery, ResultVerdict, TaskState},
};
use tasker_integration_tests::{Ledger, Mesh, Service, Session, failure, success, until};

const PATIENCE: Duration = Duration::from_secs(30);
const YAML: &str = "{namespace: forgotten, name: one_step, version: 1.0.0,
    steps: [{name: only, handler: {callable: only}}]}";
const NO_STEPS: &str = "{namespace: forgotten, name: no_steps, version: 1.0.0, steps: []}";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_queue_forgets_is_sent_again() {
    let mesh = Mesh::setup().with("finalizer.reconcile_interval", "1s").start().await;
    let client = mesh.client();
    client.register_template(YAML).await.unwrap();
    let ledger = mesh.ledger().await;

    // A ready step, while nobody enqueues it.
    mesh.kill(Service::StepEnqueuer, 0);
    let task = submit(&client).await;
    change_one(&ledger, "DELETE FROM pgmq.q_orchestration_ready_steps").await;
    mesh.restart(Service::StepEnqueuer, 0).await;
    let mut worker = connect(&mesh).await;
    run_to_the_end(&client, &task, &mut worker).await;
    worker.drain().await;

    // An enqueued step, while there is no worker.
    let task = submit(&client).await;
    change_one(&ledger, "DELETE FROM pgmq.q_worker_forgotten_queue").await;
    let mut worker = connect(&mesh).await;
    run_to_the_end(&client, &task, &mut worker).await;

    // A result, while nobody judges it.
    let task = submit(&client).await;
    let delivery = worker.take().await;
    mesh.kill(Service::ResultProcessor, 0);
    report(&mut worker, &delivery).await;
    change_one(&ledger, "DELETE FROM pgmq.q_orchestration_step_results").await;
    mesh.restart(Service::ResultProcessor, 0).await;
    rests(&client, &task, TaskState::Complete).await;

    ledger.every_task_has_completed_once(3).await;

    // The end of a task, while nobody ends it: no result does, where there are no steps.
    client.register_template(NO_STEPS).await.unwrap();
    mesh.kill(Service::Finalizer, 0);
    let task = client.create_task(NewTask::of("forgotten", "no_steps")).await.unwrap().task_id;
    change_one(&ledger, "DELETE FROM pgmq.q_orchestration_task_finalizations").await;
    mesh.restart(Service::Finalizer, 0).await;
    rests(&client, &task, TaskState::Complete).await;

    // That a task can go no further, while nobody says so.
    let task = submit(&client).await;
    let delivery = worker.take().await;
    mesh.kill(Service::Finalizer, 0);
    let verdict = worker.report(failure(&delivery.delivery_token, "broken", false)).await;
    assert_eq!(verdict, ResultVerdict::Committed);
    change_one(&ledger, "DELETE FROM pgmq.q_orchestration_task_finalizations").await;
    mesh.restart(Service::Finalizer, 0).await;
    rests(&client, &task, TaskState::BlockedByFailures).await;

    worker.drain().await;
    ledger.histories_hold().await;
    ledger.nothing_is_left().await;
    let unknown = "SELECT count(*) FROM step_transitions WHERE actor = ''";
    assert_eq!(ledger.number(unknown).await, 0, "also what was sent again says who gave it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiting_step_is_found_though_nobody_announces_it() {
    let mesh = Mesh::setup().with("mesh.fallback_interval", "1s").start().await;
    let client = mesh.client();
    client.register_template(YAML).await.unwrap();
    let ledger = mesh.ledger().await;
    let task = submit(&client).await;
    // What another replica put there, and then was killed before it could tell anybody.
    change_one(
        &ledger,
        r#"UPDATE pgmq.q_worker_forgotten_queue SET message = message || '{"callable": "not yet"}'"#,
    )
    .await;
    let mut worker = connect(&mesh).await;
    change_one(
        &ledger,
        r#"UPDATE pgmq.q_worker_forgotten_queue SET message = message || '{"callable": "only"}'"#,
    )
    .await;
    run_to_the_end(&client, &task, &mut worker).await;
}

async fn submit(client: &Client) -> String {
    client.create_task(NewTask::of("forgotten", "one_step")).await.unwrap().task_id
}

async fn connect(mesh: &Mesh) -> Session {
    let hello = Session::hello("worker", "forgotten", &["only"], 1);
    Session::open(mesh.channel().await, hello).await.unwrap()
}

/// Deletes or changes the one message that there is, once it is there.
async fn change_one(ledger: &Ledger, statement: &'static str) {
    until("there is a message", PATIENCE, async || {
        (ledger.change(statement).await == 1).then_some(())
    })
    .await;
}

async fn run_to_the_end(client: &Client, task: &str, worker: &mut Session) {
    let delivery = worker.take().await;
    report(worker, &delivery).await;
    rests(client, task, TaskState::Complete).await;
}

async fn report(worker: &mut Session, delivery: &Delivery) {
    let verdict = worker.report(success(&delivery.delivery_token, "1")).await;
    assert_eq!(verdict, ResultVerdict::Committed);
}

async fn rests(client: &Client, task: &str, state: TaskState) {
    let task = client.wait_for_task(task, PATIENCE).await.unwrap();
    assert_eq!(task.state(), state);
}
