//! Operators settle decisions and plans by saying what comes into being, as a worker would have said it.

use std::time::Duration;

use futures::TryStreamExt as _;
use serde_json::{Value, json};
use tasker_client::{
    Client, Error, NewTask, Operator,
    v1::{
        CreateBatches, CreateSteps, Expansion, NoBatches, NoBranches, Payload, Remedy,
        ResultVerdict, Step, StepState, Task, TaskState, expansion::Outcome,
    },
};
use tasker_integration_tests::{Ledger, Mesh, Session, failure, success};
use tasker_worker::{Decision, HandlerError, Registry, StepContext};
use tonic::Code;

const PATIENCE: Duration = Duration::from_secs(60);
const DECISION: &str = "{namespace: by_hand, name: decision, version: 1.0.0, steps: [
    {name: decide, type: decision, handler: {callable: decide}, retry: {retryable: false},
     result_schema: {type: object}},
    {name: left, handler: {callable: name}, dependencies: [decide]},
    {name: right, handler: {callable: name}, dependencies: [decide]},
    {name: after, handler: {callable: name}, dependencies: [right]},
    {name: join, type: deferred_convergence, handler: {callable: gather}, dependencies: [left, after]}]}";
const PLAN: &str = "{namespace: by_hand, name: plan, version: 1.0.0, steps: [
    {name: plan, type: batchable, handler: {callable: fail}, retry: {retryable: false},
     batch_config: {parallelism: 2, max_batches: 3}},
    {name: work, type: batch_worker, handler: {callable: work}, dependencies: [plan]},
    {name: sum, type: deferred_convergence, handler: {callable: gather}, dependencies: [work]}]}";

in_both_shapes![
    a_decision_is_completed_by_hand_with_the_steps_that_it_brings,
    a_decision_that_a_worker_holds_is_taken_from_it,
    a_decision_of_a_task_that_was_given_up_brings_its_steps_into_a_task_that_goes_on,
    a_plan_is_completed_by_hand_with_its_batches,
    what_cannot_come_into_being_is_refused_and_leaves_nothing_behind,
    a_step_that_stands_or_has_ended_with_its_task_says_so_whatever_it_is_completed_with,
    a_decision_or_plan_is_not_resolved_and_told_what_to_do_instead,
];

fn finn() -> Operator {
    Operator::new("finn", "decided by telephone")
}

fn handlers() -> Registry {
    let mut handlers = Registry::new();
    handlers
        .register_fn("name", |step: StepContext| async move { Ok(step.step_name().to_owned()) });
    handlers.register_fn("decide", |step: StepContext| async move {
        match step.input::<String>()?.as_str() {
            "fail" => Err(HandlerError::permanent("unsure", "nobody knows")),
            chosen => Ok(Decision::create_steps([chosen])),
        }
    });
    handlers.register_fn("fail", |_| async {
        Err::<(), _>(HandlerError::permanent("no_rows", "the table is locked"))
    });
    handlers.register_fn("work", |step: StepContext| async move {
        Ok(json!([step.batch_id(), step.cursor::<Value>().ok(), step.is_no_op()]))
    });
    handlers.register_fn("gather", |step: StepContext| async move { step.dependencies::<Value>() });
    handlers
}

fn json_of(value: &Value) -> Payload {
    Payload { data: value.to_string().into(), ..Payload::default() }
}

fn create(names: &[&str]) -> Expansion {
    let step_names = names.iter().map(|&name| name.to_owned()).collect();
    Expansion { outcome: Some(Outcome::CreateSteps(CreateSteps { step_names })) }
}

fn batches(cursors: &[Value]) -> Expansion {
    let cursors = cursors.iter().map(json_of).collect();
    Expansion { outcome: Some(Outcome::CreateBatches(CreateBatches { cursors })) }
}

async fn submit(client: &Client, yaml: &str, context: &Value) -> String {
    let template = client.register_template(yaml).await.unwrap().r#ref.unwrap();
    let task = NewTask::of(template.namespace, template.name).context(context).unwrap();
    client.create_task(task).await.unwrap().task_id
}

async fn ends(client: &Client, task_id: &str, state: TaskState) -> Task {
    let task = client.wait_for_task(task_id, PATIENCE).await.unwrap();
    assert_eq!(task.state(), state);
    task
}

async fn complete(
    client: &Client,
    task_id: &str,
    step: &str,
    said: Expansion,
) -> Result<Step, Error> {
    client.complete_step_with(task_id, step, json_of(&json!({})), said, &finn()).await
}

async fn names(client: &Client, task_id: &str) -> Vec<String> {
    let steps: Vec<Step> = client.list_steps(task_id).try_collect().await.unwrap();
    steps.into_iter().map(|step| step.name).collect()
}

async fn result(client: &Client, task_id: &str, step: &str) -> Value {
    let step = client.get_step(task_id, step).await.unwrap();
    serde_json::from_slice(&step.result.unwrap().payload.unwrap().data).unwrap()
}

/// Nothing is left, and every task counts what its steps say.
async fn all_is_well(ledger: &Ledger) {
    ledger.histories_hold().await;
    ledger.nothing_is_left().await;
    let wrong = ledger.number(
        "SELECT count(*) FROM tasks JOIN (
            SELECT task_id, count(*) AS total,
                count(*) FILTER (WHERE state IN ('complete', 'resolved_manually')) AS satisfied
            FROM steps GROUP BY task_id) AS counted USING (task_id)
         WHERE (tasks.total, tasks.satisfied) <> (counted.total, counted.satisfied)
            OR ready + in_flight + waiting_for_retry <> 0",
    );
    assert_eq!(wrong.await, 0, "tasks with wrong counts");
}

async fn a_decision_is_completed_by_hand_with_the_steps_that_it_brings(mesh: &Mesh) {
    let client = mesh.client();
    let worker = mesh.worker(&["by_hand"], &handlers());
    let task_id = submit(&client, DECISION, &json!("fail")).await;
    ends(&client, &task_id, TaskState::BlockedByFailures).await;
    let step = complete(&client, &task_id, "decide", create(&["right"])).await.unwrap();
    assert_eq!(step.state(), StepState::Complete);
    let task = ends(&client, &task_id, TaskState::Complete).await;
    assert_eq!(names(&client, &task_id).await, ["decide", "right", "after", "join"]);
    assert_eq!(result(&client, &task_id, "join").await, json!({"after": "after"}));
    assert_eq!(task.steps.unwrap().total, 4);

    let task_id = submit(&client, DECISION, &json!("fail")).await;
    ends(&client, &task_id, TaskState::BlockedByFailures).await;
    let nothing = Expansion { outcome: Some(Outcome::NoBranches(NoBranches {})) };
    complete(&client, &task_id, "decide", nothing).await.unwrap();
    ends(&client, &task_id, TaskState::Complete).await;
    assert_eq!(names(&client, &task_id).await, ["decide"]);
    // What was chosen by hand is kept where the task runs again.
    let task_id = submit(&client, DECISION, &json!("fail")).await;
    ends(&client, &task_id, TaskState::BlockedByFailures).await;
    complete(&client, &task_id, "decide", create(&["left", "right"])).await.unwrap();
    ends(&client, &task_id, TaskState::Complete).await;
    let again = client.rerun_task(&task_id, "after", None, &finn()).await.unwrap().task_id;
    ends(&client, &again, TaskState::Complete).await;
    assert_eq!(names(&client, &again).await, ["decide", "left", "right", "after", "join"]);
    worker.stop().await;
    all_is_well(&mesh.ledger().await).await;
}

async fn a_decision_that_a_worker_holds_is_taken_from_it(mesh: &Mesh) {
    let client = mesh.client();
    let task_id = submit(&client, DECISION, &json!("left")).await;
    let hello = Session::hello("worker", "by_hand", &["decide", "name", "gather"], 1);
    let mut session = Session::open(mesh.channel().await, hello).await.unwrap();
    let token = session.take().await.delivery_token;
    complete(&client, &task_id, "decide", create(&["right"])).await.unwrap();
    assert_eq!(session.cancelled().await, std::slice::from_ref(&token));
    let late = tasker_client::v1::StepResult {
        expansion: Some(create(&["left"])),
        ..success(&token, "{}")
    };
    for expected in ["right", "after", "join"] {
        let delivery = session.take().await;
        assert_eq!(delivery.step_name, expected);
        assert_eq!(session.report(late.clone()).await, ResultVerdict::LeaseLost);
        let verdict = session.report(success(&delivery.delivery_token, "1")).await;
        assert_eq!(verdict, ResultVerdict::Committed);
    }
    ends(&client, &task_id, TaskState::Complete).await;
    assert_eq!(names(&client, &task_id).await, ["decide", "right", "after", "join"]);
    session.drain().await;
    all_is_well(&mesh.ledger().await).await;
}

async fn a_decision_of_a_task_that_was_given_up_brings_its_steps_into_a_task_that_goes_on(
    mesh: &Mesh,
) {
    let client = mesh.client();
    let worker = mesh.worker(&["by_hand"], &handlers());
    for (yaml, step, said, total) in [
        (DECISION, "decide", create(&["left"]), 3),
        (PLAN, "plan", batches(&[json!(1), json!(2), json!(3)]), 5),
    ] {
        let task_id = submit(&client, yaml, &json!("fail")).await;
        ends(&client, &task_id, TaskState::BlockedByFailures).await;
        client.give_up_task(&task_id, &finn()).await.unwrap();
        complete(&client, &task_id, step, said).await.unwrap();
        let task = ends(&client, &task_id, TaskState::Complete).await;
        assert_eq!(task.steps.unwrap().total, total, "{step}");
    }
    worker.stop().await;
    all_is_well(&mesh.ledger().await).await;
}

async fn a_plan_is_completed_by_hand_with_its_batches(mesh: &Mesh) {
    let client = mesh.client();
    let worker = mesh.worker(&["by_hand"], &handlers());
    let task_id = submit(&client, PLAN, &json!(0)).await;
    ends(&client, &task_id, TaskState::BlockedByFailures).await;
    let said = batches(&[json!("a"), json!({"b": 1}), json!("c")]);
    complete(&client, &task_id, "plan", said).await.unwrap();
    ends(&client, &task_id, TaskState::Complete).await;
    let expected = json!({
        "work_1": ["1", "a", false], "work_2": ["2", {"b": 1}, false], "work_3": ["3", "c", false]
    });
    assert_eq!(result(&client, &task_id, "sum").await, expected);

    let task_id = submit(&client, PLAN, &json!(0)).await;
    ends(&client, &task_id, TaskState::BlockedByFailures).await;
    let nothing = Expansion { outcome: Some(Outcome::NoBatches(NoBatches {})) };
    complete(&client, &task_id, "plan", nothing).await.unwrap();
    ends(&client, &task_id, TaskState::Complete).await;
    let expected = json!({"work_1": ["1", null, true]});
    assert_eq!(result(&client, &task_id, "sum").await, expected);

    // As large as a worker's may be: the result and what is planned come in one message.
    let task_id = submit(&client, PLAN, &json!(0)).await;
    ends(&client, &task_id, TaskState::BlockedByFailures).await;
    let large = json_of(&json!("x".repeat(4_000_000)));
    let cursor = json!("y".repeat(1_000_000));
    let said = batches(std::slice::from_ref(&cursor));
    client.complete_step_with(&task_id, "plan", large, said, &finn()).await.unwrap();
    ends(&client, &task_id, TaskState::Complete).await;
    let expected = json!({"work_1": ["1", cursor, false]});
    assert_eq!(result(&client, &task_id, "sum").await, expected);
    worker.stop().await;
    all_is_well(&mesh.ledger().await).await;
}

async fn what_cannot_come_into_being_is_refused_and_leaves_nothing_behind(mesh: &Mesh) {
    let client = mesh.client();
    let worker = mesh.worker(&["by_hand"], &handlers());
    let decision = submit(&client, DECISION, &json!("fail")).await;
    let plan = submit(&client, PLAN, &json!(0)).await;
    for task_id in [&decision, &plan] {
        ends(&client, task_id, TaskState::BlockedByFailures).await;
    }
    let ledger = mesh.ledger().await;
    let before = ledger.row_counts().await;
    let cases = [
        (&decision, "decide", create(&["ghost"]), "UNREACHABLE_STEP", "no such step"),
        (&decision, "decide", create(&["after"]), "UNREACHABLE_STEP", "depend on the decision"),
        (&decision, "decide", create(&["left", "left"]), "UNREACHABLE_STEP", "named twice"),
        (&decision, "decide", batches(&[json!(1)]), "OUTCOME_MISSING", "create_steps"),
        (&plan, "plan", create(&["work"]), "OUTCOME_MISSING", "create_batches"),
        (
            &plan,
            "plan",
            batches(&[json!(1), json!(2), json!(3), json!(4)]),
            "TOO_MANY_BATCHES",
            "max_batches",
        ),
        (&plan, "plan", batches(&[]), "INVALID_ARGUMENT", "no_batches"),
        (&plan, "plan", Expansion { outcome: None }, "INVALID_ARGUMENT", "says nothing"),
    ];
    for (task_id, step, said, reason, why) in cases {
        let refused = complete(&client, task_id, step, said).await.unwrap_err();
        assert_eq!((refused.code(), refused.reason()), (Code::InvalidArgument, Some(reason)));
        let violations = refused.violations();
        assert!(violations[0].field.starts_with("expansion"), "{violations:?}");
        assert!(violations[0].description.contains(why), "{violations:?}");
    }
    // Without saying anything; and the result is held to its schema all the same.
    let silent = client.complete_step(&plan, "plan", json_of(&json!({})), &finn()).await;
    assert_eq!(silent.unwrap_err().reason(), Some("OUTCOME_MISSING"));
    let wrong = json_of(&json!(1));
    let refused =
        client.complete_step_with(&decision, "decide", wrong, create(&["left"]), &finn()).await;
    assert_eq!(refused.unwrap_err().reason(), Some("RESULT_SCHEMA_VIOLATION"));
    assert_eq!(ledger.row_counts().await, before);
    for (task_id, step) in [(&decision, "decide"), (&plan, "plan")] {
        let step = client.get_step(task_id, step).await.unwrap();
        assert_eq!(step.state(), StepState::Error);
    }

    // What is decided stands.
    complete(&client, &decision, "decide", create(&["left"])).await.unwrap();
    ends(&client, &decision, TaskState::Complete).await;
    let ended = complete(&client, &decision, "decide", create(&["right"])).await.unwrap_err();
    assert_eq!((ended.code(), ended.reason()), (Code::FailedPrecondition, Some("TASK_ENDED")));
    assert_eq!(names(&client, &decision).await, ["decide", "left", "join"]);
    worker.stop().await;
    ledger.histories_hold().await;
    ledger.nothing_is_left().await;
}

async fn a_step_that_stands_or_has_ended_with_its_task_says_so_whatever_it_is_completed_with(
    mesh: &Mesh,
) {
    let client = mesh.client();
    let decision = submit(&client, DECISION, &json!("left")).await;
    let plan = submit(&client, PLAN, &json!(0)).await;
    complete(&client, &decision, "decide", create(&["left"])).await.unwrap();
    complete(&client, &plan, "plan", batches(&[json!(1)])).await.unwrap();
    let ledger = mesh.ledger().await;
    let refused = async |reason| {
        let before = ledger.row_counts().await;
        let wrong = json_of(&json!(1));
        let said = create(&["left"]);
        let tries = [
            client.complete_step(&decision, "decide", json_of(&json!({})), &finn()).await,
            client.complete_step_with(&decision, "decide", wrong, said, &finn()).await,
            complete(&client, &decision, "decide", create(&["ghost"])).await,
            client.complete_step(&plan, "plan", json_of(&json!({})), &finn()).await,
            complete(&client, &plan, "plan", create(&["work"])).await,
        ];
        for tried in tries {
            let refused = tried.unwrap_err();
            assert_eq!(
                (refused.code(), refused.reason()),
                (Code::FailedPrecondition, Some(reason))
            );
        }
        assert_eq!(ledger.row_counts().await, before);
    };
    refused("STEP_STANDS").await;
    // Where the step allows it, what is said decides: it neither decides nor plans.
    let unexpected = complete(&client, &decision, "left", create(&["join"])).await.unwrap_err();
    assert_eq!(
        (unexpected.code(), unexpected.reason()),
        (Code::InvalidArgument, Some("OUTCOME_UNEXPECTED"))
    );
    for task_id in [&decision, &plan] {
        client.cancel_task(task_id, &finn()).await.unwrap();
    }
    refused("TASK_ENDED").await;
    let ended = complete(&client, &decision, "left", create(&["join"])).await.unwrap_err();
    assert_eq!(ended.reason(), Some("TASK_ENDED"));
}

async fn a_decision_or_plan_is_not_resolved_and_told_what_to_do_instead(mesh: &Mesh) {
    let client = mesh.client();
    let task_id = submit(&client, DECISION, &json!("left")).await;
    let hello = Session::hello("worker", "by_hand", &["decide"], 1);
    let mut session = Session::open(mesh.channel().await, hello).await.unwrap();
    let token = session.take().await.delivery_token;
    let told = |refused: &Error| {
        assert_eq!(
            (refused.code(), refused.reason()),
            (Code::FailedPrecondition, Some("OUTCOME_NEEDED"))
        );
        let message = refused.to_string();
        assert!(message.contains("CompleteStep") && message.contains("ResetStep"), "{message}");
        refused.failure().unwrap().metadata["step"].clone()
    };
    let refused = client.resolve_step(&task_id, "decide", &finn()).await.unwrap_err();
    assert_eq!(told(&refused), "decide");
    // The worker still has it.
    let verdict = session.report(failure(&token, "no", false)).await;
    assert_eq!(verdict, ResultVerdict::Committed);
    ends(&client, &task_id, TaskState::BlockedByFailures).await;
    let refused = client.repair_task(&task_id, Remedy::Resolve, &finn()).await.unwrap_err();
    assert_eq!(told(&refused), "decide");
    session.drain().await;
    // Either way that it names leads on.
    client.reset_step(&task_id, "decide", &finn()).await.unwrap();
    complete(&client, &task_id, "decide", create(&["left"])).await.unwrap();
    let worker = mesh.worker(&["by_hand"], &handlers());
    ends(&client, &task_id, TaskState::Complete).await;
    worker.stop().await;
    all_is_well(&mesh.ledger().await).await;
}
