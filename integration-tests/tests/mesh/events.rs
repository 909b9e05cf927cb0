//! Domain events: what steps publish when they end.

use std::{collections::BTreeMap, pin::pin, time::Duration};

use futures::{Stream, StreamExt as _, TryStreamExt as _};
use serde_json::{Value, json};
use sqlx::PgPool;
use tasker_client::{
    Client, Error, NewTask,
    v1::{
        DomainEvent, SubscribeEventsResponse, TaskState, TemplateRef, domain_event::Outcome,
        subscribe_events_response::Message,
    },
};
use tasker_integration_tests::{Mesh, Service, until};
use tasker_worker::{Batches, HandlerError, Registry, StepContext};
use tokio::time::timeout;
use tonic::Code;

const PATIENCE: Duration = Duration::from_secs(60);

in_both_shapes![
    a_step_tells_its_end_once_with_all_that_belongs_to_it,
    an_attempt_that_is_tried_again_tells_nothing,
    a_step_that_fails_without_its_workers_word_tells_so,
    an_event_that_its_result_does_not_fit_is_not_published_and_the_step_fails,
    a_subscriber_hears_what_its_pattern_names_and_no_more,
    a_result_that_is_too_large_for_an_announcement_reaches_subscribers_whole,
    a_pattern_that_is_none_is_refused_by_its_field,
];

/// The durable events of a namespace, in their order: as their reader finds them.
async fn durable_events(mesh: &Mesh, queue: &'static str) -> Vec<Value> {
    let pool = PgPool::connect(mesh.database_url()).await.unwrap();
    let statement = format!("SELECT message FROM pgmq.q_{queue} ORDER BY msg_id");
    let events = sqlx::query_scalar(sqlx::AssertSqlSafe(statement)).fetch_all(&pool).await.unwrap();
    pool.close().await;
    events
}

async fn run(mesh: &Mesh, yaml: &str, handlers: &Registry, context: &Value) -> (String, TaskState) {
    let client = mesh.client();
    let template = client.register_template(yaml).await.unwrap();
    let TemplateRef { namespace, name, .. } = template.r#ref.unwrap();
    let worker = mesh.worker(&[&namespace], handlers);
    let task = NewTask::of(&namespace, &name).context(context).unwrap();
    let task_id = client.create_task(task.correlation_id("order 17")).await.unwrap().task_id;
    let task = client.wait_for_task(&task_id, PATIENCE).await.unwrap();
    worker.stop().await;
    (task_id, task.state())
}

async fn a_step_tells_its_end_once_with_all_that_belongs_to_it(mesh: &Mesh) {
    let yaml = "{namespace: told, name: order, version: 1.2.0, steps: [
        {name: pay, handler: {callable: pay}, publishes_events: [
            {name: orders.paid}, {name: orders.not_paid, condition: failure},
            {name: orders.ended, condition: always}]},
        {name: ship, handler: {callable: ship}, dependencies: [pay], publishes_events: [
            {name: orders.shipped}, {name: orders.not_shipped, condition: failure},
            {name: orders.ended, condition: always}]}]}";
    let mut handlers = Registry::new();
    handlers.register_fn("pay", |_| async {
        Ok(serde_json::from_str::<Value>(r#"{"sum": 19.90, "nul": "\u0000"}"#).unwrap())
    });
    handlers.register_fn("ship", |_| async {
        Err::<(), _>(HandlerError::permanent("no_stock", "there is none left"))
    });
    let (task_id, state) = run(mesh, yaml, &handlers, &json!({})).await;
    assert_eq!(state, TaskState::BlockedByFailures);
    let events = durable_events(mesh, "told_domain_events").await;
    let names: Vec<_> = events.iter().map(|event| event["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["orders.paid", "orders.ended", "orders.not_shipped", "orders.ended"]);

    let paid = &events[0];
    assert_eq!(paid["task_id"], json!(task_id));
    assert_eq!(paid["namespace"], json!("told"));
    assert_eq!(paid["template"], json!({"name": "order", "version": "1.2.0"}));
    assert_eq!((&paid["step"], &paid["outcome"]), (&json!("pay"), &json!("success")));
    assert_eq!(paid["attempt"].to_string(), "1");
    assert_eq!(paid["correlation_id"], json!("order 17"));
    assert_eq!(paid["payload"]["content_type"], json!("application/json"));
    // To the byte, though the database could not keep it as JSON.
    let step = mesh.client().get_step(&task_id, "pay").await.unwrap();
    let result = step.result.unwrap().payload.unwrap().data;
    assert_eq!(paid["payload"]["data"].as_str().unwrap().as_bytes(), result);
    let id: uuid::Uuid = paid["event_id"].as_str().unwrap().parse().unwrap();
    assert_eq!(id.get_version_num(), 7);
    assert_ne!(events[0]["event_id"], events[1]["event_id"]);

    let failed = &events[2];
    assert_eq!((&failed["step"], &failed["outcome"]), (&json!("ship"), &json!("failure")));
    let error = json!({"type": "no_stock", "message": "there is none left", "retryable": false});
    assert_eq!(failed["error"], error);
    assert_eq!(failed.get("payload"), None);
    let ledger = mesh.ledger().await;
    ledger.histories_hold().await;
    ledger.nothing_is_left().await;
}

async fn an_attempt_that_is_tried_again_tells_nothing(mesh: &Mesh) {
    let yaml = "{namespace: again, name: third_time, version: 1.0.0, steps: [
        {name: only, handler: {callable: fail_twice}, retry: {max_attempts: 3, backoff: none},
         publishes_events: [{name: it.ended, condition: always}]},
        {name: tired, handler: {callable: busy}, retry: {max_attempts: 2, backoff: none},
         publishes_events: [{name: it.failed, condition: failure}]}]}";
    let mut handlers = Registry::new();
    handlers.register_fn("fail_twice", |step: StepContext| async move {
        match step.attempt() {
            1 | 2 => Err(HandlerError::retryable("busy", "not yet")),
            third => Ok(third),
        }
    });
    handlers.register_fn("busy", |_| async {
        Err::<(), _>(HandlerError::retryable("busy", "try later"))
    });
    let (_, state) = run(mesh, yaml, &handlers, &json!({})).await;
    assert_eq!(state, TaskState::BlockedByFailures);
    let events = durable_events(mesh, "again_domain_events").await;
    let mut told: Vec<_> = events
        .iter()
        .map(|event| (event["name"].as_str().unwrap(), event["attempt"].to_string()))
        .collect();
    told.sort();
    assert_eq!(told, [("it.ended", "3".to_owned()), ("it.failed", "2".to_owned())]);
}

async fn a_step_that_fails_without_its_workers_word_tells_so(mesh: &Mesh) {
    let client = mesh.client();
    let mut heard = pin!(client.subscribe_events("unheard", "").await.unwrap());
    let mut handlers = Registry::new();
    handlers.register_fn("hang", |_| async {
        tokio::time::sleep(PATIENCE).await;
        Ok(())
    });
    handlers.register_fn("plan", |_| async { Ok(Batches::of([1, 2, 3])) });
    handlers.register_fn("work", |_| async {
        Err::<(), _>(HandlerError::permanent("bad_row", "it cannot be read"))
    });
    let events = "publishes_events: [{name: it.failed, condition: failure, delivery: broadcast},
        {name: it.is_done}, {name: it.ended, condition: always}]";
    let late = format!(
        "{{namespace: unheard, name: late, version: 1.0.0, steps: [
            {{name: late, handler: {{callable: hang}}, timeout_seconds: 1, retry: {{retryable: false}}, {events}}}]}}"
    );
    let fast = format!(
        "{{namespace: unheard, name: fast, version: 1.0.0, steps: [
            {{name: plan, type: batchable, handler: {{callable: plan}},
              batch_config: {{parallelism: 1, failure_strategy: fail_fast}}}},
            {{name: work, type: batch_worker, handler: {{callable: work}}, dependencies: [plan],
              retry: {{retryable: false}}, {events}}}]}}"
    );
    let mut tasks = Vec::new();
    for yaml in [&late, &fast] {
        let (task_id, state) = run(mesh, yaml, &handlers, &json!({})).await;
        assert_eq!(state, TaskState::BlockedByFailures);
        tasks.push(task_id);
    }
    let durable = durable_events(mesh, "unheard_domain_events").await;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut told: Vec<_> = durable
        .iter()
        .map(|it| {
            let attempt = it["attempt"].to_string();
            (text(&it["step"]), attempt, text(&it["error"]["type"]), text(&it["name"]))
        })
        .collect();
    told.sort();
    let of = |step: &str, attempt: &str, error: &str| {
        let of =
            |name: &str| (step.to_owned(), attempt.to_owned(), error.to_owned(), name.to_owned());
        [of("it.ended"), of("it.failed")]
    };
    let expected = [
        of("late", "1", "STEP_TIMED_OUT"),
        of("work_1", "1", "bad_row"),
        of("work_2", "0", "BATCH_FAILED_FAST"),
        of("work_3", "0", "BATCH_FAILED_FAST"),
    ];
    assert_eq!(told, expected.concat());
    // Those that are broadcast are heard, too, and are the same events.
    let mut failed: BTreeMap<String, String> = durable
        .iter()
        .filter(|it| it["name"] == "it.failed")
        .map(|it| (text(&it["event_id"]), text(&it["step"])))
        .collect();
    while !failed.is_empty() {
        let said = timeout(PATIENCE, heard.next()).await.unwrap().unwrap().unwrap();
        let Some(Message::Event(event)) = said.message else { panic!("not an event: {said:?}") };
        assert_eq!(failed.remove(&event.event_id), Some(event.step_name.clone()));
        assert!(matches!(event.outcome, Some(Outcome::Failure(_))), "{event:?}");
    }
    mesh.ledger().await.histories_hold().await;
}

async fn an_event_that_its_result_does_not_fit_is_not_published_and_the_step_fails(mesh: &Mesh) {
    let yaml = "{namespace: misfit, name: order, version: 1.0.0, steps: [
        {name: pay, handler: {callable: pay}, publishes_events: [
            {name: orders.paid, schema: {type: object, required: [sum]}},
            {name: orders.failed, condition: failure}]}]}";
    let mut handlers = Registry::new();
    handlers.register_fn("pay", |_| async { Ok(json!({"total": 1})) });
    let (task_id, state) = run(mesh, yaml, &handlers, &json!({})).await;
    assert_eq!(state, TaskState::BlockedByFailures);
    let error = mesh.client().get_step(&task_id, "pay").await.unwrap().result.unwrap().error;
    assert_eq!(error.unwrap().r#type, "EVENT_SCHEMA_VIOLATION");
    let events = durable_events(mesh, "misfit_domain_events").await;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["name"], json!("orders.failed"));
    assert_eq!(events[0]["error"]["type"], json!("EVENT_SCHEMA_VIOLATION"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_accepted_result_is_told_once_though_result_processor_is_killed() {
    const TASKS: usize = 150;
    let mesh = Mesh::setup().start().await;
    let client = mesh.client();
    let yaml = "{namespace: killed, name: chain, version: 1.0.0, steps: [
        {name: a, handler: {callable: ok}, publishes_events: [{name: it.a}]},
        {name: b, handler: {callable: ok}, dependencies: [a], publishes_events: [{name: it.b}]},
        {name: c, handler: {callable: ok}, dependencies: [b], publishes_events: [{name: it.c}]}]}";
    client.register_template(yaml).await.unwrap();
    let mut handlers = Registry::new();
    handlers.register_fn("ok", |step: StepContext| async move { Ok(step.attempt()) });
    let worker = mesh.worker(&["killed"], &handlers);
    for _ in 0..TASKS {
        client.create_task(NewTask::of("killed", "chain")).await.unwrap();
    }
    let ledger = mesh.ledger().await;
    for part in 1..=3 {
        let so_far = i64::try_from(TASKS * part / 4).unwrap();
        until("so many tasks are complete", PATIENCE, async || {
            (ledger.completed().await >= so_far).then_some(())
        })
        .await;
        mesh.kill(Service::ResultProcessor, 0);
        mesh.restart(Service::ResultProcessor, 0).await;
    }
    ledger.until_completed(TASKS, PATIENCE).await;
    worker.stop().await;
    ledger.every_task_has_completed_once(TASKS).await;
    let mut told: BTreeMap<(String, String), usize> = BTreeMap::new();
    for event in durable_events(&mesh, "killed_domain_events").await {
        let text = |field: &str| event[field].as_str().unwrap().to_owned();
        *told.entry((text("task_id"), text("step"))).or_default() += 1;
    }
    assert_eq!(told.len(), 3 * TASKS, "a step that has not told its end");
    assert!(told.values().all(|times| *times == 1), "a step has told its end twice");
    ledger.nothing_is_left().await;
}

/// The next so many events that a subscriber is told.
async fn told(
    events: impl Stream<Item = Result<SubscribeEventsResponse, Error>>,
    count: usize,
) -> Vec<DomainEvent> {
    let event = |said: SubscribeEventsResponse| match said.message {
        Some(Message::Event(event)) => event,
        other => panic!("not an event: {other:?}"),
    };
    let events = pin!(events.map_ok(event));
    let heard = timeout(PATIENCE, events.take(count).try_collect::<Vec<_>>()).await;
    heard.expect("the events are told in time").unwrap()
}

async fn a_subscriber_hears_what_its_pattern_names_and_no_more(mesh: &Mesh) {
    let yaml = "{namespace: heard, name: order, version: 1.0.0, steps: [
        {name: pay, handler: {callable: ok}, publishes_events: [
            {name: orders.paid, delivery: fast}, {name: stock.taken, delivery: fast},
            {name: orders.silent}]},
        {name: ship, handler: {callable: fail}, dependencies: [pay], publishes_events: [
            {name: orders.shipped, delivery: fast},
            {name: orders.lost, condition: failure, delivery: broadcast}]}]}";
    let client = mesh.client();
    let orders = client.subscribe_events("heard", "orders.*").await.unwrap();
    let elsewhere = client.subscribe_events("elsewhere", "").await.unwrap();
    let all = client.subscribe_events("", "").await.unwrap();
    let mut handlers = Registry::new();
    handlers.register_fn("ok", |_| async {
        Ok(serde_json::from_str::<Value>(r#"{"sum": 1.10}"#).unwrap())
    });
    handlers.register_fn("fail", |_| async {
        Err::<(), _>(HandlerError::permanent("lost", "on its way"))
    });
    let (task_id, _) = run(mesh, yaml, &handlers, &json!({})).await;

    let heard = told(orders, 2).await;
    let names: Vec<_> = heard.iter().map(|event| event.name.as_str()).collect();
    assert_eq!(names, ["orders.paid", "orders.lost"]);
    assert_eq!((heard[0].task_id.as_str(), heard[0].step_name.as_str()), (&*task_id, "pay"));
    assert_eq!(heard[0].correlation_id, "order 17");
    let Some(Outcome::Success(result)) = &heard[0].outcome else { panic!("{heard:?}") };
    assert_eq!(result.data, r#"{"sum":1.10}"#);
    let Some(Outcome::Failure(error)) = &heard[1].outcome else { panic!("{heard:?}") };
    assert_eq!((error.r#type.as_str(), error.retryable), ("lost", false));

    let names: Vec<_> = told(all, 3).await.into_iter().map(|event| event.name).collect();
    assert_eq!(names, ["orders.paid", "stock.taken", "orders.lost"]);
    // What is broadcast is durable, too, and the same event.
    let durable = durable_events(mesh, "heard_domain_events").await;
    let durable: Vec<_> =
        durable.iter().map(|it| (it["name"].as_str(), it["event_id"].as_str())).collect();
    assert_eq!(durable.len(), 2);
    assert_eq!(durable[0].0, Some("orders.silent"));
    assert_eq!(durable[1], (Some("orders.lost"), Some(heard[1].event_id.as_str())));
    // All others had theirs before: had there been one for it, it would be here.
    let mut elsewhere = pin!(elsewhere);
    assert!(futures::poll!(elsewhere.next()).is_pending());
}

async fn a_result_that_is_too_large_for_an_announcement_reaches_subscribers_whole(mesh: &Mesh) {
    let yaml = "{namespace: large, name: order, version: 1.0.0, steps: [
        {name: pay, handler: {callable: ok}, publishes_events: [
            {name: large.paid, delivery: fast}]}]}";
    let events = mesh.client().subscribe_events("large", "").await.unwrap();
    let large = json!("\u{20ac}".repeat(100_000));
    let mut handlers = Registry::new();
    let result = large.clone();
    handlers.register_fn("ok", move |_| {
        let result = result.clone();
        async move { Ok(result) }
    });
    run(mesh, yaml, &handlers, &json!({})).await;
    let heard = told(events, 1).await;
    let Some(Outcome::Success(result)) = &heard[0].outcome else { panic!("no result") };
    assert_eq!(serde_json::from_slice::<Value>(&result.data).unwrap(), large);
}

async fn a_pattern_that_is_none_is_refused_by_its_field(mesh: &Mesh) {
    let refused = mesh.client().subscribe_events("", "orders.**.paid").await;
    let Err(refused) = refused.map(drop) else { panic!("it was taken") };
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(refused.violations()[0].field, "pattern");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_subscriber_hears_the_events_of_every_replica() {
    const TASKS: usize = 40;
    let mesh = Mesh::setup().replicas(2).start().await;
    let client = mesh.client();
    let yaml = "{namespace: replicas, name: one, version: 1.0.0, steps: [
        {name: only, handler: {callable: ok}, publishes_events: [{name: it.ended, delivery: fast}]}]}";
    client.register_template(yaml).await.unwrap();
    let mut subscribed = Vec::new();
    // Calls are spread over the replicas.
    for gateway in mesh.gateways() {
        for _ in 0..4 {
            let client = Client::connect_lazy(gateway).unwrap();
            subscribed.push(client.subscribe_events("replicas", "it.*").await.unwrap());
        }
    }
    let mut handlers = Registry::new();
    handlers.register_fn("ok", |_| async { Ok(1) });
    let worker = mesh.worker(&["replicas"], &handlers);
    for _ in 0..TASKS {
        client.create_task(NewTask::of("replicas", "one")).await.unwrap();
    }
    for events in subscribed {
        let mut tasks: Vec<_> =
            told(events, TASKS).await.into_iter().map(|event| event.task_id).collect();
        tasks.sort();
        tasks.dedup();
        assert_eq!(tasks.len(), TASKS);
    }
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn durable_events_that_nobody_reads_in_time_are_deleted_and_no_others() {
    let mesh = Mesh::setup().with("finalizer.reconcile_interval", "1s");
    let mesh = mesh.with("finalizer.keep_events_days", "2").start().await;
    let yaml = "{namespace: unread, name: order, version: 1.0.0, steps: [
        {name: pay, handler: {callable: pay}, publishes_events: [{name: orders.paid}]}]}";
    let mut handlers = Registry::new();
    handlers.register_fn("pay", |_| async { Ok(1) });
    let (old, _) = run(&mesh, yaml, &handlers, &json!({})).await;
    let (young, _) = run(&mesh, yaml, &handlers, &json!({})).await;
    let count = async || durable_events(&mesh, "unread_domain_events").await.len();
    assert_eq!(count().await, 2);
    let ledger = mesh.ledger().await;
    let aged = "UPDATE pgmq.q_unread_domain_events SET enqueued_at = now() - interval '49 hours'
        WHERE msg_id = (SELECT min(msg_id) FROM pgmq.q_unread_domain_events)";
    assert_eq!(ledger.change(aged).await, 1);
    until("the old one is gone", PATIENCE, async || (count().await == 1).then_some(())).await;
    let left = durable_events(&mesh, "unread_domain_events").await;
    assert_ne!(left[0]["task_id"], json!(old));
    assert_eq!(left[0]["task_id"], json!(young));
    until("it is told", PATIENCE, async || {
        let log = mesh.log_of(Service::Finalizer);
        log.contains("1 events of unread were deleted").then_some(())
    })
    .await;
}
