//! Tasks that are ended by hand: nothing of them runs afterwards, and everybody is told who did it and why.

use std::time::Duration;

use futures::TryStreamExt as _;
use tasker_client::{
    Client, NewTask, Operator,
    v1::{
        ListTasksRequest, PollStepsRequest, RenewLeasesRequest, ReportResultsRequest,
        ResultVerdict, Step, StepState, TaskState, watch_task_response::Transition,
        worker_service_client::WorkerServiceClient,
    },
};
use tasker_integration_tests::{Mesh, Service, Session, failure, success, until};
use tonic::Code;

const PATIENCE: Duration = Duration::from_secs(30);
const YAML: &str = "{namespace: ends, name: chain, version: 1.0.0, steps: [
    {name: first, handler: {callable: work}},
    {name: second, handler: {callable: work}, dependencies: [first]},
    {name: third, handler: {callable: work}, dependencies: [second]}]}";
const LONE: &str = "{namespace: ends, name: lone, version: 1.0.0, steps: [
    {name: only, handler: {callable: work}, retry: {max_attempts: 2, backoff_base_ms: 3600000,
     max_backoff_ms: 3600000, jitter: false}}]}";

in_both_shapes![
    a_cancelled_task_stops_its_worker_and_refuses_the_late_result,
    a_worker_that_polls_learns_of_a_cancelled_task_by_what_it_has_lost,
    a_task_is_cancelled_wherever_it_stands,
    cancelling_again_is_a_success_and_any_other_end_stays,
    a_blocked_task_is_settled_outside_or_given_up,
];

fn alice() -> Operator {
    Operator::new("alice", "the order was withdrawn")
}

async fn submit(client: &Client, yaml: &str) -> String {
    let template = client.register_template(yaml).await.unwrap().r#ref.unwrap();
    client.create_task(NewTask::of(template.namespace, template.name)).await.unwrap().task_id
}

async fn session(mesh: &Mesh, worker: &str) -> Session {
    let hello = Session::hello(worker, "ends", &["work"], 1);
    Session::open(mesh.channel().await, hello).await.unwrap()
}

async fn states(client: &Client, task_id: &str) -> Vec<StepState> {
    let steps: Vec<_> = client.list_steps(task_id).try_collect().await.unwrap();
    steps.iter().map(Step::state).collect()
}

async fn reaches(client: &Client, task_id: &str, state: TaskState) {
    until("the task stands where it should", PATIENCE, async || {
        (client.get_task(task_id).await.unwrap().state() == state).then_some(())
    })
    .await;
}

async fn a_cancelled_task_stops_its_worker_and_refuses_the_late_result(mesh: &Mesh) {
    let client = mesh.client();
    let task_id = submit(&client, YAML).await;
    let mut worker = session(mesh, "cancelled").await;
    let first = worker.take().await.delivery_token;
    assert_eq!(worker.report(success(&first, "1")).await, ResultVerdict::Committed);
    let second = worker.take().await.delivery_token;
    let watch = tokio::spawn(client.watch_task(&task_id).try_collect::<Vec<_>>());

    let task = client.cancel_task(&task_id, &alice()).await.unwrap();
    assert_eq!(task.state(), TaskState::Cancelled);
    assert!(task.end_time.is_some());
    assert_eq!(worker.cancelled().await, std::slice::from_ref(&second));
    assert_eq!(worker.report(success(&second, "2")).await, ResultVerdict::LeaseLost);
    let counts = task.steps.unwrap();
    assert_eq!((counts.ready, counts.in_flight, counts.satisfied, counts.total), (0, 0, 1, 3));
    let stand = [StepState::Complete, StepState::Cancelled, StepState::Cancelled];
    assert_eq!(states(&client, &task_id).await, stand);

    // Who watches is told at once, and by whom and why.
    let events = tokio::time::timeout(PATIENCE, watch).await.unwrap().unwrap().unwrap();
    let cancels: Vec<_> = events
        .iter()
        .filter_map(|event| match event.transition.as_ref()? {
            Transition::Task(task) => (task.event == "Cancel").then_some((event, &task.reason)),
            Transition::Step(step) => (step.event == "Cancel").then_some((event, &step.reason)),
            Transition::Paused(_) | Transition::Resumed(_) => None,
        })
        .collect();
    assert_eq!(cancels.len(), 3, "{events:?}");
    for (event, reason) in cancels {
        assert_eq!(
            (event.actor.as_str(), reason.as_str()),
            ("operator:alice", "the order was withdrawn")
        );
    }
    let filter =
        ListTasksRequest { states: vec![TaskState::Cancelled.into()], ..Default::default() };
    let listed: Vec<_> = client.list_tasks(filter).try_collect().await.unwrap();
    assert_eq!(listed.len(), 1);

    // Its place is free again.
    let next = submit(&client, LONE).await;
    let token = worker.take().await.delivery_token;
    assert_eq!(worker.report(success(&token, "1")).await, ResultVerdict::Committed);
    reaches(&client, &next, TaskState::Complete).await;
    worker.drain().await;
    let ledger = mesh.ledger().await;
    ledger.histories_hold().await;
    ledger.nothing_is_left().await;
}

async fn a_worker_that_polls_learns_of_a_cancelled_task_by_what_it_has_lost(mesh: &Mesh) {
    let client = mesh.client();
    let task_id = submit(&client, LONE).await;
    let mut worker = WorkerServiceClient::new(mesh.channel().await);
    let polled = worker
        .poll_steps(PollStepsRequest {
            worker_id: "polls".to_owned(),
            namespaces: vec!["ends".to_owned()],
            handlers: vec!["work".to_owned()],
            max_steps: 1,
            wait: Some(prost_types::Duration { seconds: 20, nanos: 0 }),
            ..PollStepsRequest::default()
        })
        .await
        .unwrap()
        .into_inner();
    let token = polled.deliveries[0].delivery_token.clone();
    client.cancel_task(&task_id, &alice()).await.unwrap();
    let held = vec![token.clone()];
    let renew = RenewLeasesRequest { session_id: polled.session_id, held };
    let renewed = worker.renew_leases(renew).await.unwrap().into_inner();
    assert_eq!(renewed.lost, std::slice::from_ref(&token));
    let report = ReportResultsRequest { results: vec![success(&token, "1")] };
    let verdicts = worker.report_results(report).await.unwrap().into_inner().verdicts;
    assert_eq!(verdicts[0].verdict(), ResultVerdict::LeaseLost);
}

async fn a_task_is_cancelled_wherever_it_stands(mesh: &Mesh) {
    let client = mesh.client();
    // While it waits for a worker.
    let waiting = submit(&client, LONE).await;
    reaches(&client, &waiting, TaskState::StepsInProcess).await;
    client.cancel_task(&waiting, &alice()).await.unwrap();
    let mut worker = session(mesh, "elsewhere").await;
    // While it waits for another attempt.
    let retried = submit(&client, LONE).await;
    let delivery = worker.take().await;
    assert_eq!(delivery.task_id, retried, "a cancelled step was delivered");
    let failed = worker.report(failure(&delivery.delivery_token, "busy", true)).await;
    assert_eq!(failed, ResultVerdict::Committed);
    reaches(&client, &retried, TaskState::WaitingForRetry).await;
    client.cancel_task(&retried, &alice()).await.unwrap();
    // While it is blocked: what has failed stays so.
    let blocked = submit(&client, LONE).await;
    let token = worker.take().await.delivery_token;
    assert_eq!(worker.report(failure(&token, "no", false)).await, ResultVerdict::Committed);
    reaches(&client, &blocked, TaskState::BlockedByFailures).await;
    client.cancel_task(&blocked, &alice()).await.unwrap();
    for (task_id, step) in [
        (&waiting, StepState::Cancelled),
        (&retried, StepState::Cancelled),
        (&blocked, StepState::Error),
    ] {
        assert_eq!(client.get_task(task_id).await.unwrap().state(), TaskState::Cancelled);
        assert_eq!(states(&client, task_id).await, [step]);
    }
    worker.drain().await;
    let ledger = mesh.ledger().await;
    ledger.histories_hold().await;
    ledger.nothing_is_left().await;
}

async fn cancelling_again_is_a_success_and_any_other_end_stays(mesh: &Mesh) {
    let client = mesh.client();
    let cancelled = submit(&client, LONE).await;
    let first = client.cancel_task(&cancelled, &alice()).await.unwrap();
    let again = client.cancel_task(&cancelled, &Operator::new("bob", "me too")).await.unwrap();
    assert_eq!(first, again);

    let complete = submit(&client, LONE).await;
    let mut worker = session(mesh, "completes").await;
    let token = worker.take().await.delivery_token;
    assert_eq!(worker.report(success(&token, "1")).await, ResultVerdict::Committed);
    reaches(&client, &complete, TaskState::Complete).await;
    let refused = client.cancel_task(&complete, &alice()).await.unwrap_err();
    assert_eq!((refused.code(), refused.reason()), (Code::FailedPrecondition, Some("TASK_ENDED")));
    assert_eq!(refused.failure().unwrap().metadata["state"], "complete");

    let nobody = uuid::Uuid::now_v7().to_string();
    let refused = client.cancel_task(&nobody, &alice()).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    let too_long = Operator::new("", "x".repeat(1025));
    let refused = client.cancel_task("no id", &too_long).await.unwrap_err();
    let mut fields: Vec<_> = refused.violations().iter().map(|it| it.field.as_str()).collect();
    fields.sort_unstable();
    assert_eq!(fields, ["operator", "reason", "task_id"]);
}

async fn a_blocked_task_is_settled_outside_or_given_up(mesh: &Mesh) {
    let client = mesh.client();
    let mut worker = session(mesh, "fails").await;
    let mut blocked = Vec::new();
    for _ in 0..2 {
        let task_id = submit(&client, YAML).await;
        let moving = client.resolve_task(&task_id, &alice()).await.unwrap_err();
        assert_eq!(moving.reason(), Some("TASK_NOT_BLOCKED"));
        let token = worker.take().await.delivery_token;
        assert_eq!(worker.report(failure(&token, "no", false)).await, ResultVerdict::Committed);
        reaches(&client, &task_id, TaskState::BlockedByFailures).await;
        blocked.push(task_id);
    }
    let resolved = client.resolve_task(&blocked[0], &alice()).await.unwrap();
    assert_eq!(resolved.state(), TaskState::ResolvedManually);
    assert_eq!(client.resolve_task(&blocked[0], &alice()).await.unwrap(), resolved);
    let given_up = client.give_up_task(&blocked[1], &alice()).await.unwrap();
    assert_eq!(given_up.state(), TaskState::Error);
    assert_eq!(client.give_up_task(&blocked[1], &alice()).await.unwrap(), given_up);
    let refused = client.give_up_task(&blocked[0], &alice()).await.unwrap_err();
    assert_eq!(refused.reason(), Some("TASK_ENDED"));
    for task_id in &blocked {
        let stand = [StepState::Error, StepState::Cancelled, StepState::Cancelled];
        assert_eq!(states(&client, task_id).await, stand);
    }
    mesh.ledger().await.histories_hold().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_comes_through_although_the_finalizer_is_killed_meanwhile() {
    let mesh = Mesh::setup().start().await;
    let client = mesh.client();
    let task_id = submit(&client, LONE).await;
    mesh.kill(Service::Finalizer, 0);
    let cancel = tokio::spawn({
        let (client, task_id) = (client.clone(), task_id.clone());
        async move { client.cancel_task(&task_id, &alice()).await }
    });
    mesh.restart(Service::Finalizer, 0).await;
    let task = tokio::time::timeout(PATIENCE, cancel).await.unwrap().unwrap().unwrap();
    assert_eq!(task.state(), TaskState::Cancelled);
    mesh.ledger().await.histories_hold().await;
}

/// The announcement is a hint: a worker whose server has not heard it is told before long all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_is_told_to_stop_though_nobody_announces_it() {
    let mesh = Mesh::setup().with("step_enqueuer.session_ttl", "1s").start().await;
    let client = mesh.client();
    submit(&client, LONE).await;
    let mut worker = session(&mesh, "not told").await;
    let token = worker.take().await.delivery_token;
    // As if the task had been ended, and the announcement lost.
    mesh.ledger().await.change("DELETE FROM leases").await;
    assert_eq!(worker.cancelled().await, [token]);
}
