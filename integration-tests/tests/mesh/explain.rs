//! Whoever asks why a step does not run is told, and what would let it.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use tasker_api::DeliveryToken;
use tasker_client::{
    Client, NewTask, Operator,
    v1::{LimitHolder, LimitUse, StepReason, StepReasonKind as Kind, TemplateRef},
};
use tasker_integration_tests::{Mesh, Service, Session, success, until, yielded};
use tasker_worker::{Batches, HandlerError, Registry, StepContext};
use tokio::sync::Semaphore;
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
    every_limit_that_holds_a_step_is_named_with_who_has_it_and_until_when,
    templates_that_share_the_name_of_a_limit_are_each_told_their_own_numbers,
    the_worker_of_a_batch_names_its_limit_and_one_whose_failure_counts_as_done_is_not_waited_for,
    a_step_that_has_yielded_says_until_when_it_waits_and_goes_before_nobody,
    what_is_cancelled_or_of_a_task_that_has_ended_says_so,
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

/// How many seconds are left until a time that a reason names.
fn seconds_left(reason: &StepReason) -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    reason.until_time.unwrap().seconds - i64::try_from(now.as_secs()).unwrap()
}

async fn submit_for(client: &Client, name: &str, who: &str) -> String {
    let task = NewTask::of("explain", name).context(&json!({"who": who})).unwrap();
    client.create_task(task).await.unwrap().task_id
}

async fn every_limit_that_holds_a_step_is_named_with_who_has_it_and_until_when(mesh: &Mesh) {
    let client = mesh.client();
    let yaml = "{namespace: explain, name: limited, version: 1.0.0, steps: [
        {name: only, handler: {callable: any}, limits: [
            {name: wide, max_concurrent: 100},
            {name: each, key: /who, max_concurrent: 1},
            {name: pace, rate: {count: 1, per_seconds: 3600}}]}]}";
    client.register_template(yaml).await.unwrap();
    let mut session = session(mesh, "worker-1").await;
    let first = submit_for(&client, "limited", "ann").await;
    let delivery = session.take().await;
    let second = submit_for(&client, "limited", "ann").await;
    let held = until_explained(&client, &second, "only", &[Kind::Limit, Kind::Limit]).await;
    let (each, pace) = (held[0].limit.clone().unwrap(), held[1].limit.clone().unwrap());
    let holder = LimitHolder { task_id: first.clone(), step_name: "only".to_owned() };
    assert_eq!(
        each,
        LimitUse {
            name: "each".to_owned(),
            value: "ann".to_owned(),
            max_concurrent: 1,
            running: 1,
            holders: vec![holder],
            ..LimitUse::default()
        }
    );
    assert_eq!(held[0].until_time, None, "{}", held[0].description);
    assert_eq!((pace.name.as_str(), pace.value.as_str()), ("pace", ""));
    assert_eq!((pace.rate_count, pace.begun, pace.max_concurrent), (1, 1, 0));
    assert!((3_500..=3_601).contains(&seconds_left(&held[1])), "{:?}", held[1]);
    // Of two that held it, one is left.
    session.report(success(&delivery.delivery_token, "1")).await;
    let held = until_explained(&client, &second, "only", &[Kind::Limit]).await;
    assert_eq!(held[0].limit.as_ref().unwrap().name, "pace");
}

async fn templates_that_share_the_name_of_a_limit_are_each_told_their_own_numbers(mesh: &Mesh) {
    let client = mesh.client();
    let yaml = "{namespace: explain, name: shared, version: 1.0.0, steps: [
        {name: one, handler: {callable: any}, limits: [{name: shared, max_concurrent: 1}]},
        {name: two, handler: {callable: any}, limits: [{name: shared, max_concurrent: 2}]}]}";
    client.register_template(yaml).await.unwrap();
    let hello = Session::hello("worker-1", "explain", &["any"], 1);
    let mut sessions = Vec::new();
    for _ in 0..2 {
        let mut session = Session::open(mesh.channel().await, hello.clone()).await.unwrap();
        // Both places of the wider one are taken, by steps of tasks that go first.
        submit(&client, "shared").await;
        session.take().await;
        sessions.push(session);
    }
    let other = submit(&client, "shared").await;
    for step in ["one", "two"] {
        until_explained(&client, &other, step, &[Kind::Limit]).await;
    }
    let told = client.explain_task(&other).await.unwrap();
    let held: Vec<_> = (told.iter())
        .flat_map(|step| step.reasons.iter().map(|reason| (step.step_name.as_str(), reason)))
        .filter_map(|(step, reason)| Some((step, reason.limit.as_ref()?.max_concurrent)))
        .collect();
    assert_eq!(held, [("one", 1), ("two", 2)]);
}

async fn the_worker_of_a_batch_names_its_limit_and_one_whose_failure_counts_as_done_is_not_waited_for(
    mesh: &Mesh,
) {
    let client = mesh.client();
    let yaml = "{namespace: explain, name: batch, version: 1.0.0, steps: [
        {name: plan, type: batchable, handler: {callable: plan},
         batch_config: {failure_strategy: continue_on_failure}},
        {name: work, type: batch_worker, handler: {callable: work}, dependencies: [plan],
         retry: {retryable: false}, limits: [{name: one, max_concurrent: 1}]},
        {name: sum, type: deferred_convergence, handler: {callable: plan}, dependencies: [work]}]}";
    client.register_template(yaml).await.unwrap();
    let fail = Arc::new(Semaphore::new(0));
    let mut handlers = Registry::new();
    handlers.register_fn("plan", |_| async { Ok(Batches::of(0..3)) });
    let permits = fail.clone();
    handlers.register_fn("work", move |_: StepContext| {
        let permits = permits.clone();
        async move {
            permits.acquire().await.expect("it is not closed").forget();
            Err::<(), _>(HandlerError::permanent("bad_row", "it cannot be read"))
        }
    });
    let worker = mesh.worker(&["explain"], &handlers);
    let task = submit(&client, "batch").await;
    until("the batch is planned", PATIENCE, async || client.get_step(&task, "work_3").await.ok())
        .await;
    until_explained(&client, &task, "work_1", &[Kind::Running]).await;
    let held = until_explained(&client, &task, "work_2", &[Kind::Limit]).await;
    let limit = held[0].limit.as_ref().unwrap();
    assert_eq!((limit.name.as_str(), limit.running, limit.max_concurrent), ("one", 1, 1));
    assert_eq!(limit.holders[0].step_name, "work_1");
    fail.add_permits(1);
    until_explained(&client, &task, "work_1", &[Kind::Failed]).await;
    let waits = reasons(&client, &task, "sum").await;
    assert_eq!(kinds(&waits), [Kind::Dependencies]);
    let names: Vec<_> = waits[0].dependencies.iter().map(|it| it.step_name.as_str()).collect();
    assert_eq!((names, waits[0].remedy.as_str()), (vec!["work_2", "work_3"], ""));
    worker.stop().await;
}

async fn a_step_that_has_yielded_says_until_when_it_waits_and_goes_before_nobody(mesh: &Mesh) {
    let client = mesh.client();
    let yaml = "{namespace: explain, name: one_step, version: 1.0.0, steps: [
        {name: only, handler: {callable: any}}]}";
    client.register_template(yaml).await.unwrap();
    let mut session = session(mesh, "worker-1").await;
    let later = submit(&client, "one_step").await;
    let delivery = session.take().await;
    session.report(yielded(&delivery.delivery_token, "1", Duration::from_secs(3600))).await;
    let waits = until_explained(&client, &later, "only", &[Kind::Queued]).await;
    assert!((3_500..=3_601).contains(&seconds_left(&waits[0])), "{:?}", waits[0]);
    assert_eq!((waits[0].queue_position, waits[0].remedy.as_str()), (0, ""));
    let running = submit(&client, "one_step").await;
    assert_eq!(session.take().await.task_id, running);
    let next = submit(&client, "one_step").await;
    let queued = until_explained(&client, &next, "only", &[Kind::Queued]).await;
    assert_eq!((queued[0].queue_position, queued[0].until_time), (1, None));
}

async fn what_is_cancelled_or_of_a_task_that_has_ended_says_so(mesh: &Mesh) {
    let (client, ledger) = (mesh.client(), mesh.ledger().await);
    client.register_template(YAML).await.unwrap();
    let task = submit(&client, "join").await;
    client.cancel_task(&task, &Operator::new("ada", "")).await.unwrap();
    until_explained(&client, &task, "left", &[Kind::Cancelled]).await;
    // Nothing leaves a step so: only who changes rows by hand.
    ledger.change("UPDATE steps SET state = 'pending' WHERE name = 'last'").await;
    let ended = reasons(&client, &task, "last").await;
    assert_eq!(ended[0].kind(), Kind::TaskEnded);
    assert!(ended[0].description.contains("cancelled"), "{}", ended[0].description);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_a_stage_names_it() {
    let mesh = Mesh::setup().with("mesh.fallback_interval", "1h").start().await;
    let (client, ledger) = (mesh.client(), mesh.ledger().await);
    client.register_template(YAML).await.unwrap();
    let mut session = session(&mesh, "worker-1").await;
    let task = submit(&client, "join").await;
    let delivery = session.take().await;
    let token: DeliveryToken = delivery.delivery_token.parse().unwrap();
    ledger.queue_a_result(token).await;
    let judged = reasons(&client, &task, &delivery.step_name).await;
    assert_eq!(kinds(&judged), [Kind::BeingJudged]);
    assert!(judged[0].remedy.contains("result-processor"), "{}", judged[0].remedy);
    drop(session);
    mesh.kill(Service::StepEnqueuer, 0);
    let fresh = submit(&client, "join").await;
    let enqueued = until("the step is on its way", PATIENCE, async || {
        let reasons = reasons(&client, &fresh, "left").await;
        reasons.into_iter().find(|reason| reason.kind() == Kind::BeingEnqueued)
    })
    .await;
    assert!(enqueued.remedy.contains("step-enqueuer"), "{}", enqueued.remedy);
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
