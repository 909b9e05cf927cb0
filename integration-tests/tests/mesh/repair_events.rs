//! Steps that operators settle publish what their templates say, as steps that workers end do.

use std::{pin::pin, time::Duration};

use futures::{StreamExt as _, TryStreamExt as _};
use serde_json::{Value, json};
use sqlx::PgPool;
use tasker_client::{
    Client, NewTask, Operator,
    v1::{
        DomainEvent, Payload, Remedy, ResultVerdict, SubscribeEventsResponse, TaskState,
        domain_event::Outcome, subscribe_events_response::Message,
    },
};
use tasker_integration_tests::{Mesh, Service, Session, failure, success, until};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(60);
const ORDER: &str = "{namespace: hand_events, name: order, version: 1.0.0, steps: [
    {name: pay, handler: {callable: work}, retry: {retryable: false}, publishes_events: [
        {name: orders.paid, delivery: broadcast, schema: {type: object, required: [sum]}},
        {name: orders.not_paid, condition: failure},
        {name: orders.settled, condition: always, delivery: broadcast}]}]}";

in_both_shapes![
    a_step_that_is_completed_by_hand_publishes_as_if_a_worker_had_done_it,
    a_step_that_is_resolved_tells_its_end_and_no_success,
    a_repair_that_is_refused_tells_nothing,
    a_step_that_is_reset_publishes_what_its_worker_says,
];

fn gina() -> Operator {
    Operator::new("gina", "the bank says so")
}

fn json_of(value: &Value) -> Payload {
    Payload { data: value.to_string().into(), ..Payload::default() }
}

async fn submit(client: &Client) -> String {
    client.register_template(ORDER).await.unwrap();
    let task = NewTask::of("hand_events", "order").correlation_id("order 17");
    client.create_task(task).await.unwrap().task_id
}

/// A task whose step has failed for good.
async fn failed(mesh: &Mesh) -> String {
    let client = mesh.client();
    let task_id = submit(&client).await;
    let mut worker = session(mesh).await;
    let token = worker.take().await.delivery_token;
    worker.report(failure(&token, "no", false)).await;
    let task = client.wait_for_task(&task_id, PATIENCE).await.unwrap();
    assert_eq!(task.state(), TaskState::BlockedByFailures);
    worker.drain().await;
    task_id
}

async fn session(mesh: &Mesh) -> Session {
    let hello = Session::hello("worker", "hand_events", &["work"], 1);
    Session::open(mesh.channel().await, hello).await.unwrap()
}

/// The durable events of a task, in their order: name, outcome, and the whole.
async fn durable_events(mesh: &Mesh, task_id: &str) -> Vec<(String, String, Value)> {
    let pool = PgPool::connect(mesh.database_url()).await.unwrap();
    let events: Vec<Value> = sqlx::query_scalar(
        "SELECT message FROM pgmq.q_hand_events_domain_events WHERE message->>'task_id' = $1
         ORDER BY msg_id",
    )
    .bind(task_id)
    .fetch_all(&pool)
    .await
    .unwrap();
    pool.close().await;
    let text = |event: &Value, field: &str| event[field].as_str().unwrap().to_owned();
    events.into_iter().map(|it| (text(&it, "name"), text(&it, "outcome"), it)).collect()
}

fn names(events: &[(String, String, Value)]) -> Vec<(&str, &str)> {
    events.iter().map(|(name, outcome, _)| (name.as_str(), outcome.as_str())).collect()
}

async fn a_step_that_is_completed_by_hand_publishes_as_if_a_worker_had_done_it(mesh: &Mesh) {
    let client = mesh.client();
    let heard = client.subscribe_events("hand_events", "orders.*").await.unwrap();
    let task_id = failed(mesh).await;
    let result = json_of(&json!({"sum": 19.5}));
    client.complete_step(&task_id, "pay", result, &gina()).await.unwrap();
    let durable = durable_events(mesh, &task_id).await;
    assert_eq!(
        names(&durable),
        [
            ("orders.not_paid", "failure"),
            ("orders.settled", "failure"),
            ("orders.paid", "success"),
            ("orders.settled", "success")
        ]
    );
    let paid = &durable[2].2;
    assert_eq!(paid["payload"]["data"], json!(r#"{"sum":19.5}"#));
    assert_eq!((&paid["step"], &paid["correlation_id"]), (&json!("pay"), &json!("order 17")));
    assert_eq!(paid["attempt"].to_string(), "1");

    // Those that are broadcast are heard, too, and are the same events.
    let events = heard.map_ok(|said| match said.message {
        Some(Message::Event(event)) => event,
        other => panic!("not an event: {other:?}"),
    });
    let events: Vec<DomainEvent> =
        timeout(PATIENCE, pin!(events).take(3).try_collect()).await.unwrap().unwrap();
    let heard: Vec<_> = events.iter().map(|it| (it.name.as_str(), it.event_id.as_str())).collect();
    let id = |nth: usize| durable[nth].2["event_id"].as_str().unwrap();
    assert_eq!(
        heard,
        [("orders.settled", id(1)), ("orders.paid", id(2)), ("orders.settled", id(3))]
    );
    let Some(Outcome::Success(result)) = &events[1].outcome else { panic!("{events:?}") };
    assert_eq!(result.data, r#"{"sum":19.5}"#);
    let ledger = mesh.ledger().await;
    ledger.histories_hold().await;
    ledger.nothing_is_left().await;
}

async fn a_step_that_is_resolved_tells_its_end_and_no_success(mesh: &Mesh) {
    let client = mesh.client();
    // Before anything is told: a failure is announced after its commit, perhaps when its task is seen to rest.
    let heard = client.subscribe_events("hand_events", "orders.settled").await.unwrap();
    // One step by its name, the other with all that have failed of its task.
    let (one, other) = (failed(mesh).await, failed(mesh).await);
    client.resolve_step(&one, "pay", &gina()).await.unwrap();
    client.repair_task(&other, Remedy::Resolve, &gina()).await.unwrap();
    let (mut failures, mut resolved) = (Vec::new(), Vec::new());
    for task_id in [&one, &other] {
        let durable = durable_events(mesh, task_id).await;
        let by_hand = &durable[2..];
        assert_eq!(names(by_hand), [("orders.settled", "resolved_manually")]);
        let told = &by_hand[0].2;
        assert_eq!((told.get("payload"), told.get("error")), (None, None));
        failures.push(durable[1].2["event_id"].clone());
        resolved.push(told["event_id"].clone());
    }
    // Whoever resolves it again tells nothing more.
    let task = client.wait_for_task(&one, PATIENCE).await.unwrap();
    assert_eq!(task.state(), TaskState::Complete);
    let again = client.resolve_step(&one, "pay", &gina()).await.unwrap_err();
    assert_eq!(again.reason(), Some("TASK_ENDED"));
    assert_eq!(durable_events(mesh, &one).await.len(), 3);
    let told = timeout(PATIENCE, heard.take(4).try_collect::<Vec<_>>()).await.unwrap().unwrap();
    let event = |said: SubscribeEventsResponse| match said.message {
        Some(Message::Event(event)) => event,
        other => panic!("not an event: {other:?}"),
    };
    let told: Vec<DomainEvent> = told.into_iter().map(event).collect();
    let ids: Vec<Value> = told.iter().map(|event| json!(event.event_id)).collect();
    assert_eq!(ids, [failures, resolved].concat());
    for event in &told[2..] {
        assert!(matches!(event.outcome, Some(Outcome::ResolvedManually(_))), "{event:?}");
    }
    mesh.ledger().await.histories_hold().await;
}

async fn a_repair_that_is_refused_tells_nothing(mesh: &Mesh) {
    let client = mesh.client();
    let task_id = failed(mesh).await;
    let before = durable_events(mesh, &task_id).await.len();
    let misfit = json_of(&json!({"total": 1}));
    let refused = client.complete_step(&task_id, "pay", misfit, &gina()).await.unwrap_err();
    assert_eq!(refused.reason(), Some("EVENT_SCHEMA_VIOLATION"));
    client.give_up_task(&task_id, &gina()).await.unwrap();
    let result = json_of(&json!({"sum": 1}));
    client.complete_step(&task_id, "pay", result.clone(), &gina()).await.unwrap();
    assert_eq!(durable_events(mesh, &task_id).await.len(), before + 2);
    let task = client.wait_for_task(&task_id, PATIENCE).await.unwrap();
    assert_eq!(task.state(), TaskState::Complete);
    let refused = client.complete_step(&task_id, "pay", result, &gina()).await.unwrap_err();
    assert_eq!(refused.reason(), Some("TASK_ENDED"));
    assert_eq!(durable_events(mesh, &task_id).await.len(), before + 2);
}

async fn a_step_that_is_reset_publishes_what_its_worker_says(mesh: &Mesh) {
    let client = mesh.client();
    let task_id = failed(mesh).await;
    client.reset_step(&task_id, "pay", &gina()).await.unwrap();
    assert_eq!(durable_events(mesh, &task_id).await.len(), 2, "a reset is no end");
    let mut worker = session(mesh).await;
    let token = worker.take().await.delivery_token;
    let verdict = worker.report(success(&token, r#"{"sum": 2}"#)).await;
    assert_eq!(verdict, ResultVerdict::Committed);
    let task = client.wait_for_task(&task_id, PATIENCE).await.unwrap();
    assert_eq!(task.state(), TaskState::Complete);
    let durable = durable_events(mesh, &task_id).await;
    assert_eq!(names(&durable[2..]), [("orders.paid", "success"), ("orders.settled", "success")]);
    worker.drain().await;
    mesh.ledger().await.nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_fails_as_a_repair_brings_its_task_back_tells_so() {
    let mesh = Mesh::setup().with("finalizer.limits_interval", "100ms").start().await;
    let client = mesh.client();
    let yaml = "{namespace: hand_events, name: brief, version: 1.0.0,
        lifecycle: {max_duration_seconds: 2, when_stale: error}, steps: [
        {name: pay, handler: {callable: work}, retry: {retryable: false}, publishes_events: [
            {name: orders.paid},
            {name: orders.not_paid, condition: failure},
            {name: orders.settled, condition: always, delivery: broadcast}]},
        {name: other, handler: {callable: nobodys}}]}";
    client.register_template(yaml).await.unwrap();
    let heard = client.subscribe_events("hand_events", "orders.settled").await.unwrap();
    let task_id = client.create_task(NewTask::of("hand_events", "brief")).await.unwrap().task_id;
    let mut worker = session(&mesh).await;
    worker.take().await;
    let task = client.wait_for_task(&task_id, PATIENCE).await.unwrap();
    assert_eq!(task.state(), TaskState::Error);
    assert!(durable_events(&mesh, &task_id).await.is_empty(), "what is cancelled tells nothing");
    // Its only attempt was cut off.
    client.reset_step(&task_id, "other", &gina()).await.unwrap();
    let durable = durable_events(&mesh, &task_id).await;
    assert_eq!(names(&durable), [("orders.not_paid", "failure"), ("orders.settled", "failure")]);
    let told = &durable[0].2;
    assert_eq!((&told["step"], &told["error"]["type"]), (&json!("pay"), &json!("CUT_OFF")));
    assert_eq!(told["attempt"].to_string(), "1");
    let said = timeout(PATIENCE, pin!(heard).next()).await.unwrap().unwrap().unwrap();
    let Some(Message::Event(event)) = said.message else { panic!("not an event: {said:?}") };
    assert_eq!(json!(event.event_id), durable[1].2["event_id"]);
    worker.drain().await;
    mesh.ledger().await.histories_hold().await;
}

/// The repair is one commit with its events: whatever of it survives, all does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_is_told_once_although_result_processor_is_killed_during_repairs() {
    const TASKS: usize = 8;
    let mesh = Mesh::setup().start().await;
    let client = mesh.client();
    let mut tasks = Vec::new();
    for _ in 0..TASKS {
        tasks.push(failed(&mesh).await);
    }
    let repairs = tokio::spawn({
        let (client, tasks) = (client.clone(), tasks.clone());
        async move {
            for task_id in tasks {
                let result = json_of(&json!({"sum": 1}));
                // An answer may be lost with its commit done: then the step stands.
                if let Err(error) = client.complete_step(&task_id, "pay", result, &gina()).await {
                    let done = ["STEP_STANDS", "TASK_ENDED"].map(Some);
                    assert!(done.contains(&error.reason()), "{error:?}");
                }
            }
        }
    });
    for part in [1, 4] {
        until("some are repaired", PATIENCE, async || {
            let ledger = mesh.ledger().await;
            (ledger.completed().await >= part).then_some(())
        })
        .await;
        mesh.kill(Service::ResultProcessor, 0);
        mesh.restart(Service::ResultProcessor, 0).await;
    }
    timeout(PATIENCE, repairs).await.unwrap().unwrap();
    mesh.ledger().await.until_completed(TASKS, PATIENCE).await;
    for task_id in &tasks {
        let durable = durable_events(&mesh, task_id).await;
        let by_hand = [("orders.paid", "success"), ("orders.settled", "success")];
        assert_eq!(names(&durable[2..]), by_hand);
    }
    mesh.ledger().await.histories_hold().await;
}
