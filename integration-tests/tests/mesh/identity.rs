//! When two submissions are the same task.

use futures::future::join_all;
use serde_json::json;
use tasker_client::{Client, NewTask};
use tasker_integration_tests::Mesh;
use tonic::Code;

in_both_shapes![a_repeated_submission_gives_the_first_task];

async fn a_repeated_submission_gives_the_first_task(mesh: &Mesh) {
    let client = mesh.client();
    for identity in ["always_unique", "strict", "caller_provided"] {
        let yaml = format!(
            "{{namespace: twins, name: {identity}, version: 1.0.0, identity: {identity},
               steps: [{{name: only, handler: {{callable: none}}}}]}}"
        );
        client.register_template(yaml).await.unwrap();
    }
    a_request_id_names_one_submission(&client).await;
    a_strict_task_is_known_by_its_context(&client).await;
    a_task_with_a_key_is_known_by_it(&client).await;
    let ledger = mesh.ledger().await;
    assert_eq!(ledger.number("SELECT count(*) FROM tasks").await, 7);
}

/// Makes three tasks.
async fn a_request_id_names_one_submission(client: &Client) {
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

    let at_once = join_all((0..32).map(|_| client.create_task(task("three")))).await;
    let ids: Vec<_> = at_once.into_iter().map(|made| made.unwrap().task_id).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
}

/// Makes two tasks.
async fn a_strict_task_is_known_by_its_context(client: &Client) {
    let task = |text: &'static str| {
        let payload = tasker_client::v1::Payload { data: text.into(), ..Default::default() };
        NewTask::of("twins", "strict").payload(payload)
    };
    let first = client.create_task(task(r#"{"a": 1, "b": [true, 2.50]}"#)).await.unwrap();
    let twin = client.create_task(task(r#" {"b":[true,2.50],"a":1} "#)).await.unwrap_err();
    is_a_twin_of(&twin, &first.task_id);
    let other = client.create_task(task(r#"{"a": 2, "b": [true, 2.50]}"#)).await.unwrap();
    assert_ne!(other.task_id, first.task_id);
}

/// Makes two tasks.
async fn a_task_with_a_key_is_known_by_it(client: &Client) {
    let task = |key: &str, n: i32| {
        let task = NewTask::of("twins", "caller_provided").idempotency_key(key);
        task.context(&json!({"n": n})).unwrap()
    };
    let at_once = join_all((0..8).map(|n| client.create_task(task("a", n)))).await;
    let (made, twins): (Vec<_>, Vec<_>) = at_once.into_iter().partition(Result::is_ok);
    assert_eq!(made.len(), 1);
    let first = made.into_iter().next().unwrap().unwrap();
    for twin in twins {
        is_a_twin_of(&twin.unwrap_err(), &first.task_id);
    }
    let other = client.create_task(task("b", 1)).await.unwrap();
    assert_ne!(other.task_id, first.task_id);
    let without = NewTask::of("twins", "caller_provided");
    let refused = client.create_task(without).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(refused.violations()[0].field, "idempotency_key");
}

fn is_a_twin_of(error: &tasker_client::Error, task_id: &str) {
    assert_eq!(error.code(), Code::AlreadyExists, "{error}");
    let failure = error.failure().unwrap();
    assert_eq!(failure.metadata["task_id"], task_id);
    assert!(!failure.reason.is_empty());
}
