//! A message that nobody can work off is parked with the reason, and the rest goes on.

use std::time::Duration;

use serde_json::json;
use tasker_client::{NewTask, v1::TaskState};
use tasker_integration_tests::{Mesh, register_examples, until};

const PATIENCE: Duration = Duration::from_secs(30);
const QUEUES: [&str; 5] = [
    "orchestration_task_requests",
    "orchestration_ready_steps",
    "orchestration_step_results",
    "orchestration_task_finalizations",
    "worker_arithmetic_queue",
];

in_both_shapes![a_message_that_cannot_be_read_is_parked_and_the_rest_goes_on];

async fn a_message_that_cannot_be_read_is_parked_and_the_rest_goes_on(mesh: &Mesh) {
    let client = mesh.client();
    register_examples(&client, &["linear"]).await;
    let ledger = mesh.ledger().await;
    let callable = r#"{"callable": "square", "task_id": "none"}"#;
    for queue in QUEUES {
        for message in ["17", r#"{"task_id": 17}"#, callable] {
            // What names no callable is nobody's in a worker queue, and stays out of the way.
            if queue.starts_with("worker_") && message != callable {
                continue;
            }
            ledger.send(queue, message).await;
        }
    }
    let worker = mesh.worker(&["arithmetic"], &tasker_example_worker::registry());
    let task = NewTask::of("arithmetic", "linear").context(&json!({"n": 2})).unwrap();
    let task_id = client.create_task(task).await.unwrap().task_id;
    let task = client.wait_for_task(&task_id, PATIENCE).await.unwrap();
    assert_eq!(task.state(), TaskState::Complete);

    // Nothing calls for these: they are found when queues are read anyway.
    until("every message is parked with its reason", PATIENCE, async || {
        let counts = ledger.row_counts().await;
        let parked = |queue: &str| {
            let wanted = if queue.starts_with("worker_") { 1 } else { 3 };
            counts[&format!("pgmq.q_{queue}")] == 0
                && counts[&format!("pgmq.q_{queue}_dlq")] == wanted
        };
        QUEUES.into_iter().all(parked).then_some(())
    })
    .await;
    worker.stop().await;
    ledger.every_task_has_completed_once(1).await;
}
