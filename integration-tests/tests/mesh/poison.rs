//! A message that nobody can work off is parked with the reason, and the rest goes on.

use std::time::Duration;

use futures::TryStreamExt as _;
use serde_json::json;
use tasker_client::{
    Client, NewTask,
    v1::{DlqReason, DlqStatus, ListDlqEntriesRequest, TaskState, UpdateDlqEntryRequest},
};
use tasker_integration_tests::{Ledger, Mesh, register_examples, until};
use tasker_worker::Registry;

/// Some of it is found only when a queue is read though nobody has called.
const PATIENCE: Duration = Duration::from_secs(60);
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

const TEMPLATES: [&str; 3] = [
    "{namespace: poison, name: one_step, version: 1.0.0,
      steps: [{name: only, handler: {callable: any}}]}",
    "{namespace: poison, name: no_steps, version: 1.0.0, steps: []}",
    "{namespace: poison, name: lonely, version: 1.0.0,
      steps: [{name: only, handler: {callable: nobodys}}]}",
];

/// What the database says to what is written of a task or step: a fault that stays until somebody mends it.
const REFUSE: &str = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION 'not this one'; END $$";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_parked_is_sent_again_once_an_operator_has_looked_into_it_and_not_before() {
    let mesh = Mesh::setup().with("finalizer.reconcile_interval", "1s").start().await;
    let (client, ledger) = (mesh.client(), mesh.ledger().await);
    for template in TEMPLATES {
        client.register_template(template).await.unwrap();
    }
    ledger.change(REFUSE).await;
    submit(&client, "lonely").await;
    until("a step waits for a worker", PATIENCE, async || {
        (ledger.number(WAITING).await == 1).then_some(())
    })
    .await;
    let mut handlers = Registry::new();
    handlers.register_fn("any", |_| async { Ok(1) });
    // Only later: with a worker that has room, the step would begin as it is born.
    let mut worker = None;

    // A ready step that cannot be enqueued, and a task that cannot be ended.
    let of_steps = "CREATE TRIGGER poison BEFORE UPDATE ON steps
        FOR EACH ROW WHEN (OLD.state = 'pending') EXECUTE FUNCTION refuse()";
    let of_tasks = "CREATE TRIGGER poison BEFORE UPDATE ON tasks
        FOR EACH ROW WHEN (NEW.state = 'complete') EXECUTE FUNCTION refuse()";
    for (template, begin, end, queue, parked) in [
        (
            "one_step",
            of_steps,
            "DROP TRIGGER poison ON steps",
            "orchestration_ready_steps",
            "SELECT count(*) FROM pgmq.q_orchestration_ready_steps_dlq",
        ),
        (
            "no_steps",
            of_tasks,
            "DROP TRIGGER poison ON tasks",
            "orchestration_task_finalizations",
            "SELECT count(*) FROM pgmq.q_orchestration_task_finalizations_dlq",
        ),
    ] {
        ledger.change(begin).await;
        let task = submit(&client, template).await;
        let of_task =
            ListDlqEntriesRequest { task_id: task.clone(), ..ListDlqEntriesRequest::default() };
        let entry = until("the message is parked", PATIENCE, async || {
            let found = client.list_dlq_entries(of_task.clone());
            found.try_collect::<Vec<_>>().await.unwrap().pop()
        })
        .await;
        assert_eq!((entry.reason(), entry.actor.as_str()), (DlqReason::PoisonMessage, queue));
        the_reconciler_looks(&ledger).await;
        assert_eq!(ledger.number(parked).await, 1, "{queue}");

        ledger.change(end).await;
        let resolved = UpdateDlqEntryRequest {
            entry_id: entry.entry_id,
            operator: "ada".to_owned(),
            status: DlqStatus::ManuallyResolved.into(),
            notes: None,
        };
        client.update_dlq_entry(resolved).await.unwrap();
        worker.get_or_insert_with(|| mesh.worker(&["poison"], &handlers));
        let ended = client.wait_for_task(&task, PATIENCE).await.unwrap();
        assert_eq!(ended.state(), TaskState::Complete);
    }
    worker.unwrap().stop().await;
}

const WAITING: &str = "SELECT count(*) FROM pgmq.q_worker_poison_queue";

async fn submit(client: &Client, template: &str) -> String {
    client.create_task(NewTask::of("poison", template)).await.unwrap().task_id
}

/// Has it look twice from now on: it sends again what its queue has lost.
async fn the_reconciler_looks(ledger: &Ledger) {
    for _ in 0..2 {
        assert_eq!(ledger.change("DELETE FROM pgmq.q_worker_poison_queue").await, 1);
        until("the reconciler has looked", PATIENCE, async || {
            (ledger.number(WAITING).await == 1).then_some(())
        })
        .await;
    }
}
