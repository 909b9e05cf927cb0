//! History: who moved what, when, why, and how long it had stayed; kept longer than results.

use std::{collections::BTreeMap, time::Duration};

use futures::TryStreamExt as _;
use serde_json::json;
use tasker_client::{
    Client, NewTask, Operator,
    v1::{
        ListTransitionsRequest, StepState, TaskPaused, TaskResumed, TaskState, Transition,
        task_service_client::TaskServiceClient, transition::Moved,
    },
};
use tasker_integration_tests::{Mesh, Setup, register_examples, until};
use tasker_worker::{Decision, HandlerError, Registry, StepContext};
use tonic::Code;

const PATIENCE: Duration = Duration::from_secs(30);

in_both_shapes![
    set up by setup;
    a_history_tells_who_moved_what_and_how_long_it_had_stayed,
    results_are_purged_some_time_after_the_end_and_the_history_stays,
    a_step_that_a_decision_has_chosen_was_not_pending_before,
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
            Moved::Paused(_) | Moved::Resumed(_) => panic!("nobody has paused it: {transition:?}"),
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
    let mut tasks = Vec::new();
    for _ in 0..2 {
        let task = NewTask::of("arithmetic", "linear").context(&json!({"n": 2})).unwrap();
        tasks.push(client.create_task(task).await.unwrap().task_id);
    }
    client.pause_task(&tasks[0], &Operator::new("ada", "it looks odd")).await.unwrap();
    client.resume_task(&tasks[0], &Operator::new("bob", "it is right")).await.unwrap();
    let worker = mesh.worker(&["arithmetic"], &tasker_example_worker::registry());
    for task in &tasks {
        let ended = client.wait_for_task(task, PATIENCE).await.unwrap();
        assert_eq!(ended.state(), TaskState::Complete);
    }
    worker.stop().await;
    let ledger = mesh.ledger().await;
    let before = history(&client, &tasks[0], "").await;
    let pauses: Vec<_> = before.iter().filter(|it| it.events.is_empty()).collect();
    let [paused, resumed] = pauses[..] else { panic!("{pauses:?}") };
    let told = |it: &Transition| (it.actor.clone(), it.reason.clone(), it.moved.clone().unwrap());
    let reason = "it looks odd".to_owned();
    let pause = Moved::Paused(TaskPaused { reason: reason.clone() });
    assert_eq!(told(paused), ("operator:ada".to_owned(), reason, pause));
    let reason = "it is right".to_owned();
    let resume = Moved::Resumed(TaskResumed { reason: reason.clone() });
    assert_eq!(told(resumed), ("operator:bob".to_owned(), reason, resume));
    let lasted = nanos(resumed.time.unwrap()) - nanos(paused.time.unwrap());
    let says = resumed.duration.unwrap();
    assert!((lasted - i128::from(says.nanos)).abs() < 2_000_000 && says.seconds == 0, "{says:?}");
    assert_eq!(paused.duration, None);
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
    // The other has ended just now.
    assert_eq!(results(&tasks[1]).await, 4);
    assert!(client.get_task(&tasks[1]).await.unwrap().context.is_some());
}

async fn a_step_that_a_decision_has_chosen_was_not_pending_before(mesh: &Mesh) {
    let client = mesh.client();
    let yaml = "{namespace: history, name: chosen, version: 1.0.0, steps: [
        {name: decide, type: decision, handler: {callable: decide}},
        {name: chosen, handler: {callable: any}, dependencies: [decide]}]}";
    client.register_template(yaml).await.unwrap();
    let mut handlers = Registry::new();
    handlers.register_fn("decide", |_| async { Ok(Decision::create_steps(["chosen"])) });
    handlers.register_fn("any", |_| async { Ok(1) });
    let task = client.create_task(NewTask::of("history", "chosen")).await.unwrap().task_id;
    let worker = mesh.worker(&["history"], &handlers);
    let ended = client.wait_for_task(&task, PATIENCE).await.unwrap();
    assert_eq!(ended.state(), TaskState::Complete);
    worker.stop().await;
    let decided = history(&client, &task, "decide").await.pop().unwrap();
    let began = history(&client, &task, "chosen").await.swap_remove(0);
    let since = nanos(began.time.unwrap()) - nanos(decided.time.unwrap());
    let pending = began.duration.unwrap();
    let pending = i128::from(pending.seconds) * 1_000_000_000 + i128::from(pending.nanos);
    assert!((since - pending).abs() < 2_000_000, "{since} ns after the decision: {began:?}");
}
