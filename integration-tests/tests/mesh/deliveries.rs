//! A step that no worker can be told of fails, and says why.

use std::time::Duration;

use serde_json::json;
use tasker_client::{
    Client, NewTask,
    v1::{StepError, StepState, TaskState},
};
use tasker_integration_tests::{Mesh, until};
use tasker_worker::Registry;

const PATIENCE: Duration = Duration::from_secs(60);
/// Almost the largest payload.
const LARGE: usize = (4 << 20) - 100;

in_both_shapes![
    a_delivery_that_is_too_large_fails_its_step,
    a_task_whose_context_is_gone_fails_its_step,
];

async fn failure(client: &Client, task_id: &str, step: &str) -> StepError {
    let failed = until("the step has failed", PATIENCE, async || {
        let step = client.get_step(task_id, step).await.unwrap();
        (step.state() == StepState::Error).then_some(step)
    });
    failed.await.result.unwrap().error.unwrap()
}

async fn a_delivery_that_is_too_large_fails_its_step(mesh: &Mesh) {
    let client = mesh.client();
    let yaml = "{namespace: deliveries, name: wide, version: 1.0.0, steps: [
        {name: a, handler: {callable: large}}, {name: b, handler: {callable: large}},
        {name: c, handler: {callable: large}}, {name: d, handler: {callable: large}},
        {name: e, handler: {callable: large}},
        {name: sum, handler: {callable: sum}, dependencies: [a, b, c, d, e],
         retry: {max_attempts: 1}}]}";
    client.register_template(yaml).await.unwrap();
    let mut handlers = Registry::new();
    handlers.register_fn("large", |_| async { Ok("x".repeat(LARGE)) });
    handlers.register_fn("sum", |_| async { Ok(5) });
    let worker = mesh.worker(&["deliveries"], &handlers);
    let task_id = client.create_task(NewTask::of("deliveries", "wide")).await.unwrap().task_id;
    let error = failure(&client, &task_id, "sum").await;
    assert_eq!(error.r#type, "DELIVERY_TOO_LARGE");
    assert!(error.message.contains("pass references"), "{}", error.message);
    let task = client.wait_for_task(&task_id, PATIENCE).await.unwrap();
    assert_eq!(task.state(), TaskState::BlockedByFailures);
    worker.stop().await;
    let ledger = mesh.ledger().await;
    ledger.histories_hold().await;
    ledger.nothing_is_left().await;
}

async fn a_task_whose_context_is_gone_fails_its_step(mesh: &Mesh) {
    let client = mesh.client();
    let yaml = "{namespace: deliveries, name: lone, version: 1.0.0, steps: [
        {name: only, handler: {callable: any}, retry: {max_attempts: 1}}]}";
    client.register_template(yaml).await.unwrap();
    // Too large to be kept at hand.
    let context = json!({"text": "x".repeat(32 << 10)});
    let task = NewTask::of("deliveries", "lone").context(&context).unwrap();
    let task_id = client.create_task(task).await.unwrap().task_id;
    let ledger = mesh.ledger().await;
    assert_eq!(ledger.change("DELETE FROM task_details").await, 1);
    let mut handlers = Registry::new();
    handlers.register_fn("any", |_| async { Ok(1) });
    let worker = mesh.worker(&["deliveries"], &handlers);
    let error = failure(&client, &task_id, "only").await;
    assert_eq!(error.r#type, "TASK_CORRUPT");
    worker.stop().await;
    ledger.histories_hold().await;
    ledger.nothing_is_left().await;
}
