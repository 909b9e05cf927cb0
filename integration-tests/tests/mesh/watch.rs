//! Following tasks: watches, waits and lists.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use futures::{StreamExt as _, TryStreamExt as _, future::join_all};
use serde_json::json;
use tasker_client::{
    Client, NewTask,
    v1::{
        ListTasksRequest, TaskState, WaitForTaskRequest, WatchTaskResponse,
        task_service_client::TaskServiceClient,
    },
};
use tasker_integration_tests::{Mesh, register_examples, until};
use tokio::time::timeout;
use tonic::{Code, Request};

const PATIENCE: Duration = Duration::from_secs(30);
/// Sooner than a waiting service looks where its task stands though nobody has told it anything.
const TOLD: Duration = Duration::from_secs(20);

in_both_shapes![
    a_watch_that_is_resumed_misses_nothing,
    waiting_returns_at_the_end_and_as_it_stands_after_its_time,
    lists_come_in_pages_and_are_narrowed_by_filters,
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_an_end_is_told_of_it_at_every_replica_and_of_no_move_before_it() {
    let mesh = Mesh::setup().replicas(2).start().await;
    let client = mesh.client();
    register_examples(&client, &["diamond"]).await;
    let task_id = submit(&client).await;
    let wait = || {
        let (client, task_id) = (client.clone(), task_id.clone());
        tokio::spawn(async move { client.wait_for_task(&task_id, PATIENCE).await })
    };
    let waiting: Vec<_> = (0..8).map(|_| wait()).collect();
    let ledger = mesh.ledger().await;
    until("several wait", PATIENCE, async || {
        let several = "SELECT count(*) FROM tasks WHERE awaited_by_many";
        (ledger.number(several).await == 1).then_some(())
    })
    .await;
    let worker = mesh.worker(&["arithmetic"], &tasker_example_worker::registry());
    for ended in timeout(TOLD, join_all(waiting)).await.expect("the end is told at once") {
        assert_eq!(ended.unwrap().unwrap().state(), TaskState::Complete);
    }
    assert_eq!(ledger.number("SELECT count(*) FROM tasks WHERE watched").await, 0);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_alone_is_told_of_an_end_at_whichever_replica_whether_or_not_calls_are_made() {
    for mode in ["hybrid", "polling_only"] {
        let mesh = Mesh::setup().replicas(2).with("mesh.mode", mode).start().await;
        let client = mesh.client();
        register_examples(&client, &["diamond"]).await;
        let ledger = mesh.ledger().await;
        // Each waits at one of two replicas, and its end is told to one of two.
        let mut waiting = Vec::new();
        for _ in 0..8 {
            let (client, task_id) = (client.clone(), submit(&client).await);
            waiting
                .push(tokio::spawn(async move { client.wait_for_task(&task_id, PATIENCE).await }));
        }
        until("each waits", PATIENCE, async || {
            (ledger.number("SELECT count(*) FROM tasks WHERE awaited").await == 8).then_some(())
        })
        .await;
        let worker = mesh.worker(&["arithmetic"], &tasker_example_worker::registry());
        for ended in timeout(TOLD, join_all(waiting)).await.expect("each end is told at once") {
            assert_eq!(ended.unwrap().unwrap().state(), TaskState::Complete);
        }
        let by_many = "SELECT count(*) FROM tasks WHERE awaited_by_many OR watched";
        assert_eq!(ledger.number(by_many).await, 0);
        worker.stop().await;
    }
}

async fn submit(client: &Client) -> String {
    let task = NewTask::of("arithmetic", "diamond").context(&json!({"n": 2})).unwrap();
    client.create_task(task).await.unwrap().task_id
}

async fn a_watch_that_is_resumed_misses_nothing(mesh: &Mesh) {
    let client = mesh.client();
    register_examples(&client, &["diamond"]).await;
    let task_id = submit(&client).await;
    // One watcher stays, another is cut off as often as it gets on.
    let steady = tokio::spawn(client.watch_task(&task_id).try_collect::<Vec<_>>());
    let cut = tokio::spawn(watch_in_pieces(client.clone(), task_id.clone()));
    let worker = mesh.worker(&["arithmetic"], &tasker_example_worker::registry());
    let steady = timeout(PATIENCE, steady).await.unwrap().unwrap().unwrap();
    let cut = timeout(PATIENCE, cut).await.unwrap().unwrap();
    assert_eq!(lasting(&steady), lasting(&cut));
    assert!(steady.iter().all(|event| cut.contains(event)), "a start was not told");

    // After the end the same is told again, whole or from any place.
    let whole: Vec<_> = client.watch_task(&task_id).try_collect().await.unwrap();
    assert_eq!(steady, whole);
    for event in &whole {
        // Of those with one cursor the first is what it names, and the others may be told again.
        let place = whole.iter().position(|other| other.cursor == event.cursor).unwrap();
        let rest: Vec<_> =
            client.watch_task_from(&task_id, &event.cursor).try_collect().await.unwrap();
        assert_eq!(rest, whole[place + 1..], "from {}", event.cursor);
    }
    worker.stop().await;
}

/// Cuts the watch off each time when the cursor has moved.
async fn watch_in_pieces(client: Client, task_id: String) -> Vec<WatchTaskResponse> {
    let mut events: Vec<WatchTaskResponse> = Vec::new();
    let mut cursor = String::new();
    loop {
        let mut watch = Box::pin(client.watch_task_from(&task_id, &cursor));
        loop {
            let Some(event) = watch.next().await else { return events };
            events.push(event.unwrap());
            if events[events.len() - 1].cursor != cursor {
                break;
            }
        }
        cursor.clone_from(&events[events.len() - 1].cursor);
    }
}

/// Without what may be told again, since a crash of the database may undo it.
fn lasting(events: &[WatchTaskResponse]) -> Vec<&WatchTaskResponse> {
    let mut seen = BTreeSet::new();
    events.iter().filter(|event| seen.insert(&event.cursor)).collect()
}

async fn waiting_returns_at_the_end_and_as_it_stands_after_its_time(mesh: &Mesh) {
    let client = mesh.client();
    register_examples(&client, &["diamond"]).await;
    let task_id = submit(&client).await;
    let began = Instant::now();
    let task = client.wait_for_task(&task_id, Duration::from_millis(300)).await.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(300));
    assert_eq!(task.state(), TaskState::StepsInProcess);

    // A deadline passes the gateway: whoever gives one is answered by then.
    let mut tasks = TaskServiceClient::new(mesh.channel().await);
    let timeout = Some(prost_types::Duration { seconds: 60, nanos: 0 });
    let mut request = Request::new(WaitForTaskRequest { task_id: task_id.clone(), timeout });
    request.set_timeout(Duration::from_millis(500));
    let began = Instant::now();
    match tasks.wait_for_task(request).await {
        Ok(answer) => {
            assert_eq!(answer.into_inner().task.unwrap().state(), TaskState::StepsInProcess);
        }
        Err(status) => {
            assert_eq!(tasker_client::Error::from(status).code(), Code::DeadlineExceeded);
        }
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());

    let waiting = tokio::spawn({
        let (client, task_id) = (client.clone(), task_id.clone());
        async move { client.wait_for_task(&task_id, PATIENCE).await }
    });
    let worker = mesh.worker(&["arithmetic"], &tasker_example_worker::registry());
    let task = waiting.await.unwrap().unwrap();
    assert_eq!(task.state(), TaskState::Complete);
    assert!(task.end_time.is_some());
    worker.stop().await;
}

async fn lists_come_in_pages_and_are_narrowed_by_filters(mesh: &Mesh) {
    let client = mesh.client();
    register_examples(&client, &["diamond", "linear"]).await;
    let mut made = Vec::new();
    for nth in 0..7 {
        let name = if nth < 5 { "diamond" } else { "linear" };
        let task = NewTask::of("arithmetic", name).correlation_id(format!("order-{}", nth % 2));
        made.push(client.create_task(task).await.unwrap().task_id);
    }
    made.reverse();
    let ids = async |filter: ListTasksRequest| -> Vec<String> {
        let tasks: Vec<_> = client.list_tasks(filter).try_collect().await.unwrap();
        tasks.into_iter().map(|task| task.task_id).collect()
    };
    // Newest first, whatever the size of a page.
    for page_size in [0, 1, 2, 3, 7, 1000, 5000] {
        let all = ListTasksRequest { page_size, ..ListTasksRequest::default() };
        assert_eq!(ids(all).await, made, "pages of {page_size}");
    }
    let named = ListTasksRequest {
        namespace: "arithmetic".to_owned(),
        name: "linear".to_owned(),
        ..ListTasksRequest::default()
    };
    assert_eq!(ids(named.clone()).await, made[..2]);
    let other = ListTasksRequest { version: "2.0.0".to_owned(), ..named };
    assert!(ids(other).await.is_empty());
    let correlated = ListTasksRequest {
        correlation_id: "order-1".to_owned(),
        page_size: 2,
        ..ListTasksRequest::default()
    };
    let odd: Vec<_> = made.iter().skip(1).step_by(2).cloned().collect();
    assert_eq!(ids(correlated).await, odd);
    let in_state = async |state: TaskState| {
        ids(ListTasksRequest { states: vec![state.into()], ..ListTasksRequest::default() }).await
    };
    assert!(in_state(TaskState::Complete).await.is_empty());
    let worker = mesh.worker(&["arithmetic"], &tasker_example_worker::registry());
    for id in &made {
        client.wait_for_task(id, PATIENCE).await.unwrap();
    }
    // Without a context they cannot be squared.
    assert_eq!(in_state(TaskState::BlockedByFailures).await, made);
    worker.stop().await;
}
