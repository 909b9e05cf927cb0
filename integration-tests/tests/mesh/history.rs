//! History: who moved what, when, why, and how long it had stayed; kept longer than results.

use std::{collections::BTreeMap, time::Duration};

use futures::TryStreamExt as _;
use serde_json::json;
use tasker_client::{
    Client, NewTask,
    v1::{
        ListTransitionsRequest, StepState, TaskState, Transition,
        task_service_client::TaskServiceClient, transition::Moved,
    },
};
use tasker_integration_tests::{Mesh, Setup, register_examples, until};
use tasker_worker::{HandlerError, Registry, StepContext};
use tonic::Code;

const PATIENCE: Duration = Duration::from_secs(30);

in_both_shapes![
    set up by setup;
    a_history_tells_who_moved_what_and_how_long_it_had_stayed,
    results_are_purged_some_time_after_the_end_and_the_history_stays,
];

fn setup() -> Setup {
    Mesh::setup()
        .with("finalizer.reconcile_interval", "1s")
        .with("finalizer.keep_results_days", "1")
}

async fn history(client: &Client, task: &str, step: &str) -> Vec<Transition> {
    client.list_transitions(task, step).try_collect().await.unwrap()
}

async fn a_history_tells_who_moved_what_and_how_long_it_had_stayed(mesh: &Mesh) {
    let client = mesh.client();
    let yaml = "{namespace: history, name: twice, version: 1.0.0, steps: [
        {name: first, handler: {callable: once_more},
         retry: {backoff: linear, backoff_base_ms: 300, jitter: false}},
        {name: second, handler: {callable: once_more}, dependencies: [first],
         retry: {backoff: none}}]}";
    client.register_template(yaml).await.unwrap();
    let mut handlers = Registry::new();
    handlers.register_fn("once_more", |step: StepContext| async move {
        if step.attempt() == 1 { Err(HandlerError::retryable("busy", "not yet")) } else { Ok(1) }
    });
    let task = client.create_task(NewTask::of("history", "twice")).await.unwrap().task_id;
    let worker = mesh.worker(&["history"], &handlers);
    let ended = client.wait_for_task(&task, PATIENCE).await.unwrap();
    assert_eq!(ended.state(), TaskState::Complete);
    worker.stop().await;

    let whole = history(&client, &task, "").await;
    // Of the task and of each step: every move begins where the one before has led, after the time that
    // it says.
    let born = nanos(ended.create_time.unwrap());
    let mut stands: BTreeMap<String, (i32, i128)> = BTreeMap::new();
    for transition in &whole {
        let (what, from, to, pending) = match transition.moved.as_ref().unwrap() {
            Moved::Task(moved) => {
                (String::new(), moved.from, moved.to, i32::from(TaskState::Pending))
            }
            Moved::Step(moved) => {
                (moved.step_name.clone(), moved.from, moved.to, i32::from(StepState::Pending))
            }
        };
        let at = nanos(transition.time.unwrap());
        let (stood, since) = stands.insert(what, (to, at)).unwrap_or((pending, born));
        assert_eq!(from, stood, "{transition:?}");
        let stayed = transition.duration.unwrap();
        let stayed = i128::from(stayed.seconds) * 1_000_000_000 + i128::from(stayed.nanos);
        assert!((at - since - stayed).abs() < 2_000_000, "{transition:?}");
        assert!(!transition.actor.is_empty() && !transition.events.is_empty());
    }
    let ends: Vec<i32> = stands.values().map(|(to, _)| *to).collect();
    let complete = [
        i32::from(TaskState::Complete),
        i32::from(StepState::Complete),
        i32::from(StepState::Complete),
    ];
    assert_eq!(ends, complete);

    let first = history(&client, &task, "first").await;
    let of_first: Vec<_> = whole.iter().filter(|it| is_of(it, "first")).cloned().collect();
    assert_eq!(first, of_first);
    let failed = first.iter().find(|it| it.events.iter().any(|event| event == "WaitForRetry"));
    let failed = failed.unwrap();
    assert_eq!(failed.reason, "busy");
    let retried = first.iter().find(|it| it.events == ["Retry"]).unwrap();
    assert!(retried.actor.starts_with("step-enqueuer"), "{}", retried.actor);
    let waited = retried.duration.unwrap();
    assert!(waited.seconds > 0 || waited.nanos >= 300_000_000, "{waited:?}");

    let mut tasks = TaskServiceClient::new(mesh.channel().await);
    for page_size in [1, 2, 7] {
        let (mut paged, mut page_token) = (Vec::new(), String::new());
        loop {
            let task_id = task.clone();
            let request =
                ListTransitionsRequest { task_id, page_size, page_token, ..Default::default() };
            let page = tasks.list_transitions(request).await.unwrap().into_inner();
            paged.extend(page.transitions);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        assert_eq!(paged, whole, "pages of {page_size}");
    }
    let unknown = client.list_transitions(&task, "third").try_collect::<Vec<_>>().await;
    assert_eq!(unknown.unwrap_err().code(), Code::NotFound);
    let unknown = client.list_transitions(&uuid::Uuid::now_v7().to_string(), "");
    assert_eq!(unknown.try_collect::<Vec<_>>().await.unwrap_err().code(), Code::NotFound);
}

fn nanos(time: prost_types::Timestamp) -> i128 {
    i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos)
}

fn is_of(transition: &Transition, step: &str) -> bool {
    matches!(&transition.moved, Some(Moved::Step(moved)) if moved.step_name == step)
}

async fn results_are_purged_some_time_after_the_end_and_the_history_stays(mesh: &Mesh) {
    let client = mesh.client();
    register_examples(&client, &["linear"]).await;
    let worker = mesh.worker(&["arithmetic"], &tasker_example_worker::registry());
    let mut tasks = Vec::new();
    for _ in 0..2 {
        let task = NewTask::of("arithmetic", "linear").context(&json!({"n": 2})).unwrap();
        let task = client.create_task(task).await.unwrap().task_id;
        let ended = client.wait_for_task(&task, PATIENCE).await.unwrap();
        assert_eq!(ended.state(), TaskState::Complete);
        tasks.push(task);
    }
    worker.stop().await;
    let ledger = mesh.ledger().await;
    let paused = "INSERT INTO pauses
            (task_id, paused_by, reason, resumed_by, resume_reason, resumed_at, paused_as, resumed_as)
        SELECT task_id, 'ada', '', 'ada', '', now(), 1, 2 FROM tasks";
    assert_eq!(ledger.change(paused).await, 2);
    let before = history(&client, &tasks[0], "").await;
    let aged = ledger
        .change(
            "UPDATE task_search SET ended_at = now() - interval '25 hours'
             WHERE task_id = (SELECT min(task_id::text)::uuid FROM tasks)",
        )
        .await;
    assert_eq!(aged, 1);
    until("the old task's context is purged", PATIENCE, async || {
        client.get_task(&tasks[0]).await.unwrap().context.is_none().then_some(())
    })
    .await;
    let results = async |task: &str| {
        let steps: Vec<_> = client.list_steps(task).try_collect().await.unwrap();
        assert!(steps.iter().all(|step| step.state() == StepState::Complete));
        steps.iter().filter(|step| step.result.is_some()).count()
    };
    assert_eq!(results(&tasks[0]).await, 0);
    assert_eq!(history(&client, &tasks[0], "").await, before);
    assert_eq!(ledger.number("SELECT count(*) FROM pauses").await, 1, "they go with their task");
    // The other has ended just now.
    assert_eq!(results(&tasks[1]).await, 4);
    assert!(client.get_task(&tasks[1]).await.unwrap().context.is_some());
}
