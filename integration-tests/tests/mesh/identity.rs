//! When two submissions are the same task.

use std::collections::BTreeSet;

use futures::future::join_all;
use serde_json::json;
use tasker_client::{Client, NewTask, v1::Payload};
use tasker_integration_tests::{Mesh, until};
use tonic::Code;

const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

in_both_shapes![
    every_submission_is_a_task_of_its_own_unless_the_template_says_otherwise,
    a_request_id_names_one_submission,
    a_strict_task_is_known_by_what_its_context_says,
    a_task_with_a_key_is_known_by_it_whatever_its_context,
    the_same_task_submitted_many_times_at_once_is_born_once,
    a_request_by_message_is_worked_off_once,
];

/// Registers `twins/<identity>` of one step that nobody runs.
async fn register(client: &Client, identity: &str) {
    let yaml = format!(
        "{{namespace: twins, name: {identity}, version: 1.0.0, identity: {identity},
           steps: [{{name: only, handler: {{callable: none}}}}]}}"
    );
    client.register_template(yaml).await.unwrap();
}

async fn tasks(mesh: &Mesh) -> i64 {
    mesh.ledger().await.number("SELECT count(*) FROM tasks").await
}

/// A task whose context is this very text.
fn with_text(identity: &str, text: &'static str) -> NewTask {
    NewTask::of("twins", identity).payload(json_payload(text))
}

fn json_payload(text: &'static str) -> Payload {
    Payload { data: text.into(), ..Payload::default() }
}

async fn every_submission_is_a_task_of_its_own_unless_the_template_says_otherwise(mesh: &Mesh) {
    let client = mesh.client();
    register(&client, "always_unique").await;
    let task = || with_text("always_unique", r#"{"a": 1}"#).idempotency_key("the same");
    let made = join_all((0..8).map(|_| client.create_task(task()))).await;
    let ids: BTreeSet<_> = made.into_iter().map(|made| made.unwrap().task_id).collect();
    assert_eq!(ids.len(), 8);
    assert_eq!(tasks(mesh).await, 8);
}

async fn a_request_id_names_one_submission(mesh: &Mesh) {
    let client = mesh.client();
    register(&client, "always_unique").await;
    let task = |id: &str| NewTask::of("twins", "always_unique").request_id(id);
    let first = client.create_task(task("one")).await.unwrap();
    let again = client.create_task(task("one")).await.unwrap();
    assert_eq!(first, again);
    let other = client.create_task(task("two")).await.unwrap();
    assert_ne!(first.task_id, other.task_id);

    // The first answer, though a request without a version would now be for a newer one.
    let newer = "{namespace: twins, name: always_unique, version: 1.1.0, steps: [
        {name: only, handler: {callable: none}}]}";
    client.register_template(newer).await.unwrap();
    assert_eq!(client.create_task(task("one")).await.unwrap(), first);

    // Also where the newest version takes no such request any more.
    let stricter = "{namespace: twins, name: always_unique, version: 1.2.0,
        input_schema: {required: [a]}, steps: [{name: only, handler: {callable: none}}]}";
    client.register_template(stricter).await.unwrap();
    assert_eq!(client.create_task(task("one")).await.unwrap(), first);
    let refused = client.create_task(task("never seen")).await.unwrap_err();
    assert_eq!(refused.reason(), Some("INPUT_SCHEMA_VIOLATION"), "{refused}");

    let task = |id: &str| task(id).payload(json_payload(r#"{"a": 1}"#));
    let at_once = join_all((0..32).map(|_| client.create_task(task("three")))).await;
    let ids: Vec<_> = at_once.into_iter().map(|made| made.unwrap().task_id).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_eq!(tasks(mesh).await, 3);
}

async fn a_strict_task_is_known_by_what_its_context_says(mesh: &Mesh) {
    let client = mesh.client();
    register(&client, "strict").await;
    let create = async |text| client.create_task(with_text("strict", text)).await;
    let first = create(r#"{"a": 1, "b": [true, 2.50]}"#).await.unwrap();
    let twin = create(r#" {"b":[true,2.50],"a":1} "#).await.unwrap_err();
    is_a_twin_of(&twin, &first.task_id);
    let other = create(r#"{"a": 2, "b": [true, 2.50]}"#).await.unwrap();
    assert_ne!(other.task_id, first.task_id);
    // To the last digit, though no double tells these apart.
    let large = create(r#"{"a": 9007199254740993}"#).await.unwrap();
    let larger = create(r#"{"a": 9007199254740992}"#).await.unwrap();
    assert_ne!(large.task_id, larger.task_id);
    assert_eq!(tasks(mesh).await, 4);
}

async fn a_task_with_a_key_is_known_by_it_whatever_its_context(mesh: &Mesh) {
    let client = mesh.client();
    register(&client, "caller_provided").await;
    let task = |key: &str, n: i32| {
        let task = NewTask::of("twins", "caller_provided").idempotency_key(key);
        task.context(&json!({"n": n})).unwrap()
    };
    let first = client.create_task(task("a", 1)).await.unwrap();
    is_a_twin_of(&client.create_task(task("a", 2)).await.unwrap_err(), &first.task_id);
    let other = client.create_task(task("b", 1)).await.unwrap();
    assert_ne!(other.task_id, first.task_id);
    let without = NewTask::of("twins", "caller_provided");
    let refused = client.create_task(without).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(refused.violations()[0].field, "idempotency_key");
    assert_eq!(tasks(mesh).await, 2);
}

async fn the_same_task_submitted_many_times_at_once_is_born_once(mesh: &Mesh) {
    let client = mesh.client();
    for identity in ["strict", "caller_provided"] {
        register(&client, identity).await;
        let task = || with_text(identity, r#"{"a": 1}"#).idempotency_key("the same");
        let at_once = join_all((0..32).map(|_| client.create_task(task()))).await;
        let (made, twins): (Vec<_>, Vec<_>) = at_once.into_iter().partition(Result::is_ok);
        assert_eq!(made.len(), 1, "{identity}");
        let first = made.into_iter().next().unwrap().unwrap();
        for twin in twins {
            is_a_twin_of(&twin.unwrap_err(), &first.task_id);
        }
    }
    assert_eq!(tasks(mesh).await, 2);
}

async fn a_request_by_message_is_worked_off_once(mesh: &Mesh) {
    let client = mesh.client();
    let yaml = "{namespace: twins, name: by_message, version: 1.0.0, identity: strict,
        steps: [{name: only, handler: {callable: none}}]}";
    client.register_template(yaml).await.unwrap();
    let ledger = mesh.ledger().await;
    let send = async |request_id: &str, n: i32| {
        let message = json!({
            "namespace": "twins", "name": "by_message", "context": {"n": n}, "request_id": request_id
        });
        ledger.send("orchestration_task_requests", &message.to_string()).await;
    };
    let worked_off = async |parked: i64| {
        until("every request by message is worked off", PATIENCE, async || {
            let counts = ledger.row_counts().await;
            (counts["pgmq.q_orchestration_task_requests"] == 0
                && counts["pgmq.q_orchestration_task_requests_dlq"] == parked)
                .then_some(())
        })
        .await;
    };
    let task = |request_id: &str| {
        let task = NewTask::of("twins", "by_message").request_id(request_id);
        task.context(&json!({"n": 1})).unwrap()
    };

    // Its message is taken off with the birth.
    send("one", 1).await;
    worked_off(0).await;
    let first = client.create_task(task("one")).await.unwrap();
    // Repeats, of a task born earlier and of one born beside them, leave nothing behind.
    for _ in 0..3 {
        send("one", 1).await;
        send("two", 2).await;
    }
    worked_off(0).await;
    assert_eq!(ledger.number("SELECT count(*) FROM tasks").await, 2);
    // Who asks for the same by another request is told which it is.
    send("three", 1).await;
    worked_off(1).await;
    let reason = ledger
        .number(
            "SELECT count(*) FROM pgmq.q_orchestration_task_requests_dlq, tasks
             WHERE headers ->> 'reason' = 'the same task exists already: ' || task_id",
        )
        .await;
    assert_eq!(reason, 1);
    is_a_twin_of(&client.create_task(task("three")).await.unwrap_err(), &first.task_id);
    assert_eq!(ledger.number("SELECT count(*) FROM tasks").await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_version_is_used_by_every_replica_at_once() {
    let mesh = Mesh::setup().replicas(2).start().await;
    let client = mesh.client();
    for minor in 0..4 {
        let version = format!("1.{minor}.0");
        let yaml = format!(
            "{{namespace: newer, name: newest, version: {version}, identity: strict,
               steps: [{{name: only, handler: {{callable: none}}}}]}}"
        );
        client.register_template(yaml).await.unwrap();
        let tasks = (0..32).map(|n| {
            let task = NewTask::of("newer", "newest").context(&json!({"n": n})).unwrap();
            client.create_task(task)
        });
        for made in join_all(tasks).await {
            // The same contexts make new tasks: it is another version's identity.
            assert_eq!(made.unwrap().template.unwrap().version, version);
        }
    }
    let ledger = mesh.ledger().await;
    assert_eq!(ledger.number("SELECT count(*) FROM tasks").await, 4 * 32);
}

fn is_a_twin_of(error: &tasker_client::Error, task_id: &str) {
    assert_eq!(error.code(), Code::AlreadyExists, "{error}");
    let failure = error.failure().unwrap();
    assert_eq!(failure.metadata["task_id"], task_id);
    assert!(!failure.reason.is_empty());
}
