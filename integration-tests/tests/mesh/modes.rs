//! However a stage learns of its work, the work is done.

use std::time::Duration;

use serde_json::json;
use tasker_api::DeliveryToken;
use tasker_client::{NewTask, v1::TaskState};
use tasker_integration_tests::{Mesh, Session, register_examples, success};

const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_complete_by_calls_alone() {
    tasks_complete_by("event_driven_only").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_complete_by_reading_queues_alone() {
    tasks_complete_by("polling_only").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queued_result_is_judged_though_the_call_that_tells_of_it_got_lost() {
    let mesh = Mesh::setup().with("mesh.mode", "event_driven_only");
    let mesh = mesh.with("finalizer.reconcile_interval", "1s").start().await;
    let client = mesh.client();
    let yaml = "{namespace: modes, name: lone, version: 1.0.0,
        steps: [{name: only, handler: {callable: any}}]}";
    client.register_template(yaml).await.unwrap();
    let task_id = client.create_task(NewTask::of("modes", "lone")).await.unwrap().task_id;
    let hello = Session::hello("worker", "modes", &["any"], 1);
    let mut session = Session::open(mesh.channel().await, hello).await.unwrap();
    let token: DeliveryToken = session.take().await.delivery_token.parse().unwrap();
    // A step-enqueuer that is killed between its commit and its call.
    let ledger = mesh.ledger().await;
    ledger.queue_a_result(token).await;
    let task = client.wait_for_task(&task_id, PATIENCE).await.unwrap();
    assert_eq!(task.state(), TaskState::Complete);
    session.drain().await;
    ledger.every_task_has_completed_once(1).await;
    ledger.nothing_is_left().await;
}

async fn tasks_complete_by(mode: &str) {
    let mesh = Mesh::setup().with("mesh.mode", mode).start().await;
    let client = mesh.client();
    register_examples(&client, &["tree"]).await;
    let worker = mesh.worker(&["arithmetic"], &tasker_example_worker::registry());
    for n in [2, 4, 6] {
        let task = NewTask::of("arithmetic", "tree").context(&json!({"n": n})).unwrap();
        let task_id = client.create_task(task).await.unwrap().task_id;
        let task = client.wait_for_task(&task_id, PATIENCE).await.unwrap();
        assert_eq!(task.state(), TaskState::Complete);
    }
    worker.stop().await;
    let ledger = mesh.ledger().await;
    ledger.every_task_has_completed_once(3).await;
    ledger.nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_by_message_becomes_a_task_though_no_queue_is_read_without_a_call() {
    let mesh = Mesh::setup().with("mesh.mode", "event_driven_only");
    let mesh = mesh.with("finalizer.reconcile_interval", "1s").start().await;
    let client = mesh.client();
    let yaml = "{namespace: modes, name: lone, version: 1.0.0,
        steps: [{name: only, handler: {callable: any}}]}";
    client.register_template(yaml).await.unwrap();
    let hello = Session::hello("worker", "modes", &["any"], 1);
    let mut session = Session::open(mesh.channel().await, hello).await.unwrap();
    let ledger = mesh.ledger().await;
    let request = r#"{"namespace": "modes", "name": "lone", "request_id": "by message"}"#;
    ledger.send("orchestration_task_requests", request).await;
    let delivery = session.take().await;
    session.report(success(&delivery.delivery_token, "1")).await;
    let task = client.wait_for_task(&delivery.task_id, PATIENCE).await.unwrap();
    assert_eq!(task.state(), TaskState::Complete);
    session.drain().await;
    ledger.every_task_has_completed_once(1).await;
    ledger.nothing_is_left().await;
}
