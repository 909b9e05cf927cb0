//! Tasks that run again from a step on, as new tasks.

use std::{collections::BTreeMap, time::Duration};

use futures::TryStreamExt as _;
use tasker_client::{
    Client, NewTask, Operator,
    v1::{Payload, RerunTaskRequest, StepState, TaskState},
};
use tasker_integration_tests::{Mesh, Recorder};
use tasker_worker::{HandlerError, Registry, StepContext};
use tonic::Code;

const PATIENCE: Duration = Duration::from_secs(30);
/// A diamond with a side branch; each step adds its dependencies and the context's `n`.
const YAML: &str = "{namespace: reruns, name: diamond, version: 1.0.0, identity: strict, steps: [
    {name: top, handler: {callable: add}},
    {name: left, handler: {callable: add}, dependencies: [top]},
    {name: right, handler: {callable: add}, dependencies: [top]},
    {name: side, handler: {callable: add}, dependencies: [right]},
    {name: bottom, handler: {callable: add}, dependencies: [left, right]}]}";

in_both_shapes![
    a_rerun_keeps_what_does_not_follow_and_runs_the_rest_with_the_new_context,
    a_rerun_of_a_task_that_failed_begins_what_was_not_satisfied_anew,
    a_rerun_is_repeatable_by_its_request_and_needs_a_task_and_a_step,
    a_changed_context_is_held_to_the_templates_schema_and_leaves_nothing_behind,
    steps_that_run_again_are_held_to_what_their_template_asks_of_results,
];

fn bob() -> Operator {
    Operator::new("bob", "n was wrong")
}

fn adding() -> Registry {
    let mut handlers = Registry::new();
    handlers.register_fn("add", |step: StepContext| async move {
        let input: BTreeMap<String, i64> = step.input()?;
        let mut sum = input["n"];
        if sum < 0 && step.step_name() == "left" {
            return Err(HandlerError::permanent("negative", "n is negative"));
        }
        sum += step.dependencies::<i64>()?.into_values().sum::<i64>();
        Ok(sum)
    });
    handlers
}

fn json(text: &str) -> Payload {
    Payload { data: text.to_owned().into(), ..Payload::default() }
}

async fn run(client: &Client, n: i64, ends: TaskState) -> String {
    client.register_template(YAML).await.unwrap();
    let task = NewTask::of("reruns", "diamond").context(&serde_json::json!({"n": n})).unwrap();
    let task_id = client.create_task(task).await.unwrap().task_id;
    let task = client.wait_for_task(&task_id, PATIENCE).await.unwrap();
    assert_eq!(task.state(), ends);
    task_id
}

async fn results(client: &Client, task_id: &str) -> BTreeMap<String, String> {
    let mut results = BTreeMap::new();
    for name in ["top", "left", "right", "side", "bottom"] {
        let step = client.get_step(task_id, name).await.unwrap();
        let payload = step.result.and_then(|result| result.payload);
        let data = payload.map(|payload| String::from_utf8(payload.data.to_vec()).unwrap());
        results.insert(name.to_owned(), data.unwrap_or_default());
    }
    results
}

async fn a_rerun_keeps_what_does_not_follow_and_runs_the_rest_with_the_new_context(mesh: &Mesh) {
    let client = mesh.client();
    let ends = Recorder::default();
    let worker = mesh.worker(&["reruns"], &ends.of(&adding()));
    let older = run(&client, 1, TaskState::Complete).await;
    assert_eq!(ends.count(), 5);
    let before = results(&client, &older).await;
    assert_eq!(before["bottom"], "5");

    let context = Some(json(r#"{"n": 100}"#));
    let newer = client.rerun_task(&older, "left", context, &bob()).await.unwrap();
    assert_eq!(newer.template.unwrap().version, "1.0.0");
    let newer = newer.task_id;
    let task = client.wait_for_task(&newer, PATIENCE).await.unwrap();
    assert_eq!(task.state(), TaskState::Complete);
    let after = results(&client, &newer).await;
    for kept in ["top", "right", "side"] {
        assert_eq!(after[kept], before[kept], "{kept}");
    }
    // 100 and top's 1; 100, left's 101 and right's 2.
    assert_eq!((after["left"].as_str(), after["bottom"].as_str()), ("101", "203"));
    assert_eq!(ends.count(), 7, "only two steps ran again");
    assert_eq!(results(&client, &older).await, before, "the older task has changed");

    let shown = client.get_task(&newer).await.unwrap();
    assert_eq!((shown.rerun_of.as_str(), shown.requested_by.as_str()), (older.as_str(), "bob"));
    assert_eq!(shown.context.unwrap().data, r#"{"n": 100}"#);
    assert_eq!(client.get_task(&older).await.unwrap().reruns, std::slice::from_ref(&newer));
    let events: Vec<_> = client.watch_task(&newer).try_collect().await.unwrap();
    let by_hand = events.iter().filter(|event| event.actor == "operator:bob");
    // Start and ReadyStepsFound of the task, and three steps that are kept.
    assert_eq!(by_hand.count(), 5);
    worker.stop().await;
    let ledger = mesh.ledger().await;
    ledger.histories_hold().await;
    ledger.nothing_is_left().await;
}

async fn a_rerun_of_a_task_that_failed_begins_what_was_not_satisfied_anew(mesh: &Mesh) {
    let client = mesh.client();
    let worker = mesh.worker(&["reruns"], &adding());
    let older = run(&client, -1, TaskState::BlockedByFailures).await;
    let context = Some(json(r#"{"n": 1}"#));
    // From the side branch: what has failed elsewhere is not kept either.
    let newer = client.rerun_task(&older, "side", context, &bob()).await.unwrap().task_id;
    let task = client.wait_for_task(&newer, PATIENCE).await.unwrap();
    assert_eq!(task.state(), TaskState::Complete);
    let after = results(&client, &newer).await;
    let expected =
        [("top", "-1"), ("right", "-2"), ("left", "0"), ("side", "-1"), ("bottom", "-1")];
    for (name, result) in expected {
        assert_eq!(after[name], result, "{name}");
    }
    // The older stands as it stood, and may be repaired or cancelled.
    let left = client.get_step(&older, "left").await.unwrap();
    assert_eq!(left.state(), StepState::Error);
    worker.stop().await;
    mesh.ledger().await.histories_hold().await;
}

async fn a_rerun_is_repeatable_by_its_request_and_needs_a_task_and_a_step(mesh: &Mesh) {
    let client = mesh.client();
    let worker = mesh.worker(&["reruns"], &adding());
    let older = run(&client, 1, TaskState::Complete).await;
    let request = RerunTaskRequest {
        task_id: older.clone(),
        from_step: "bottom".to_owned(),
        context: None,
        request_id: "once".to_owned(),
        operator: "bob".to_owned(),
        reason: String::new(),
    };
    let (one, two) =
        tokio::join!(client.rerun_task_as(request.clone()), client.rerun_task_as(request.clone()));
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!(one, two);
    assert_eq!(client.rerun_task_as(request.clone()).await.unwrap(), one);
    let task = client.wait_for_task(&one.task_id, PATIENCE).await.unwrap();
    assert_eq!(task.state(), TaskState::Complete);
    // Without a context, with the older's.
    assert_eq!(results(&client, &one.task_id).await, results(&client, &older).await);

    let no_step = RerunTaskRequest { from_step: "nowhere".to_owned(), ..request.clone() };
    let refused = client.rerun_task_as(no_step).await.unwrap_err();
    assert_eq!((refused.code(), refused.reason()), (Code::NotFound, Some("STEP_NOT_FOUND")));
    let no_task = RerunTaskRequest { task_id: uuid::Uuid::now_v7().to_string(), ..request.clone() };
    let refused = client.rerun_task_as(no_task).await.unwrap_err();
    assert_eq!((refused.code(), refused.reason()), (Code::NotFound, Some("TASK_NOT_FOUND")));
    let wrong = RerunTaskRequest {
        from_step: String::new(),
        operator: String::new(),
        context: Some(json("{")),
        ..request
    };
    let refused = client.rerun_task_as(wrong).await.unwrap_err();
    let mut fields: Vec<_> = refused.violations().iter().map(|it| it.field.as_str()).collect();
    fields.sort_unstable();
    assert_eq!(fields, ["context.data", "from_step", "operator"]);
    worker.stop().await;
}

async fn a_changed_context_is_held_to_the_templates_schema_and_leaves_nothing_behind(mesh: &Mesh) {
    let client = mesh.client();
    let yaml = "{namespace: reruns, name: asks, version: 1.0.0, input_schema: {type: object,
        required: [n], properties: {n: {type: integer}}}, steps: [
        {name: top, handler: {callable: add}}]}";
    client.register_template(yaml).await.unwrap();
    let worker = mesh.worker(&["reruns"], &adding());
    let task = NewTask::of("reruns", "asks").context(&serde_json::json!({"n": 1})).unwrap();
    let older = client.create_task(task).await.unwrap().task_id;
    client.wait_for_task(&older, PATIENCE).await.unwrap();
    let ledger = mesh.ledger().await;
    ledger.until_completed(1, PATIENCE).await;
    let before = ledger.row_counts().await;
    for (context, field) in [(r#"{"n": "one"}"#, "context.n"), ("{}", "context")] {
        let refused = client.rerun_task(&older, "top", Some(json(context)), &bob()).await;
        let refused = refused.unwrap_err();
        assert_eq!(
            (refused.code(), refused.reason()),
            (Code::InvalidArgument, Some("INPUT_SCHEMA_VIOLATION"))
        );
        assert_eq!(refused.violations()[0].field, field);
    }
    assert_eq!(ledger.row_counts().await, before);
    let context = Some(json(r#"{"n": 2}"#));
    let newer = client.rerun_task(&older, "top", context, &bob()).await.unwrap().task_id;
    let task = client.wait_for_task(&newer, PATIENCE).await.unwrap();
    assert_eq!(task.state(), TaskState::Complete);
    worker.stop().await;
}

async fn steps_that_run_again_are_held_to_what_their_template_asks_of_results(mesh: &Mesh) {
    let client = mesh.client();
    let yaml = "{namespace: reruns, name: asked, version: 1.0.0, steps: [
        {name: top, handler: {callable: add}},
        {name: small, handler: {callable: add}, dependencies: [top], result_schema: {maximum: 10}},
        {name: told, handler: {callable: add}, dependencies: [top],
         publishes_events: [{name: it.is, condition: always}]}]}";
    client.register_template(yaml).await.unwrap();
    let worker = mesh.worker(&["reruns"], &adding());
    let task = NewTask::of("reruns", "asked").context(&serde_json::json!({"n": 1})).unwrap();
    let older = client.create_task(task).await.unwrap().task_id;
    assert_eq!(client.wait_for_task(&older, PATIENCE).await.unwrap().state(), TaskState::Complete);
    let ledger = mesh.ledger().await;
    let events = "SELECT count(*) FROM pgmq.q_reruns_domain_events";
    assert_eq!(ledger.number(events).await, 1);

    let context = || Some(json(r#"{"n": 100}"#));
    let newer = client.rerun_task(&older, "top", context(), &bob()).await.unwrap().task_id;
    let task = client.wait_for_task(&newer, PATIENCE).await.unwrap();
    assert_eq!(task.state(), TaskState::BlockedByFailures);
    let small = client.get_step(&newer, "small").await.unwrap();
    let error = small.result.unwrap().error.unwrap();
    assert_eq!(error.r#type, "RESULT_SCHEMA_VIOLATION");
    assert_eq!(ledger.number(events).await, 2);
    // What is kept has told its end before.
    let third = client.rerun_task(&older, "small", context(), &bob()).await.unwrap().task_id;
    let task = client.wait_for_task(&third, PATIENCE).await.unwrap();
    assert_eq!(task.state(), TaskState::BlockedByFailures);
    assert_eq!(ledger.number(events).await, 2);
    let other_kinds = "SELECT count(*) FROM steps JOIN tasks USING (task_id)
        JOIN template_steps AS declaration USING (template_id, ordinal)
        WHERE steps.plain <> declaration.plain";
    assert_eq!(ledger.number(other_kinds).await, 0);
    worker.stop().await;
    ledger.histories_hold().await;
}
