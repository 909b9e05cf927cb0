//! Whoever asks why a step does not run is told, and what would let it.

use std::time::Duration;

use tasker_client::{
    Client, NewTask, Operator,
    v1::{StepReason, StepReasonKind as Kind, TemplateRef},
};
use tasker_integration_tests::{Mesh, Session, success, until};
use tasker_worker::{HandlerError, Registry};
use tonic::Code;

const PATIENCE: Duration = Duration::from_secs(30);
const YAML: &str = "{namespace: explain, name: join, version: 1.0.0, steps: [
    {name: left, handler: {callable: any}},
    {name: right, handler: {callable: any}},
    {name: last, handler: {callable: rare}, dependencies: [left, right]}]}";

in_both_shapes![
    every_stage_of_a_steps_life_is_explained,
    everything_that_holds_a_step_is_named_the_nearest_first,
    a_step_that_backs_off_or_has_failed_is_explained,
    a_whole_task_is_explained_by_one_call_and_by_one_select,
    what_does_not_exist_is_not_explained,
];

async fn submit(client: &Client, name: &str) -> String {
    client.create_task(NewTask::of("explain", name)).await.unwrap().task_id
}

async fn session(mesh: &Mesh, worker_id: &str) -> Session {
    let hello = Session::hello(worker_id, "explain", &["any"], 1);
    Session::open(mesh.channel().await, hello).await.unwrap()
}

async fn reasons(client: &Client, task: &str, step: &str) -> Vec<StepReason> {
    client.explain_step(task, step).await.unwrap().reasons
}

fn kinds(reasons: &[StepReason]) -> Vec<Kind> {
    reasons.iter().map(StepReason::kind).collect()
}

/// Asks until a step stands so, and returns why.
async fn until_explained(
    client: &Client,
    task: &str,
    step: &str,
    expected: &[Kind],
) -> Vec<StepReason> {
    until("the step is explained as it should be", PATIENCE, async || {
        let reasons = reasons(client, task, step).await;
        (kinds(&reasons) == expected).then_some(reasons)
    })
    .await
}

async fn every_stage_of_a_steps_life_is_explained(mesh: &Mesh) {
    let client = mesh.client();
    client.register_template(YAML).await.unwrap();
    let task = submit(&client, "join").await;
    let alone = until_explained(&client, &task, "left", &[Kind::NoWorker]).await;
    assert_eq!(alone[0].handler, "any");
    assert!(alone[0].remedy.contains("any"), "{}", alone[0].remedy);

    let mut session = session(mesh, "worker-1").await;
    let delivery = session.take().await;
    let (first, second) = match delivery.step_name.as_str() {
        "left" => ("left", "right"),
        _ => ("right", "left"),
    };
    let running = until_explained(&client, &task, first, &[Kind::Running]).await;
    assert_eq!(running[0].worker_id, "worker-1");
    assert!(running[0].since_time.is_some() && running[0].until_time.is_some());
    let queued = until_explained(&client, &task, second, &[Kind::Queued]).await;
    assert_eq!(queued[0].queue_position, 1);
    let younger = submit(&client, "join").await;
    let behind = until_explained(&client, &younger, "right", &[Kind::Queued]).await;
    assert!(behind[0].queue_position > 1);

    // Its worker does not have the handler of the last step: known before that is ready.
    let waits = reasons(&client, &task, "last").await;
    assert_eq!(kinds(&waits), [Kind::Dependencies, Kind::NoWorker]);
    let mut names: Vec<_> = waits[0].dependencies.iter().map(|it| it.step_name.clone()).collect();
    names.sort();
    assert_eq!(names, ["left", "right"]);
    session.report(success(&delivery.delivery_token, "1")).await;
    assert_eq!(kinds(&reasons(&client, &task, first).await), [Kind::Done]);
    let waits = reasons(&client, &task, "last").await;
    assert_eq!(waits[0].dependencies[0].step_name, second);
}

async fn everything_that_holds_a_step_is_named_the_nearest_first(mesh: &Mesh) {
    let client = mesh.client();
    client.register_template(YAML).await.unwrap();
    let task = submit(&client, "join").await;
    client.pause_task(&task, &Operator::new("alice", "wrong amount")).await.unwrap();
    let template = TemplateRef {
        namespace: "explain".to_owned(),
        name: "join".to_owned(),
        version: String::new(),
    };
    client.pause_template(template.clone(), &Operator::new("bob", "deploying")).await.unwrap();
    let held = until_explained(
        &client,
        &task,
        "left",
        &[Kind::TaskPaused, Kind::TemplatePaused, Kind::NoWorker],
    )
    .await;
    assert_eq!(held[0].description, "Its task was paused by alice: wrong amount.");
    let pause = held[1].pause.as_ref().unwrap();
    assert_eq!((pause.operator.as_str(), pause.reason.as_str()), ("bob", "deploying"));
    assert_eq!(pause.template, Some(template.clone()));
    client.resume_task(&task, &Operator::new("alice", "")).await.unwrap();
    until_explained(&client, &task, "left", &[Kind::TemplatePaused, Kind::NoWorker]).await;
    client.resume_template(template, &Operator::new("bob", "")).await.unwrap();
    until_explained(&client, &task, "left", &[Kind::NoWorker]).await;
}

async fn a_step_that_backs_off_or_has_failed_is_explained(mesh: &Mesh) {
    let client = mesh.client();
    let yaml = "{namespace: explain, name: fails, version: 1.0.0, steps: [
        {name: later, handler: {callable: busy}, retry: {backoff_base_ms: 60000}},
        {name: never, handler: {callable: refuse}},
        {name: after, handler: {callable: busy}, dependencies: [never]}]}";
    client.register_template(yaml).await.unwrap();
    let mut handlers = Registry::new();
    handlers.register_fn("busy", |_| async {
        Err::<(), _>(HandlerError::retryable("busy", "not yet"))
    });
    handlers.register_fn("refuse", |_| async {
        Err::<(), _>(HandlerError::permanent("card_declined", "the card is declined"))
    });
    let worker = mesh.worker(&["explain"], &handlers);
    let task = submit(&client, "fails").await;
    let waits = until_explained(&client, &task, "later", &[Kind::BackOff]).await;
    assert!(waits[0].until_time.is_some());
    let failed = until_explained(&client, &task, "never", &[Kind::Failed]).await;
    assert!(!failed[0].remedy.is_empty());
    let after = until_explained(&client, &task, "after", &[Kind::Dependencies]).await;
    assert!(after[0].remedy.contains("never"), "{}", after[0].remedy);
    worker.stop().await;
}

async fn a_whole_task_is_explained_by_one_call_and_by_one_select(mesh: &Mesh) {
    let (client, ledger) = (mesh.client(), mesh.ledger().await);
    client.register_template(YAML).await.unwrap();
    let task = submit(&client, "join").await;
    until_explained(&client, &task, "left", &[Kind::NoWorker]).await;
    until_explained(&client, &task, "right", &[Kind::NoWorker]).await;
    let explained: Vec<_> = (client.explain_task(&task).await.unwrap().iter())
        .map(|step| (step.step_name.clone(), kinds(&step.reasons)))
        .collect();
    assert_eq!(
        explained,
        [
            ("left".to_owned(), vec![Kind::NoWorker]),
            ("right".to_owned(), vec![Kind::NoWorker]),
            ("last".to_owned(), vec![Kind::Dependencies, Kind::NoWorker]),
        ]
    );
    let same = "SELECT count(*) FROM tasks, get_step_readiness_status(task_id)
        WHERE blocked_by = CASE name WHEN 'last' THEN '{dependencies,no_worker}' ELSE '{no_worker}' END::text[]";
    assert_eq!(ledger.number(same).await, 3);
}

async fn what_does_not_exist_is_not_explained(mesh: &Mesh) {
    let client = mesh.client();
    client.register_template(YAML).await.unwrap();
    let nobody = "01890000-0000-7000-8000-000000000000";
    let refused = client.explain_task(nobody).await.unwrap_err();
    assert_eq!((refused.code(), refused.reason()), (Code::NotFound, Some("TASK_NOT_FOUND")));
    let task = submit(&client, "join").await;
    let refused = client.explain_step(&task, "ghost").await.unwrap_err();
    assert_eq!((refused.code(), refused.reason()), (Code::NotFound, Some("STEP_NOT_FOUND")));
    let refused = client.explain_step(nobody, "").await.unwrap_err();
    assert_eq!(refused.violations()[0].field, "step_name");
}
