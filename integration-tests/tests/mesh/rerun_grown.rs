//! Tasks whose steps have come into being by decisions and plans run again: what is kept keeps what it has
//! brought, and what begins anew decides and plans again.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::TryStreamExt as _;
use serde_json::{Value, json};
use tasker_client::{
    Client, NewTask, Operator,
    v1::{Payload, Step, StepState, Task, TaskState},
};
use tasker_integration_tests::{Ledger, Mesh, Recorder};
use tasker_worker::{Batches, Decision, HandlerError, Registry, StepContext};
use tokio::sync::Barrier;
use tonic::Code;

const PATIENCE: Duration = Duration::from_secs(60);

/// A decision between two ways that meet again, with a step beside it.
const APPROVAL: &str = "{namespace: grown, name: approval, version: 1.0.0, steps: [
    {name: check, handler: {callable: name}},
    {name: other, handler: {callable: name}},
    {name: decide, type: decision, handler: {callable: decide}, dependencies: [check]},
    {name: approve, handler: {callable: name}, dependencies: [decide]},
    {name: review, handler: {callable: name}, dependencies: [decide]},
    {name: sign, handler: {callable: name}, dependencies: [review]},
    {name: finish, type: deferred_convergence, handler: {callable: gather},
     dependencies: [approve, sign, other]},
    {name: notify, handler: {callable: name}, dependencies: [finish]}]}";

in_both_shapes![
    a_decision_that_is_kept_keeps_what_it_chose_however_often_the_task_runs_again,
    a_decision_that_begins_anew_decides_again_and_nothing_it_had_brought_is_there_before,
    a_decision_that_had_failed_decides_again_wherever_the_task_runs_again_from,
    a_plan_that_is_kept_keeps_its_workers_and_those_that_failed_have_their_places_again,
    one_worker_of_a_batch_runs_again_by_its_name,
    a_plan_that_begins_anew_plans_again,
    a_failure_that_counts_as_done_is_kept_unless_what_went_on_without_it_runs_again,
];

fn eve() -> Operator {
    Operator::new("eve", "the rules have changed")
}

fn handlers() -> Registry {
    let mut handlers = Registry::new();
    handlers
        .register_fn("name", |step: StepContext| async move { Ok(step.step_name().to_owned()) });
    handlers.register_fn("decide", |step: StepContext| async move {
        Ok(Decision::create_steps(step.input::<Vec<String>>()?))
    });
    handlers.register_fn("gather", |step: StepContext| async move { step.dependencies::<Value>() });
    handlers.register_fn("plan", |step: StepContext| async move {
        Ok(Batches::of(0..step.input::<usize>()?))
    });
    handlers
}

fn payload(value: &Value) -> Option<Payload> {
    Some(Payload { data: value.to_string().into(), ..Payload::default() })
}

async fn run(client: &Client, name: &str, context: Value, ends: TaskState) -> Task {
    let task = NewTask::of("grown", name).context(&context).unwrap();
    let task_id = client.create_task(task).await.unwrap().task_id;
    ended(client, &task_id, ends).await
}

async fn ended(client: &Client, task_id: &str, state: TaskState) -> Task {
    let task = client.wait_for_task(task_id, PATIENCE).await.unwrap();
    assert_eq!(task.state(), state);
    task
}

async fn rerun(client: &Client, task: &Task, from: &str, context: Option<Payload>) -> Task {
    let again = client.rerun_task(&task.task_id, from, context, &eve()).await.unwrap();
    ended(client, &again.task_id, TaskState::Complete).await
}

async fn steps(client: &Client, task_id: &str) -> BTreeMap<String, Step> {
    let steps: Vec<Step> = client.list_steps(task_id).try_collect().await.unwrap();
    steps.into_iter().map(|step| (step.name.clone(), step)).collect()
}

async fn names(client: &Client, task_id: &str) -> Vec<String> {
    steps(client, task_id).await.into_keys().collect()
}

async fn result(client: &Client, task: &Task, step: &str) -> Value {
    let step = client.get_step(&task.task_id, step).await.unwrap();
    assert_eq!(step.state(), StepState::Complete, "{}", step.name);
    serde_json::from_slice(&step.result.unwrap().payload.unwrap().data).unwrap()
}

/// The steps of a task that have run, and not been kept.
fn ran(recorder: &Recorder, task: &Task) -> BTreeSet<String> {
    recorder.runs(&task.task_id).into_keys().collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

/// Nothing is left, and every task counts what its steps say.
async fn all_is_well(ledger: &Ledger) {
    ledger.histories_hold().await;
    ledger.nothing_is_left().await;
    let wrong = ledger.number(
        "SELECT count(*) FROM tasks JOIN (
            SELECT task_id, count(*) AS total, count(*) FILTER (WHERE steps.state = 'error'
                    AND NOT coalesce(passed_over, false)) AS failed,
                count(*) FILTER (WHERE steps.state IN ('complete', 'resolved_manually')
                    OR coalesce(passed_over, false)) AS satisfied
            FROM steps LEFT JOIN step_batches USING (task_id, ordinal)
            GROUP BY task_id) AS counted USING (task_id)
         WHERE (tasks.total, tasks.failed, tasks.satisfied)
                <> (counted.total, counted.failed, counted.satisfied)
            OR ready + in_flight + waiting_for_retry <> 0",
    );
    assert_eq!(wrong.await, 0, "tasks with wrong counts");
}

async fn a_decision_that_is_kept_keeps_what_it_chose_however_often_the_task_runs_again(
    mesh: &Mesh,
) {
    let client = mesh.client();
    client.register_template(APPROVAL).await.unwrap();
    let recorder = Recorder::default();
    let worker = mesh.worker(&["grown"], &recorder.of(&handlers()));
    let first = run(&client, "approval", json!(["review"]), TaskState::Complete).await;
    let all = names(&client, &first.task_id).await;

    // Whatever the new context would have it decide.
    let second = rerun(&client, &first, "sign", payload(&json!(["approve"]))).await;
    assert_eq!(names(&client, &second.task_id).await, all);
    assert_eq!(ran(&recorder, &second), set(&["sign", "finish", "notify"]));
    let joined = json!({"sign": "sign", "other": "other"});
    assert_eq!(result(&client, &second, "finish").await, joined);
    assert_eq!(second.steps.unwrap().total, first.steps.unwrap().total);

    // What the decision said is kept with it: from a step beside it, and from the one that it chose.
    let third = rerun(&client, &second, "other", None).await;
    assert_eq!(ran(&recorder, &third), set(&["other", "finish", "notify"]));
    let fourth = rerun(&client, &third, "review", None).await;
    assert_eq!(ran(&recorder, &fourth), set(&["review", "sign", "finish", "notify"]));
    assert_eq!(names(&client, &fourth.task_id).await, all);
    assert_eq!(result(&client, &fourth, "finish").await, joined);

    // A step that has not come into being is none to run again from.
    let refused = client.rerun_task(&fourth.task_id, "approve", None, &eve()).await.unwrap_err();
    assert_eq!((refused.code(), refused.reason()), (Code::NotFound, Some("STEP_NOT_FOUND")));
    worker.stop().await;
    let ledger = mesh.ledger().await;
    assert_eq!(ledger.completed().await, 4);
    all_is_well(&ledger).await;
}

async fn a_decision_that_begins_anew_decides_again_and_nothing_it_had_brought_is_there_before(
    mesh: &Mesh,
) {
    let client = mesh.client();
    client.register_template(APPROVAL).await.unwrap();
    let recorder = Recorder::default();
    let worker = mesh.worker(&["grown"], &recorder.of(&handlers()));
    let older = run(&client, "approval", json!(["review"]), TaskState::Complete).await;
    let again = rerun(&client, &older, "check", payload(&json!(["approve"]))).await;
    let expected = ["approve", "check", "decide", "finish", "notify", "other"];
    assert_eq!(names(&client, &again.task_id).await, expected);
    assert_eq!(
        result(&client, &again, "finish").await,
        json!({"approve": "approve", "other": "other"})
    );
    assert_eq!(ran(&recorder, &again), set(&["check", "decide", "approve", "finish", "notify"]));
    worker.stop().await;

    // With nobody there to decide.
    let waits = client.rerun_task(&older.task_id, "decide", None, &eve()).await.unwrap().task_id;
    assert_eq!(names(&client, &waits).await, ["check", "decide", "other"]);
    let counts = client.get_task(&waits).await.unwrap().steps.unwrap();
    assert_eq!((counts.total, counts.satisfied), (3, 2));
    let worker = mesh.worker(&["grown"], &handlers());
    let task = ended(&client, &waits, TaskState::Complete).await;
    assert_eq!(names(&client, &waits).await, names(&client, &older.task_id).await);
    assert_eq!(result(&client, &task, "finish").await, json!({"sign": "sign", "other": "other"}));
    worker.stop().await;
    all_is_well(&mesh.ledger().await).await;
}

async fn a_decision_that_had_failed_decides_again_wherever_the_task_runs_again_from(mesh: &Mesh) {
    let client = mesh.client();
    let yaml = "{namespace: grown, name: failed, version: 1.0.0, steps: [
        {name: check, handler: {callable: name}},
        {name: aside, handler: {callable: name}},
        {name: decide, type: decision, handler: {callable: decide}, dependencies: [check]},
        {name: approve, handler: {callable: name}, dependencies: [decide]},
        {name: finish, type: deferred_convergence, handler: {callable: gather},
         dependencies: [approve, check]}]}";
    client.register_template(yaml).await.unwrap();
    let recorder = Recorder::default();
    let worker = mesh.worker(&["grown"], &recorder.of(&handlers()));
    let older = run(&client, "failed", json!(["ghost"]), TaskState::BlockedByFailures).await;
    let again = rerun(&client, &older, "aside", payload(&json!([]))).await;
    assert_eq!(ran(&recorder, &again), set(&["aside", "decide", "finish"]));
    assert_eq!(result(&client, &again, "finish").await, json!({"check": "check"}));
    worker.stop().await;
    all_is_well(&mesh.ledger().await).await;
}

async fn register_batch(client: &Client, name: &str, config: &str) {
    let yaml = format!(
        "{{namespace: grown, name: {name}, version: 1.0.0, steps: [
        {{name: plan, type: batchable, handler: {{callable: plan}}, batch_config: {{{config}}}}},
        {{name: work, type: batch_worker, handler: {{callable: work}}, dependencies: [plan],
         retry: {{retryable: false}}}},
        {{name: sum, type: deferred_convergence, handler: {{callable: sum}}, dependencies: [work]}},
        {{name: tell, handler: {{callable: name}}, dependencies: [sum]}}]}}"
    );
    client.register_template(yaml).await.unwrap();
}

/// Workers that give their cursors, but while `broken`: then all fail from the second on.
fn batch_handlers(broken: &Arc<AtomicBool>) -> Registry {
    let mut handlers = handlers();
    let broken = broken.clone();
    handlers.register_fn("work", move |step: StepContext| {
        let fails = broken.load(Ordering::SeqCst);
        async move {
            match step.cursor::<u32>()? {
                0 => Ok(0),
                _ if fails => Err(HandlerError::permanent("bad_row", "it cannot be read")),
                cursor => Ok(cursor),
            }
        }
    });
    handlers.register_fn("sum", |step: StepContext| async move {
        let failed: Vec<_> = step.failures().keys().cloned().collect();
        Ok(json!({"done": step.dependencies::<Value>()?, "failed": failed}))
    });
    handlers
}

async fn a_plan_that_is_kept_keeps_its_workers_and_those_that_failed_have_their_places_again(
    mesh: &Mesh,
) {
    const AT_ONCE: usize = 2;
    let client = mesh.client();
    register_batch(&client, "parallel", "parallelism: 2, failure_strategy: isolate").await;
    let broken = Arc::new(AtomicBool::new(true));
    let worker = mesh.worker(&["grown"], &batch_handlers(&broken));
    let older = run(&client, "parallel", json!(7), TaskState::BlockedByFailures).await;
    assert_eq!(older.steps.unwrap().failed, 6);
    worker.stop().await;

    // Nobody passes until two are there: with fewer at once, the task would never end.
    let together = Arc::new(Barrier::new(AT_ONCE));
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut mended = batch_handlers(&broken);
    let peak = most.clone();
    mended.register_fn("work", move |step: StepContext| {
        let (together, running, peak) = (together.clone(), running.clone(), peak.clone());
        async move {
            let now = running.fetch_add(1, Ordering::SeqCst) + 1;
            peak.fetch_max(now, Ordering::SeqCst);
            together.wait().await;
            running.fetch_sub(1, Ordering::SeqCst);
            step.cursor::<u32>()
        }
    });
    let recorder = Recorder::default();
    let worker = mesh.worker(&["grown"], &recorder.of(&mended));
    let refused = client.rerun_task(&older.task_id, "work", None, &eve()).await.unwrap_err();
    assert_eq!(refused.reason(), Some("STEP_NOT_FOUND"));
    let again = rerun(&client, &older, "sum", payload(&json!(1))).await;
    assert_eq!(most.load(Ordering::SeqCst), AT_ONCE);
    let workers = (2..=7).map(|batch| format!("work_{batch}"));
    let expected: BTreeSet<String> = workers.chain(["sum".to_owned(), "tell".to_owned()]).collect();
    assert_eq!(ran(&recorder, &again), expected);
    let done = result(&client, &again, "sum").await["done"].clone();
    let expected: BTreeMap<String, u32> =
        (0..7).map(|cursor| (format!("work_{}", cursor + 1), cursor)).collect();
    assert_eq!(done, json!(expected));
    worker.stop().await;
    all_is_well(&mesh.ledger().await).await;
}

async fn one_worker_of_a_batch_runs_again_by_its_name(mesh: &Mesh) {
    let client = mesh.client();
    register_batch(&client, "one", "parallelism: 1").await;
    let recorder = Recorder::default();
    let worker = mesh.worker(&["grown"], &recorder.of(&batch_handlers(&Arc::default())));
    let older = run(&client, "one", json!(4), TaskState::Complete).await;
    let again = rerun(&client, &older, "work_3", None).await;
    assert_eq!(ran(&recorder, &again), set(&["work_3", "sum", "tell"]));
    assert_eq!(names(&client, &again.task_id).await, names(&client, &older.task_id).await);
    let sum = result(&client, &older, "sum").await;
    assert_eq!(result(&client, &again, "sum").await, sum);
    let step = client.get_step(&again.task_id, "work_3").await.unwrap();
    assert_eq!((step.attempt, step.handler.as_str()), (1, "work"));
    worker.stop().await;
    all_is_well(&mesh.ledger().await).await;
}

async fn a_plan_that_begins_anew_plans_again(mesh: &Mesh) {
    let client = mesh.client();
    register_batch(&client, "anew", "parallelism: 2").await;
    let worker = mesh.worker(&["grown"], &batch_handlers(&Arc::default()));
    let older = run(&client, "anew", json!(5), TaskState::Complete).await;
    let again = rerun(&client, &older, "plan", payload(&json!(2))).await;
    assert_eq!(names(&client, &again.task_id).await, ["plan", "sum", "tell", "work_1", "work_2"]);
    let done = json!({"work_1": 0, "work_2": 1});
    assert_eq!(result(&client, &again, "sum").await["done"], done);
    worker.stop().await;
    all_is_well(&mesh.ledger().await).await;
}

async fn a_failure_that_counts_as_done_is_kept_unless_what_went_on_without_it_runs_again(
    mesh: &Mesh,
) {
    let client = mesh.client();
    register_batch(&client, "goes_on", "failure_strategy: continue_on_failure").await;
    let (broken, recorder) = (Arc::new(AtomicBool::new(true)), Recorder::default());
    let worker = mesh.worker(&["grown"], &recorder.of(&batch_handlers(&broken)));
    let older = run(&client, "goes_on", json!(3), TaskState::Complete).await;
    broken.store(false, Ordering::SeqCst);

    let told = rerun(&client, &older, "tell", None).await;
    assert_eq!(ran(&recorder, &told), set(&["tell"]));
    let counts = told.steps.unwrap();
    assert_eq!((counts.failed, counts.satisfied, counts.total), (0, 6, 6));
    let kept = client.get_step(&told.task_id, "work_2").await.unwrap();
    assert_eq!(kept.state(), StepState::Error);
    assert_eq!(kept.result.unwrap().error.unwrap().r#type, "bad_row");

    let summed = rerun(&client, &told, "sum", None).await;
    assert_eq!(ran(&recorder, &summed), set(&["work_2", "work_3", "sum", "tell"]));
    let expected = json!({"done": {"work_1": 0, "work_2": 1, "work_3": 2}, "failed": []});
    assert_eq!(result(&client, &summed, "sum").await, expected);
    worker.stop().await;
    all_is_well(&mesh.ledger().await).await;
}
