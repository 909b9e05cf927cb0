//! What a task worked on and came to is purged some time after its end: then it says so, and nothing that
//! would need it is begun.

use std::{collections::BTreeMap, time::Duration};

use futures::TryStreamExt as _;
use tasker_client::{
    Client, Error, NewTask, Operator,
    v1::{
        Expansion, NoBranches, Payload, Remedy, RepairTasksRequest, RepairTasksResponse, StepState,
        TaskState, expansion::Outcome,
    },
};
use tasker_integration_tests::{Mesh, Session, Setup, failure, success, until};
use tonic::Code;

const PATIENCE: Duration = Duration::from_secs(30);
const YAML: &str = "{namespace: purged, name: two, version: 1.0.0, steps: [
    {name: first, handler: {callable: work}},
    {name: second, handler: {callable: work}, dependencies: [first], retry: {retryable: false},
     result_schema: {type: integer}}]}";

in_both_shapes![
    set up by quick_to_forget;
    a_task_that_is_purged_is_neither_repaired_nor_run_again_and_says_why,
    a_task_that_is_purged_is_read_and_says_so,
];

/// The finalizer looks often, and forgets results a day after the end.
fn quick_to_forget() -> Setup {
    Mesh::setup()
        .with("finalizer.reconcile_interval", "1s")
        .with("finalizer.keep_results_days", "1")
}

fn hugo() -> Operator {
    Operator::new("hugo", "once more")
}

/// A task that has failed for good and is purged.
async fn purged(mesh: &Mesh) -> String {
    let client = mesh.client();
    client.register_template(YAML).await.unwrap();
    let task_id = client.create_task(NewTask::of("purged", "two")).await.unwrap().task_id;
    let hello = Session::hello("worker", "purged", &["work"], 1);
    let mut worker = Session::open(mesh.channel().await, hello).await.unwrap();
    let token = worker.take().await.delivery_token;
    worker.report(success(&token, "1")).await;
    let token = worker.take().await.delivery_token;
    worker.report(failure(&token, "no", false)).await;
    let task = client.wait_for_task(&task_id, PATIENCE).await.unwrap();
    assert_eq!(task.state(), TaskState::BlockedByFailures);
    worker.drain().await;
    client.give_up_task(&task_id, &hugo()).await.unwrap();
    let ledger = mesh.ledger().await;
    let aged = "UPDATE task_search SET ended_at = now() - interval '25 hours'";
    assert_eq!(ledger.change(aged).await, 1);
    until("the task is purged", PATIENCE, async || {
        client.get_task(&task_id).await.unwrap().purged.then_some(())
    })
    .await;
    task_id
}

async fn rows(mesh: &Mesh) -> BTreeMap<String, i64> {
    let ledger = mesh.ledger().await;
    let mut rows = ledger.row_counts().await;
    let transitions = "SELECT (SELECT count(*) FROM task_transitions)
        + (SELECT count(*) FROM step_transitions)";
    rows.insert("transitions".to_owned(), ledger.number(transitions).await);
    rows
}

fn is_purged(refused: &Error, task_id: &str) {
    assert_eq!(
        (refused.code(), refused.reason()),
        (Code::FailedPrecondition, Some("TASK_PURGED")),
        "{refused:?}"
    );
    assert_eq!(refused.failure().unwrap().metadata["task_id"], task_id);
    assert!(refused.to_string().contains("submit another"), "{refused}");
}

async fn repair_all(client: &Client, preview: bool) -> RepairTasksResponse {
    let request = RepairTasksRequest {
        namespace: "purged".to_owned(),
        remedy: Remedy::Reset.into(),
        preview,
        operator: "hugo".to_owned(),
        ..RepairTasksRequest::default()
    };
    let mut told: Vec<_> = client.repair_tasks(request).try_collect().await.unwrap();
    assert_eq!(told.len(), 1);
    told.remove(0)
}

async fn a_task_that_is_purged_is_neither_repaired_nor_run_again_and_says_why(mesh: &Mesh) {
    let client = mesh.client();
    let task_id = purged(mesh).await;
    mesh.ledger().await.nothing_is_left().await;
    let before = rows(mesh).await;
    let result = || Payload { data: "1".into(), ..Payload::default() };
    is_purged(&client.reset_step(&task_id, "second", &hugo()).await.unwrap_err(), &task_id);
    is_purged(&client.resolve_step(&task_id, "second", &hugo()).await.unwrap_err(), &task_id);
    let completed = client.complete_step(&task_id, "second", result(), &hugo()).await;
    is_purged(&completed.unwrap_err(), &task_id);
    // Not what the template asks for; but that it is purged comes first.
    let misfit = || Payload { data: "{}".into(), ..Payload::default() };
    let completed = client.complete_step(&task_id, "second", misfit(), &hugo()).await;
    is_purged(&completed.unwrap_err(), &task_id);
    let said = Expansion { outcome: Some(Outcome::NoBranches(NoBranches {})) };
    let completed = client.complete_step_with(&task_id, "second", result(), said, &hugo()).await;
    is_purged(&completed.unwrap_err(), &task_id);
    for remedy in [Remedy::Reset, Remedy::Resolve] {
        is_purged(&client.repair_task(&task_id, remedy, &hugo()).await.unwrap_err(), &task_id);
    }
    for context in [None, Some(result())] {
        let rerun = client.rerun_task(&task_id, "first", context, &hugo()).await;
        is_purged(&rerun.unwrap_err(), &task_id);
    }
    for preview in [true, false] {
        let told = repair_all(&client, preview).await;
        assert_eq!((told.task_count, told.step_count), (0, 0), "preview: {preview}");
        assert!(told.tasks[0].skipped.contains("has been purged"), "{told:?}");
        assert_eq!(told.tasks[0].step_names, Vec::<String>::new());
    }
    assert_eq!(rows(mesh).await, before);
    let task = client.get_task(&task_id).await.unwrap();
    assert_eq!(task.state(), TaskState::Error);
}

async fn a_task_that_is_purged_is_read_and_says_so(mesh: &Mesh) {
    let client = mesh.client();
    let task_id = purged(mesh).await;
    let task = client.get_task(&task_id).await.unwrap();
    assert!(task.purged && task.context.is_none());
    let first = client.get_step(&task_id, "first").await.unwrap();
    assert_eq!((first.state(), first.result), (StepState::Complete, None));
    let second = client.get_step(&task_id, "second").await.unwrap();
    assert_eq!((second.state(), second.result), (StepState::Error, None));
    let steps: Vec<_> = client.list_steps(&task_id).try_collect().await.unwrap();
    assert_eq!(steps.len(), 2);
    let told: Vec<_> = client.watch_task(&task_id).try_collect().await.unwrap();
    assert!(!told.is_empty(), "its history is kept");
    // One that has just ended is not.
    let other = client.create_task(NewTask::of("purged", "two")).await.unwrap().task_id;
    client.cancel_task(&other, &hugo()).await.unwrap();
    assert!(!client.get_task(&other).await.unwrap().purged);
}
