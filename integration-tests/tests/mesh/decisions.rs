//! A decision brings steps into being: those that it chooses, what follows from them, and nothing else.

use std::{collections::BTreeMap, time::Duration};

use futures::TryStreamExt as _;
use serde_json::{Value, json};
use tasker_client::{
    Client, NewTask,
    v1::{
        CreateSteps, Expansion, NoBranches, ResultVerdict, Step, StepResult, StepState, Task,
        TaskState, expanded, expansion::Outcome,
    },
};
use tasker_integration_tests::{Mesh, Service, Session, success, until};
use tasker_worker::{Batches, Decision, HandlerError, Registry, StepContext};

const PATIENCE: Duration = Duration::from_secs(60);

/// A decision between two ways of approval, one of them a diamond, that meet again.
const APPROVAL: &str = "{namespace: decisions, name: approval, version: 1.0.0, steps: [
    {name: check, handler: {callable: name}},
    {name: decide, type: decision, handler: {callable: decide}, dependencies: [check]},
    {name: approve, handler: {callable: name}, dependencies: [decide]},
    {name: review, handler: {callable: name}, dependencies: [decide]},
    {name: legal, handler: {callable: name}, dependencies: [review, check]},
    {name: finance, handler: {callable: name}, dependencies: [review]},
    {name: sign, handler: {callable: name}, dependencies: [legal, finance]},
    {name: finish, type: deferred_convergence, handler: {callable: gather},
     dependencies: [approve, sign]},
    {name: notify, handler: {callable: name}, dependencies: [finish]},
    {name: archive, type: deferred_convergence, handler: {callable: gather},
     dependencies: [check, finish]}]}";

in_both_shapes![
    a_decision_brings_what_it_chooses_and_nothing_else,
    a_decision_for_no_branches_goes_on_with_what_does_not_need_one,
    what_a_decision_cannot_create_fails_it_for_good,
    a_decision_must_decide_and_no_other_step_may,
    decisions_decide_about_decisions,
    a_decision_goes_no_further_than_its_limits,
];

/// Handlers: `name` gives the step's name, `decide` chooses what the task's context says for the step,
/// `gather` gives the results it was delivered.
fn handlers() -> Registry {
    let mut handlers = Registry::new();
    handlers
        .register_fn("name", |step: StepContext| async move { Ok(step.step_name().to_owned()) });
    handlers.register_fn("decide", |step: StepContext| async move {
        let choices: BTreeMap<String, Vec<String>> = step.input()?;
        Ok(Decision::create_steps(choices.get(step.step_name()).cloned().unwrap_or_default()))
    });
    handlers.register_fn("gather", |step: StepContext| async move { step.dependencies::<Value>() });
    handlers
}

async fn run(client: &Client, name: &str, choices: Value) -> Task {
    let task = NewTask::of("decisions", name).context(&choices).unwrap();
    let task_id = client.create_task(task).await.unwrap().task_id;
    client.wait_for_task(&task_id, PATIENCE).await.unwrap()
}

/// All steps of a task, by name.
async fn steps(client: &Client, task: &Task) -> BTreeMap<String, Step> {
    let steps: Vec<Step> = client.list_steps(&task.task_id).try_collect().await.unwrap();
    steps.into_iter().map(|step| (step.name.clone(), step)).collect()
}

async fn names(client: &Client, task: &Task) -> Vec<String> {
    steps(client, task).await.into_keys().collect()
}

async fn result(client: &Client, task: &Task, step: &str) -> Value {
    let step = client.get_step(&task.task_id, step).await.unwrap();
    serde_json::from_slice(&step.result.unwrap().payload.unwrap().data).unwrap()
}

/// What came into being by a step.
async fn chosen(client: &Client, task: &Task, step: &str) -> Option<expanded::Outcome> {
    client.get_step(&task.task_id, step).await.unwrap().expanded?.outcome
}

fn chose(steps: &[&str]) -> expanded::Outcome {
    let step_names = steps.iter().map(|step| (*step).to_owned()).collect();
    expanded::Outcome::CreateSteps(CreateSteps { step_names })
}

/// Why a step has failed for good.
async fn failure(client: &Client, task: &Task, step: &str) -> (String, String) {
    let step = client.get_step(&task.task_id, step).await.unwrap();
    assert_eq!((step.state(), step.attempt), (StepState::Error, 1), "{}", step.name);
    let error = step.result.unwrap().error.unwrap();
    assert!(!error.retryable);
    (error.r#type, error.message)
}

async fn a_decision_brings_what_it_chooses_and_nothing_else(mesh: &Mesh) {
    let client = mesh.client();
    client.register_template(APPROVAL).await.unwrap();
    let worker = mesh.worker(&["decisions"], &handlers());

    let small = run(&client, "approval", json!({"decide": ["approve"]})).await;
    assert_eq!(small.state(), TaskState::Complete);
    let expected = ["approve", "archive", "check", "decide", "finish", "notify"];
    assert_eq!(names(&client, &small).await, expected);
    // What converges is given what came into being.
    assert_eq!(result(&client, &small, "finish").await, json!({"approve": "approve"}));
    assert_eq!(small.steps.unwrap().total, 6);

    let large = run(&client, "approval", json!({"decide": ["review"]})).await;
    assert_eq!(large.state(), TaskState::Complete);
    let expected =
        ["archive", "check", "decide", "finance", "finish", "legal", "notify", "review", "sign"];
    assert_eq!(names(&client, &large).await, expected);
    assert_eq!(result(&client, &large, "finish").await, json!({"sign": "sign"}));

    let both = run(&client, "approval", json!({"decide": ["review", "approve"]})).await;
    assert_eq!(both.state(), TaskState::Complete);
    let expected = json!({"approve": "approve", "sign": "sign"});
    assert_eq!(result(&client, &both, "finish").await, expected);
    assert_eq!(chosen(&client, &both, "decide").await, Some(chose(&["review", "approve"])));
    assert_eq!(chosen(&client, &both, "check").await, None);
    assert!(steps(&client, &both).await.values().all(|step| step.expanded.is_none()));
    worker.stop().await;
    let ledger = mesh.ledger().await;
    ledger.every_task_has_completed_once(3).await;
    ledger.nothing_is_left().await;
}

async fn a_decision_for_no_branches_goes_on_with_what_does_not_need_one(mesh: &Mesh) {
    let client = mesh.client();
    client.register_template(APPROVAL).await.unwrap();
    let worker = mesh.worker(&["decisions"], &handlers());
    let task = run(&client, "approval", json!({})).await;
    assert_eq!(task.state(), TaskState::Complete);
    // Neither branch came, so nothing converges; the archive has another dependency.
    assert_eq!(names(&client, &task).await, ["archive", "check", "decide"]);
    assert_eq!(result(&client, &task, "archive").await, json!({"check": "check"}));
    let none = expanded::Outcome::NoBranches(NoBranches {});
    assert_eq!(chosen(&client, &task, "decide").await, Some(none));
    worker.stop().await;
    let ledger = mesh.ledger().await;
    ledger.every_task_has_completed_once(1).await;
    ledger.nothing_is_left().await;
}

async fn what_a_decision_cannot_create_fails_it_for_good(mesh: &Mesh) {
    let client = mesh.client();
    client.register_template(APPROVAL).await.unwrap();
    let worker = mesh.worker(&["decisions"], &handlers());
    for (choice, why) in [
        (
            json!(["approve", "ghost"]),
            r#""ghost" cannot be created: the template has no such step"#,
        ),
        (json!(["sign"]), "it does not depend on the decision directly"),
        (json!(["finish"]), "it comes by itself, and is not chosen"),
        (json!(["approve", "approve"]), "it is named twice"),
    ] {
        let task = run(&client, "approval", json!({"decide": choice})).await;
        assert_eq!(task.state(), TaskState::BlockedByFailures);
        let (kind, message) = failure(&client, &task, "decide").await;
        assert_eq!(kind, "UNREACHABLE_STEP");
        assert!(message.contains(why), "{message}");
        assert_eq!(names(&client, &task).await, ["check", "decide"]);
    }
    worker.stop().await;
    let ledger = mesh.ledger().await;
    ledger.histories_hold().await;
    ledger.nothing_is_left().await;
}

async fn a_decision_must_decide_and_no_other_step_may(mesh: &Mesh) {
    let client = mesh.client();
    let yaml = "{namespace: decisions, name: mixed_up, version: 1.0.0, steps: [
        {name: silent, type: decision, handler: {callable: name}},
        {name: planning, type: decision, handler: {callable: plan}},
        {name: deciding, handler: {callable: decide_anyway}},
        {name: branch, handler: {callable: name}, dependencies: [silent]},
        {name: other, handler: {callable: name}, dependencies: [planning]}]}";
    client.register_template(yaml).await.unwrap();
    let mut handlers = handlers();
    handlers.register_fn("plan", |_| async { Ok(Batches::of([1, 2])) });
    handlers.register_fn("decide_anyway", |_| async { Ok(Decision::no_branches()) });
    let worker = mesh.worker(&["decisions"], &handlers);
    let task = run(&client, "mixed_up", json!({})).await;
    assert_eq!(task.state(), TaskState::BlockedByFailures);
    for (step, expected) in [
        ("silent", "OUTCOME_MISSING"),
        ("planning", "OUTCOME_MISSING"),
        ("deciding", "OUTCOME_UNEXPECTED"),
    ] {
        assert_eq!(failure(&client, &task, step).await.0, expected, "{step}");
    }
    assert_eq!(task.steps.unwrap().total, 3);
    worker.stop().await;
    let ledger = mesh.ledger().await;
    ledger.histories_hold().await;
    ledger.nothing_is_left().await;
}

async fn decisions_decide_about_decisions(mesh: &Mesh) {
    let client = mesh.client();
    let yaml = "{namespace: decisions, name: nested, version: 1.0.0, steps: [
        {name: outer, type: decision, handler: {callable: decide}},
        {name: inner, type: decision, handler: {callable: decide}, dependencies: [outer]},
        {name: other, type: decision, handler: {callable: decide}, dependencies: [outer]},
        {name: left, handler: {callable: name}, dependencies: [inner]},
        {name: right, handler: {callable: name}, dependencies: [inner]},
        {name: join, handler: {callable: name}, dependencies: [left, right]},
        {name: both, handler: {callable: name}, dependencies: [inner, other]},
        {name: end, type: deferred_convergence, handler: {callable: gather},
         dependencies: [join, left, both]}]}";
    client.register_template(yaml).await.unwrap();
    let worker = mesh.worker(&["decisions"], &handlers());
    let cases = [
        (json!({}), json!(null)),
        (json!({"outer": ["inner"]}), json!(null)),
        (json!({"outer": ["inner"], "inner": ["left"]}), json!({"left": "left"})),
        // `both` needs the other decision, which does not come.
        (json!({"outer": ["inner"], "inner": ["both"]}), json!(null)),
        (json!({"outer": ["inner", "other"], "inner": ["both"]}), json!(null)),
        (
            json!({"outer": ["inner", "other"], "inner": ["both"], "other": ["both"]}),
            json!({"both": "both"}),
        ),
        (
            json!({"outer": ["inner", "other"], "inner": ["left", "right"]}),
            json!({"left": "left", "join": "join"}),
        ),
    ];
    for (choices, end) in &cases {
        let task = run(&client, "nested", choices.clone()).await;
        assert_eq!(task.state(), TaskState::Complete, "{choices}");
        if end.is_null() {
            assert!(!names(&client, &task).await.contains(&"end".to_owned()), "{choices}");
        } else {
            assert_eq!(result(&client, &task, "end").await, *end, "{choices}");
        }
    }
    worker.stop().await;
    let ledger = mesh.ledger().await;
    ledger.every_task_has_completed_once(cases.len()).await;
    ledger.nothing_is_left().await;
}

async fn a_decision_goes_no_further_than_its_limits(mesh: &Mesh) {
    let client = mesh.client();
    let worker = mesh.worker(&["decisions"], &handlers());
    let branch = |n| format!("{{name: b{n}, handler: {{callable: name}}, dependencies: [decide]}}");
    let branches: Vec<String> = (0..1_001).map(branch).collect();
    let wide = format!(
        "{{namespace: decisions, name: wide, version: 1.0.0, steps: [
        {{name: decide, type: decision, handler: {{callable: decide}}}}, {}]}}",
        branches.join(", ")
    );
    client.register_template(wide).await.unwrap();
    let choose = |count| json!({"decide": (0..count).map(|n| format!("b{n}")).collect::<Vec<_>>()});
    let task = run(&client, "wide", choose(1_000)).await;
    assert_eq!((task.state(), task.steps.unwrap().total), (TaskState::Complete, 1_001));
    let task = run(&client, "wide", choose(1_001)).await;
    assert_eq!(task.state(), TaskState::BlockedByFailures);
    let (kind, message) = failure(&client, &task, "decide").await;
    assert_eq!(kind, "TOO_MANY_STEPS");
    assert!(message.contains("1001 steps would come into being: at most 1000 may"), "{message}");

    let decision = |n: usize| {
        let after = if n == 0 { String::new() } else { format!("d{}", n - 1) };
        format!(
            "{{name: d{n}, type: decision, handler: {{callable: decide}}, dependencies: [{after}]}}"
        )
    };
    let decisions: Vec<String> = (0..21).map(decision).collect();
    let deep = format!(
        "{{namespace: decisions, name: deep, version: 1.0.0, steps: [{},
        {{name: last, handler: {{callable: name}}, dependencies: [d20]}}]}}",
        decisions.join(", ")
    );
    client.register_template(deep).await.unwrap();
    let all: BTreeMap<String, Vec<String>> =
        (0..20).map(|n| (format!("d{n}"), vec![format!("d{}", n + 1)])).collect();
    let mut twenty = all.clone();
    twenty.remove("d19");
    let task = run(&client, "deep", json!(twenty)).await;
    assert_eq!((task.state(), task.steps.unwrap().total), (TaskState::Complete, 20));
    let task = run(&client, "deep", json!(all)).await;
    assert_eq!(task.state(), TaskState::BlockedByFailures);
    assert_eq!(failure(&client, &task, "d19").await.0, "DECISIONS_TOO_DEEP");
    worker.stop().await;
    let ledger = mesh.ledger().await;
    ledger.histories_hold().await;
    ledger.nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_comes_while_its_parents_result_is_taken_does_not_wait_for_it() {
    let mesh = Mesh::setup().start().await;
    let (client, ledger) = (mesh.client(), mesh.ledger().await);
    let yaml = "{namespace: decisions, name: at_once, version: 1.0.0, steps: [
        {name: decide, type: decision, handler: {callable: decide}},
        {name: other, handler: {callable: other}},
        {name: both, handler: {callable: both}, dependencies: [decide, other]}]}";
    client.register_template(yaml).await.unwrap();
    client.create_task(NewTask::of("decisions", "at_once")).await.unwrap();
    let session = async |handler| {
        let hello = Session::hello(handler, "decisions", &[handler], 1);
        Session::open(mesh.channel().await, hello).await.unwrap()
    };
    let (mut decides, mut other) = (session("decide").await, session("other").await);
    let outcome = Some(Outcome::CreateSteps(CreateSteps { step_names: vec!["both".to_owned()] }));
    let decided = success(&decides.take().await.delivery_token, "1");
    let decided = StepResult { expansion: Some(Expansion { outcome }), ..decided };
    let done = success(&other.take().await.delivery_token, "2");
    // The decision has locked the task, and cannot write yet what it brings.
    let held = ledger.lock_table("LOCK TABLE step_expansions IN SHARE MODE").await;
    let decided = tokio::spawn(async move { decides.report(decided).await });
    ledger.until_waiting(1).await;
    let done = tokio::spawn(async move { other.report(done).await });
    ledger.until_waiting(2).await;
    held.rollback().await.unwrap();
    assert_eq!(decided.await.unwrap(), ResultVerdict::Committed);
    assert_eq!(done.await.unwrap(), ResultVerdict::Committed);
    let mut both = session("both").await;
    let delivery = both.take().await;
    let given: Vec<&String> = delivery.dependency_results.keys().collect();
    assert_eq!(given.len(), 2, "{given:?}");
    assert_eq!(both.report(success(&delivery.delivery_token, "3")).await, ResultVerdict::Committed);
    ledger.until_completed(1, PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decision_that_nobody_was_there_to_judge_is_taken_as_it_was() {
    let mesh = Mesh::setup().start().await;
    let client = mesh.client();
    client.register_template(APPROVAL).await.unwrap();
    let task = client.create_task(NewTask::of("decisions", "approval")).await.unwrap();
    let hello = Session::hello("worker", "decisions", &["name", "decide", "gather"], 1);
    let mut session = Session::open(mesh.channel().await, hello).await.unwrap();
    let check = session.take().await.delivery_token;
    assert_eq!(session.report(success(&check, "1")).await, ResultVerdict::Committed);
    let decide = session.take().await.delivery_token;
    mesh.kill(Service::ResultProcessor, 0);
    let step_names = vec!["approve".to_owned()];
    let outcome = Some(Outcome::CreateSteps(CreateSteps { step_names }));
    let decided = StepResult { expansion: Some(Expansion { outcome }), ..success(&decide, "2") };
    assert_eq!(session.report(decided.clone()).await, ResultVerdict::Committed);
    assert_eq!(session.report(decided).await, ResultVerdict::Duplicate);
    mesh.restart(Service::ResultProcessor, 0).await;
    for expected in ["approve", "finish", "notify", "archive"] {
        let delivery = session.take().await;
        if expected == "approve" {
            assert_eq!(delivery.step_name, expected);
        }
        let verdict = session.report(success(&delivery.delivery_token, "3")).await;
        assert_eq!(verdict, ResultVerdict::Committed);
    }
    let task = client.wait_for_task(&task.task_id, PATIENCE).await.unwrap();
    assert_eq!((task.state(), task.steps.unwrap().total), (TaskState::Complete, 6));
    session.drain().await;
    let ledger = mesh.ledger().await;
    ledger.every_task_has_completed_once(1).await;
    ledger.nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_are_expanded_once_though_result_processor_is_killed_again_and_again() {
    const TASKS: usize = 60;
    let mesh = Mesh::setup().with("step_enqueuer.session_ttl", "3s").start().await;
    let client = mesh.client();
    let yaml = "{namespace: decisions, name: killed, version: 1.0.0, steps: [
        {name: decide, type: decision, handler: {callable: decide}},
        {name: plan, type: batchable, handler: {callable: plan}, dependencies: [decide],
         batch_config: {parallelism: 2}},
        {name: work, type: batch_worker, handler: {callable: work}, dependencies: [plan]},
        {name: never, handler: {callable: name}, dependencies: [decide]},
        {name: sum, type: deferred_convergence, handler: {callable: gather},
         dependencies: [work, never]}]}";
    client.register_template(yaml).await.unwrap();
    let mut handlers = handlers();
    handlers.register_fn("plan", |_| async { Ok(Batches::of(0..5)) });
    handlers.register_fn("work", |step: StepContext| async move {
        Ok::<_, HandlerError>(step.cursor::<u32>()? * 10)
    });
    let worker = mesh.worker(&["decisions"], &handlers);
    let ledger = mesh.ledger().await;
    let choose = json!({"decide": ["plan"]});
    for _ in 0..TASKS {
        let task = NewTask::of("decisions", "killed").context(&choose).unwrap();
        client.create_task(task).await.unwrap();
    }
    for part in [1, 5, 15, 30, 45] {
        until("some tasks are complete", PATIENCE, async || {
            (ledger.completed().await >= part).then_some(())
        })
        .await;
        mesh.kill(Service::ResultProcessor, 0);
        mesh.restart(Service::ResultProcessor, 0).await;
    }
    ledger.until_completed(TASKS, PATIENCE).await;
    worker.stop().await;
    // Each with its decision, its plan, five workers and what waits for them.
    let steps = "SELECT count(*) FROM tasks WHERE total <> 8";
    assert_eq!(ledger.number(steps).await, 0);
    ledger.every_task_has_completed_once(TASKS).await;
    ledger.nothing_is_left().await;
}
