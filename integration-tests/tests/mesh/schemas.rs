//! What a template's schemas ask for holds: of contexts when tasks are submitted, of results when they
//! come.

use std::time::Duration;

use serde_json::{Value, json};
use tasker_client::{
    NewTask,
    v1::{Payload, ResultVerdict, StepState, TaskState},
};
use tasker_integration_tests::{Mesh, Service, Session, success, until};
use tasker_worker::{Registry, StepContext};
use tonic::Code;

const PATIENCE: Duration = Duration::from_secs(30);

/// 2 to the 200th.
const LARGE: &str = "1606938044258990275541962092341162602522202993782792835301376";

const WITH_INPUT_SCHEMA: &str = "{namespace: schemas, name: orders, version: 1.0.0,
    input_schema: {type: object, required: [order], properties: {
        lines: {type: array, items: {$ref: '#/$defs/line'}}},
        $defs: {line: {type: object, properties: {price: {type: number, minimum: 0}}}}},
    steps: [{name: only, handler: {callable: none}}]}";

const WITH_RESULT_SCHEMA: &str = "{namespace: schemas, name: numbers, version: 1.0.0, steps: [
    {name: first, handler: {callable: answer}, retry: {max_attempts: 3},
     result_schema: {type: object, required: [n], properties: {n: {type: integer}}}},
    {name: second, handler: {callable: pass_on}, dependencies: [first],
     result_schema: {type: integer}}]}";

in_both_shapes![
    a_context_that_breaks_its_schema_is_refused_with_every_place,
    a_request_by_message_that_breaks_the_schema_is_parked_with_the_reason,
    a_result_that_breaks_its_schema_fails_the_step_for_good_and_says_where,
    a_result_that_fits_its_schema_is_kept_with_all_its_digits,
    a_schema_that_is_none_is_refused_by_its_place,
];

fn order(context: &Value) -> NewTask {
    NewTask::of("schemas", "orders").context(context).unwrap()
}

async fn a_context_that_breaks_its_schema_is_refused_with_every_place(mesh: &Mesh) {
    let client = mesh.client();
    client.register_template(WITH_INPUT_SCHEMA).await.unwrap();
    let bad = json!({"lines": [{"price": 1}, {"price": "secret"}, {"price": -1}]});
    let refused = client.create_task(order(&bad)).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(refused.failure().unwrap().reason, "INPUT_SCHEMA_VIOLATION");
    let fields: Vec<_> = refused.violations().iter().map(|it| it.field.as_str()).collect();
    assert_eq!(fields, ["context", "context.lines[1].price", "context.lines[2].price"]);
    assert!(!refused.to_string().contains("secret"), "{refused}");

    // As many as fit into an answer.
    let flood: Vec<_> = (0..1000).map(|_| json!({"price": "x".repeat(100)})).collect();
    let refused =
        client.create_task(order(&json!({"order": 1, "lines": flood}))).await.unwrap_err();
    assert_eq!(refused.violations().len(), 21, "{refused}");

    let text = Payload { content_type: "text/plain".to_owned(), ..Payload::default() };
    let task = NewTask::of("schemas", "orders").payload(text);
    let refused = client.create_task(task).await.unwrap_err();
    assert_eq!(refused.violations()[0].field, "context.content_type");

    let ledger = mesh.ledger().await;
    assert_eq!(ledger.number("SELECT count(*) FROM tasks").await, 0);
    client.create_task(order(&json!({"order": 1, "lines": [{"price": 1.10}]}))).await.unwrap();
    assert_eq!(ledger.number("SELECT count(*) FROM tasks").await, 1);
}

async fn a_request_by_message_that_breaks_the_schema_is_parked_with_the_reason(mesh: &Mesh) {
    mesh.client().register_template(WITH_INPUT_SCHEMA).await.unwrap();
    let ledger = mesh.ledger().await;
    let context = json!({"lines": [{"price": -1}]});
    let message = json!({"namespace": "schemas", "name": "orders", "context": context});
    ledger.send("orchestration_task_requests", &message.to_string()).await;
    let parked = "SELECT count(*) FROM pgmq.q_orchestration_task_requests_dlq
        WHERE headers ->> 'reason' LIKE '%context: %; context.lines[0].price: %'";
    until("the request is parked", PATIENCE, async || {
        (ledger.number(parked).await == 1).then_some(())
    })
    .await;
    assert_eq!(ledger.number("SELECT count(*) FROM tasks").await, 0);
}

async fn a_result_that_breaks_its_schema_fails_the_step_for_good_and_says_where(mesh: &Mesh) {
    let client = mesh.client();
    client.register_template(WITH_RESULT_SCHEMA).await.unwrap();
    let task_id = client.create_task(NewTask::of("schemas", "numbers")).await.unwrap().task_id;
    let hello = Session::hello("worker", "schemas", &["answer", "pass_on"], 1);
    let mut session = Session::open(mesh.channel().await, hello).await.unwrap();
    let token = session.take().await.delivery_token;
    // It is taken: the worker has done what it could.
    let verdict = session.report(success(&token, r#"{"n": "secret"}"#)).await;
    assert_eq!(verdict, ResultVerdict::Committed);
    assert_eq!(session.report(success(&token, r#"{"n": 1}"#)).await, ResultVerdict::Duplicate);
    let task = client.wait_for_task(&task_id, PATIENCE).await.unwrap();
    assert_eq!(task.state(), TaskState::BlockedByFailures);

    let step = client.get_step(&task_id, "first").await.unwrap();
    assert_eq!((step.state(), step.attempt), (StepState::Error, 1));
    let error = step.result.unwrap().error.unwrap();
    assert_eq!((error.r#type.as_str(), error.retryable), ("RESULT_SCHEMA_VIOLATION", false));
    assert!(error.message.starts_with("result.n: "), "{}", error.message);
    assert!(!error.message.contains("secret"), "{}", error.message);
    let step = client.get_step(&task_id, "second").await.unwrap();
    assert_eq!(step.state(), StepState::Pending);
    session.drain().await;
    let ledger = mesh.ledger().await;
    ledger.histories_hold().await;
    ledger.nothing_is_left().await;
}

async fn a_result_that_fits_its_schema_is_kept_with_all_its_digits(mesh: &Mesh) {
    let client = mesh.client();
    client.register_template(WITH_RESULT_SCHEMA).await.unwrap();
    let mut handlers = Registry::new();
    handlers.register_fn("answer", |_| async {
        Ok(serde_json::from_str::<Value>(&format!("{{\"n\": {LARGE}}}")).unwrap())
    });
    handlers.register_fn("pass_on", |step: StepContext| async move {
        Ok(step.dependency::<Value>("first")?["n"].clone())
    });
    let worker = mesh.worker(&["schemas"], &handlers);
    let task_id = client.create_task(NewTask::of("schemas", "numbers")).await.unwrap().task_id;
    let task = client.wait_for_task(&task_id, PATIENCE).await.unwrap();
    assert_eq!(task.state(), TaskState::Complete);
    let step = client.get_step(&task_id, "second").await.unwrap();
    assert_eq!(step.result.unwrap().payload.unwrap().data, LARGE);
    worker.stop().await;
    let ledger = mesh.ledger().await;
    ledger.every_task_has_completed_once(1).await;
    ledger.nothing_is_left().await;
}

async fn a_schema_that_is_none_is_refused_by_its_place(mesh: &Mesh) {
    let yaml = "{namespace: schemas, name: bad, version: 1.0.0, input_schema: {type: nonsense},
        steps: [{name: only, handler: {callable: none}, result_schema: {$ref: 'https://example.com'}},
            {name: next, handler: {callable: none},
             result_schema: {properties: {next: {$ref: '#'}}}}]}";
    let refused = mesh.client().register_template(yaml).await.unwrap_err();
    let fields: Vec<_> = refused.violations().iter().map(|it| it.field.as_str()).collect();
    let expected = [
        "input_schema.type",
        "steps[0].result_schema.$ref",
        "steps[1].result_schema.properties.next.$ref",
    ];
    assert_eq!(fields, expected);
}

/// A result that came while nobody was there to judge it is stored before it is looked at.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_result_by_queue_is_judged_by_its_schema_too() {
    let mesh = Mesh::setup().start().await;
    let client = mesh.client();
    client.register_template(WITH_RESULT_SCHEMA).await.unwrap();
    let hello = Session::hello("worker", "schemas", &["answer"], 1);
    let mut session = Session::open(mesh.channel().await, hello).await.unwrap();
    let mut tasks = Vec::new();
    for result in [r#"{"n": "one"}"#, r#"{"n": 1}"#] {
        let task = client.create_task(NewTask::of("schemas", "numbers")).await.unwrap();
        tasks.push(task.task_id);
        let token = session.take().await.delivery_token;
        mesh.kill(Service::ResultProcessor, 0);
        let verdict = session.report(success(&token, result)).await;
        assert_eq!(verdict, ResultVerdict::Committed);
        mesh.restart(Service::ResultProcessor, 0).await;
    }
    let blocked = client.wait_for_task(&tasks[0], PATIENCE).await.unwrap();
    assert_eq!(blocked.state(), TaskState::BlockedByFailures);
    let error = client.get_step(&tasks[0], "first").await.unwrap().result.unwrap().error.unwrap();
    assert_eq!(error.r#type, "RESULT_SCHEMA_VIOLATION");
    until("the good result is judged", PATIENCE, async || {
        let step = client.get_step(&tasks[1], "first").await.unwrap();
        (step.state() == StepState::Complete).then_some(())
    })
    .await;
    session.drain().await;
    mesh.ledger().await.histories_hold().await;
}
