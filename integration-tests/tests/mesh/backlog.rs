//! More than can be worked off is refused, and said so.

use std::time::Duration;

use tasker_api::v1::{CreateTaskRequest, TemplateRef, task_service_client::TaskServiceClient};
use tasker_integration_tests::{Mesh, register_examples, until};
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt as _;

const PATIENCE: Duration = Duration::from_secs(30);

/// Nobody tries again by itself.
async fn create(tasks: &mut TaskServiceClient<Channel>) -> Result<String, Status> {
    let template = TemplateRef {
        namespace: "arithmetic".to_owned(),
        name: "linear".to_owned(),
        ..TemplateRef::default()
    };
    let context = tasker_api::v1::Payload { data: r#"{"n": 2}"#.into(), ..Default::default() };
    let request = CreateTaskRequest {
        template: Some(template),
        context: Some(context),
        ..CreateTaskRequest::default()
    };
    Ok(tasks.create_task(request).await?.into_inner().task_id)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_with_a_full_backlog_takes_tasks_again_once_workers_have_come() {
    let mesh = Mesh::setup().with("task_request.max_backlog", "5").start().await;
    register_examples(&mesh.client(), &["linear"]).await;
    let mut tasks = TaskServiceClient::new(mesh.channel().await);
    let mut accepted = 0;
    let refusal = until("the backlog is full", PATIENCE, async || match create(&mut tasks).await {
        Ok(_) => {
            accepted += 1;
            None
        }
        Err(refusal) => Some(refusal),
    })
    .await;
    assert_eq!(refusal.code(), Code::ResourceExhausted, "{refusal}");
    assert!(refusal.get_details_retry_info().is_some(), "{refusal:?}");
    assert!(refusal.message().contains("task_request.max_backlog"), "{refusal}");
    assert!(accepted >= 5, "{accepted} were accepted");

    let worker = mesh.worker(&["arithmetic"], &tasker_example_worker::registry());
    until("tasks are taken again", PATIENCE, async || {
        let created = create(&mut tasks).await;
        created.inspect(|_| accepted += 1).ok()
    })
    .await;
    let ledger = mesh.ledger().await;
    ledger.until_completed(accepted, PATIENCE).await;
    worker.stop().await;
    ledger.every_task_has_completed_once(accepted).await;
}
