//! What a template says of where and how its steps run.

use std::time::Duration;

use tasker_client::{NewTask, v1::TaskState};
use tasker_integration_tests::Mesh;
use tasker_worker::{Registry, StepContext};

const PATIENCE: Duration = Duration::from_secs(30);

in_both_shapes![a_step_whose_queue_names_another_namespace_runs_at_the_workers_of_that_one];

/// Handlers that say whose they are.
fn handlers_of(owner: &'static str) -> Registry {
    let mut handlers = Registry::new();
    handlers.register_fn("work", move |_: StepContext| async move { Ok(owner) });
    handlers
}

async fn a_step_whose_queue_names_another_namespace_runs_at_the_workers_of_that_one(mesh: &Mesh) {
    let client = mesh.client();
    let yaml = "{namespace: shop, name: order, version: 1.0.0, steps: [
        {name: reserve, handler: {callable: work}},
        {name: charge, handler: {callable: work}, dependencies: [reserve], queue: payments},
        {name: ship, handler: {callable: work}, dependencies: [charge]}]}";
    let template = client.register_template(yaml).await.unwrap();
    let queues: Vec<&str> = template.steps.iter().map(|step| step.queue.as_str()).collect();
    assert_eq!(queues, ["shop", "payments", "shop"]);

    let shop = mesh.worker(&["shop"], &handlers_of("shop"));
    let payments = mesh.worker(&["payments"], &handlers_of("payments"));
    let task_id = client.create_task(NewTask::of("shop", "order")).await.unwrap().task_id;
    let task = client.wait_for_task(&task_id, PATIENCE).await.unwrap();
    assert_eq!(task.state(), TaskState::Complete);
    for (step, owner) in [("reserve", "shop"), ("charge", "payments"), ("ship", "shop")] {
        let result = client.get_step(&task_id, step).await.unwrap().result.unwrap();
        let expected = serde_json::to_vec(owner).unwrap();
        assert_eq!(result.payload.unwrap().data.as_ref(), expected, "{step}");
    }
    shop.stop().await;

    // With nobody in the shop, the first step waits; whoever comes for it finds it in its own queue.
    let waiting = client.create_task(NewTask::of("shop", "order")).await.unwrap().task_id;
    let ledger = mesh.ledger().await;
    let queued = "SELECT count(*) FROM pgmq.q_worker_shop_queue";
    tasker_integration_tests::until("the step waits in its queue", PATIENCE, async || {
        (ledger.number(queued).await == 1).then_some(())
    })
    .await;
    let shop = mesh.worker(&["shop"], &handlers_of("shop"));
    let task = client.wait_for_task(&waiting, PATIENCE).await.unwrap();
    assert_eq!(task.state(), TaskState::Complete);
    shop.stop().await;
    payments.stop().await;
    ledger.every_task_has_completed_once(2).await;
    ledger.nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_keeps_the_environment_that_it_was_registered_in() {
    let yaml = "{namespace: shop, name: charge, version: 1.0.0,
        steps: [{name: only, handler: {callable: where, initialization: {url: sandbox}}}],
        environments: {production: {steps: {only: {handler: {initialization: {url: live}}}}}}}";
    let mesh = Mesh::setup().with("task_request.environment", "production").start().await;
    let client = mesh.client();
    let template = client.register_template(yaml).await.unwrap();
    assert_eq!(template.environment, "production");

    let mut handlers = Registry::new();
    handlers.register_fn("where", |step: StepContext| async move {
        let configured: serde_json::Value = step.initialization()?;
        Ok(configured["url"].clone())
    });
    let worker = mesh.worker(&["shop"], &handlers);
    let task_id = client.create_task(NewTask::of("shop", "charge")).await.unwrap().task_id;
    let task = client.wait_for_task(&task_id, PATIENCE).await.unwrap();
    assert_eq!(task.state(), TaskState::Complete);
    let result = client.get_step(&task_id, "only").await.unwrap().result.unwrap();
    assert_eq!(result.payload.unwrap().data.as_ref(), b"\"live\"");
    worker.stop().await;

    let elsewhere = Mesh::setup().database(mesh.database_url()).start().await;
    let again = elsewhere.client().register_template(yaml).await.unwrap();
    assert_eq!(again.environment, "production");
}
