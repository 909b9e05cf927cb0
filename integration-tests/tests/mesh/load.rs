//! Many tasks at once, over several replicas of everything.

use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::json;
use tasker_client::{
    Client, NewTask,
    v1::{ListTasksRequest, TaskState},
};
use tasker_integration_tests::{Mesh, Recorder, Service, register_examples, worker};

const TASKS: usize = 1_000;
const CALLERS: usize = 32;
const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_tasks_each_complete_once_over_two_replicas_and_three_workers() {
    // The reconciler looks all the time: what is on its way must not seem lost to it.
    let reconcile = ("finalizer.reconcile_interval", "1s");
    let mesh = Mesh::setup().replicas(2).with(reconcile.0, reconcile.1).start().await;
    let clients: Vec<_> =
        mesh.gateways().iter().map(|url| Client::connect_lazy(url).unwrap()).collect();
    register_examples(&clients[0], &["linear"]).await;
    let recorder = Recorder::default();
    let handlers = recorder.of(&tasker_example_worker::registry());
    let workers: Vec<_> = mesh
        .gateways()
        .iter()
        .cycle()
        .take(3)
        .map(|gateway| worker(gateway, &["arithmetic"], &handlers))
        .collect();

    let submitted = stream::iter(0..TASKS)
        .map(|nth| {
            let client = clients[nth % clients.len()].clone();
            let task = NewTask::of("arithmetic", "linear").context(&json!({"n": 2 * nth})).unwrap();
            async move { client.create_task(task).await }
        })
        .buffer_unordered(CALLERS)
        .try_collect::<Vec<_>>()
        .await
        .unwrap();
    assert_eq!(submitted.len(), TASKS);
    let ledger = mesh.ledger().await;
    ledger.until_completed(TASKS, PATIENCE).await;

    let complete = ListTasksRequest {
        states: vec![TaskState::Complete.into()],
        page_size: 300,
        ..Default::default()
    };
    let listed: Vec<_> = clients[1].list_tasks(complete).try_collect().await.unwrap();
    assert_eq!(listed.len(), TASKS);
    for worker in workers {
        worker.stop().await;
    }
    ledger.every_task_has_completed_once(TASKS).await;
    ledger.nothing_is_left().await;
    let log = mesh.log_of(Service::Finalizer);
    assert!(!log.contains("the reconciler sent again"), "{log}");
    assert_eq!(recorder.count(), 4 * TASKS, "without faults no step runs twice");
}
