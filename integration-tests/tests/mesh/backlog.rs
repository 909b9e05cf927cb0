//! More than can be worked off is refused, and said so.

use std::time::Duration;

use tasker_api::v1::{CreateTaskRequest, TemplateRef, task_service_client::TaskServiceClient};
use tasker_integration_tests::{Mesh, register_examples, until};
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt as _;

const PATIENCE: Duration = Duration::from_secs(30);

fn linear(request_id: &str) -> CreateTaskRequest {
    let template = TemplateRef {
        namespace: "arithmetic".to_owned(),
        name: "linear".to_owned(),
        ..TemplateRef::default()
    };
    let context = tasker_api::v1::Payload { data: r#"{"n": 2}"#.into(), ..Default::default() };
    CreateTaskRequest {
        template: Some(template),
        context: Some(context),
        request_id: request_id.to_owned(),
        ..CreateTaskRequest::default()
    }
}

/// Nobody tries again by itself.
async fn create(
    tasks: &mut TaskServiceClient<Channel>,
    request: CreateTaskRequest,
) -> Result<String, Status> {
    Ok(tasks.create_task(request).await?.into_inner().task_id)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_with_a_full_backlog_takes_tasks_again_once_workers_have_come() {
    let mesh = Mesh::setup().with("task_request.max_backlog", "5").start().await;
    register_examples(&mesh.client(), &["linear"]).await;
    let mut tasks = TaskServiceClient::new(mesh.channel().await);
    let first = create(&mut tasks, linear("first")).await.unwrap();
    let mut accepted = 1;
    let refusal = until("the backlog is full", PATIENCE, async || {
        match create(&mut tasks, linear("")).await {
            Ok(_) => {
                accepted += 1;
                None
            }
            Err(refusal) => Some(refusal),
        }
    })
    .await;
    assert_eq!(refusal.code(), Code::ResourceExhausted, "{refusal}");
    assert!(refusal.get_details_retry_info().is_some(), "{refusal:?}");
    assert!(refusal.message().contains("task_request.max_backlog"), "{refusal}");
    assert!(accepted >= 5, "{accepted} were accepted");
    assert_eq!(
        create(&mut tasks, linear("first")).await.unwrap(),
        first,
        "a repeat is no task more"
    );

    let worker = mesh.worker(&["arithmetic"], &tasker_example_worker::registry());
    until("tasks are taken again", PATIENCE, async || {
        let created = create(&mut tasks, linear("")).await;
        created.inspect(|_| accepted += 1).ok()
    })
    .await;
    let ledger = mesh.ledger().await;
    ledger.until_completed(accepted, PATIENCE).await;
    worker.stop().await;
    ledger.every_task_has_completed_once(accepted).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_more_comes_than_is_worked_off_births_give_way_to_steps_and_the_rest_is_refused() {
    let mesh = Mesh::setup().with("task_request.max_batch", "5").start().await;
    register_examples(&mesh.client(), &["linear", "refund"]).await;
    let (ledger, channel) = (mesh.ledger().await, mesh.channel().await);
    // Stand-ins, taken out below as if workers had taken them.
    let waiting = "INSERT INTO pgmq.q_worker_arithmetic_queue (vt, message)
        SELECT clock_timestamp(), '{}' FROM generate_series(1, 90000)";
    assert_eq!(ledger.change(waiting).await, 90_000);
    let some = "DELETE FROM pgmq.q_worker_arithmetic_queue WHERE msg_id IN (
        SELECT msg_id FROM pgmq.q_worker_arithmetic_queue ORDER BY msg_id LIMIT 2000)";
    let refund = CreateTaskRequest {
        template: Some(TemplateRef {
            namespace: "refunds".to_owned(),
            name: "refund".to_owned(),
            ..TemplateRef::default()
        }),
        ..linear("")
    };
    let (mut answers, refunded) = until("births give way", PATIENCE, async || {
        ledger.change(some).await;
        let requests = (0..100).map(|_| linear("")).chain([refund.clone()]);
        let calls = requests.map(|request| {
            let mut tasks = TaskServiceClient::new(channel.clone());
            async move { create(&mut tasks, request).await }
        });
        let mut answers = futures::future::join_all(calls).await;
        let refunded = answers.pop();
        answers.iter().any(Result::is_err).then_some((answers, refunded))
    })
    .await;
    refunded.unwrap().expect("another namespace is not late");
    answers.sort_by_key(Result::is_ok);
    answers.last().unwrap().as_ref().expect("births go on");
    let refusal = answers.remove(0).unwrap_err();
    assert_eq!(refusal.code(), Code::ResourceExhausted, "{refusal}");
    assert!(refusal.get_details_retry_info().is_some(), "{refusal:?}");
    assert!(refusal.message().contains("more tasks come than are worked off"), "{refusal}");
}
