//! A result is accepted once, and only from the worker that holds the step.

use std::time::{Duration, Instant};

use tasker_client::{
    Client, NewTask, Operator,
    v1::{
        Hello, PollStepsRequest, RenewLeasesRequest, ReportResultsRequest, ResultVerdict,
        ResultVerdictFor, TaskState, worker_service_client::WorkerServiceClient,
    },
};
use tasker_integration_tests::{Mesh, Session, success, until};
use tonic::{Code, Request};

const PATIENCE: Duration = Duration::from_secs(30);
const YAML: &str = "{namespace: fences, name: one_step, version: 1.0.0,
    steps: [{name: only, handler: {callable: only}}]}";

in_both_shapes![
    a_result_sent_twice_is_taken_once,
    a_delivery_that_is_not_acknowledged_goes_to_another_worker_at_no_cost,
    a_delivery_that_is_cut_off_before_its_acknowledgement_costs_no_attempt,
    a_delivery_given_back_costs_no_attempt,
    a_poll_whose_caller_hangs_up_takes_no_step_with_it,
    a_worker_that_connects_again_keeps_its_delivery,
    a_task_can_be_run_by_unary_calls_alone,
    a_worker_that_polls_is_told_at_once_what_has_timed_out_or_was_cancelled,
];

async fn submit(client: &Client) -> String {
    client.register_template(YAML).await.unwrap();
    client.create_task(NewTask::of("fences", "one_step")).await.unwrap().task_id
}

fn hello(worker: &str) -> Hello {
    Session::hello(worker, "fences", &["only"], 1)
}

fn poll(worker: &str) -> PollStepsRequest {
    PollStepsRequest {
        worker_id: worker.to_owned(),
        namespaces: vec!["fences".to_owned()],
        handlers: vec!["only".to_owned()],
        max_steps: 1,
        wait: Some(prost_types::Duration { seconds: 20, nanos: 0 }),
        ..PollStepsRequest::default()
    }
}

async fn result_of(client: &Client, task_id: &str) -> String {
    let step = client.get_step(task_id, "only").await.unwrap();
    String::from_utf8(step.result.unwrap().payload.unwrap().data.to_vec()).unwrap()
}

async fn completes(client: &Client, task_id: &str) {
    let task = client.wait_for_task(task_id, PATIENCE).await.unwrap();
    assert_eq!(task.state(), TaskState::Complete);
}

async fn a_result_sent_twice_is_taken_once(mesh: &Mesh) {
    let client = mesh.client();
    let task_id = submit(&client).await;
    let mut session = Session::open(mesh.channel().await, hello("twice")).await.unwrap();
    let token = session.take().await.delivery_token;
    assert_eq!(session.report(success(&token, "1")).await, ResultVerdict::Committed);
    // By the same session, by another one, and by a unary call, during the task and after its end.
    assert_eq!(session.report(success(&token, "2")).await, ResultVerdict::Duplicate);
    completes(&client, &task_id).await;
    let mut other = Session::open(mesh.channel().await, hello("other")).await.unwrap();
    assert_eq!(other.report(success(&token, "3")).await, ResultVerdict::Duplicate);
    let mut unary = WorkerServiceClient::new(mesh.channel().await);
    let report = ReportResultsRequest { results: vec![success(&token, "4")] };
    let verdicts = unary.report_results(report).await.unwrap().into_inner().verdicts;
    assert_eq!(verdicts[0].verdict(), ResultVerdict::Duplicate);

    assert_eq!(result_of(&client, &task_id).await, "1");
    session.drain().await;
    other.drain().await;
    let ledger = mesh.ledger().await;
    ledger.every_task_has_completed_once(1).await;
    ledger.nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_result_cannot_overwrite_the_next_workers() {
    let mesh = Mesh::setup().with("step_enqueuer.session_ttl", "1s").start().await;
    let client = mesh.client();
    let task_id = submit(&client).await;
    let mut first = Session::open(mesh.channel().await, hello("first")).await.unwrap();
    let late = first.take().await;
    drop(first);
    // The lease outlives its stream for the time of the session, and no longer.
    let mut second = Session::open(mesh.channel().await, hello("second")).await.unwrap();
    let current = second.take().await;
    assert_eq!((late.attempt, current.attempt), (1, 2));
    assert_ne!(late.delivery_token, current.delivery_token);

    let mut again = Session::open(mesh.channel().await, hello("first")).await.unwrap();
    let report = async |session: &mut Session, token: &str, value| {
        session.report(success(token, value)).await
    };
    let (late, current) = (&late.delivery_token, &current.delivery_token);
    assert_eq!(report(&mut again, late, "1").await, ResultVerdict::LeaseLost);
    assert_eq!(report(&mut second, current, "2").await, ResultVerdict::Committed);
    assert_eq!(report(&mut again, late, "3").await, ResultVerdict::LeaseLost);
    completes(&client, &task_id).await;
    assert_eq!(result_of(&client, &task_id).await, "2");
    again.drain().await;
    second.drain().await;
    let ledger = mesh.ledger().await;
    ledger.every_task_has_completed_once(1).await;
    ledger.nothing_is_left().await;
}

async fn a_delivery_that_is_not_acknowledged_goes_to_another_worker_at_no_cost(mesh: &Mesh) {
    let client = mesh.client();
    let task_id = submit(&client).await;
    let mut silent = Session::open(mesh.channel().await, hello("silent")).await.unwrap();
    let ignored = silent.delivery().await;
    let delivered = Instant::now();
    let mut other = Session::open(mesh.channel().await, hello("other")).await.unwrap();
    let taken = other.take().await;
    assert!(delivered.elapsed() < Duration::from_secs(4), "{:?}", delivered.elapsed());
    assert_eq!((ignored.attempt, taken.attempt), (1, 1));
    let late = silent.report(success(&ignored.delivery_token, "1")).await;
    assert_eq!(late, ResultVerdict::LeaseLost);
    let good = other.report(success(&taken.delivery_token, "2")).await;
    assert_eq!(good, ResultVerdict::Committed);
    completes(&client, &task_id).await;
    assert_eq!(result_of(&client, &task_id).await, "2");
}

async fn a_delivery_that_is_cut_off_before_its_acknowledgement_costs_no_attempt(mesh: &Mesh) {
    let client = mesh.client();
    let task_id = submit(&client).await;
    let mut cut_off = Session::open(mesh.channel().await, hello("cut off")).await.unwrap();
    let lost = cut_off.delivery().await;
    drop(cut_off);
    let mut other = Session::open(mesh.channel().await, hello("other")).await.unwrap();
    let taken = other.take().await;
    assert_eq!((lost.attempt, taken.attempt), (1, 1));
    let good = other.report(success(&taken.delivery_token, "1")).await;
    assert_eq!(good, ResultVerdict::Committed);
    completes(&client, &task_id).await;
}

async fn a_delivery_given_back_costs_no_attempt(mesh: &Mesh) {
    let client = mesh.client();
    let task_id = submit(&client).await;
    let mut first = Session::open(mesh.channel().await, hello("first")).await.unwrap();
    let unwanted = first.take().await;
    let mut second = Session::open(mesh.channel().await, hello("second")).await.unwrap();
    first.give_back(&unwanted.delivery_token, "not now").await;
    first.drain().await;
    let taken = second.take().await;
    assert_eq!((unwanted.attempt, taken.attempt), (1, 1));
    let good = second.report(success(&taken.delivery_token, "1")).await;
    assert_eq!(good, ResultVerdict::Committed);
    completes(&client, &task_id).await;
}

async fn a_worker_that_connects_again_keeps_its_delivery(mesh: &Mesh) {
    let client = mesh.client();
    let task_id = submit(&client).await;
    let mut session = Session::open(mesh.channel().await, hello("same")).await.unwrap();
    let token = session.take().await.delivery_token;
    drop(session);
    let held = vec![token.clone(), "no token of yours".to_owned()];
    let again = Hello { held, ..hello("same") };
    let mut session = Session::open(mesh.channel().await, again).await.unwrap();
    assert_eq!(session.welcome.resumed, std::slice::from_ref(&token));
    // A stranger gets nothing by naming it.
    let thief = Hello { held: vec![token.clone()], ..hello("thief") };
    let thief = Session::open(mesh.channel().await, thief).await.unwrap();
    assert_eq!(thief.welcome.resumed, Vec::<String>::new());
    assert_eq!(session.report(success(&token, "1")).await, ResultVerdict::Committed);
    completes(&client, &task_id).await;
    assert_eq!(client.get_step(&task_id, "only").await.unwrap().attempt, 1);
}

async fn a_poll_whose_caller_hangs_up_takes_no_step_with_it(mesh: &Mesh) {
    let client = mesh.client();
    client.register_template(YAML).await.unwrap();
    let mut worker = WorkerServiceClient::new(mesh.channel().await);
    let mut request = Request::new(PollStepsRequest { max_steps: 1_000, ..poll("hangs up") });
    request.set_timeout(Duration::from_millis(500));
    let polled = worker.poll_steps(request).await;
    assert!(polled.is_err(), "there was nothing to wait for: {polled:?}");
    // With the most room of all it would get every step, were it still there.
    let task_id = submit(&client).await;
    let mut other = Session::open(mesh.channel().await, hello("other")).await.unwrap();
    let taken = other.take().await;
    assert_eq!(taken.attempt, 1);
    let good = other.report(success(&taken.delivery_token, "1")).await;
    assert_eq!(good, ResultVerdict::Committed);
    completes(&client, &task_id).await;
}

async fn a_task_can_be_run_by_unary_calls_alone(mesh: &Mesh) {
    let client = mesh.client();
    let task_id = submit(&client).await;
    let mut worker = WorkerServiceClient::new(mesh.channel().await);
    let poll = PollStepsRequest { max_steps: 10, ..poll("unary") };
    let polled = worker.poll_steps(poll.clone()).await.unwrap().into_inner();
    assert_eq!(polled.deliveries.len(), 1);
    let token = polled.deliveries[0].delivery_token.clone();
    let held = vec![token.clone(), "no token of yours".to_owned()];
    let renew = RenewLeasesRequest { session_id: polled.session_id.clone(), held };
    let renewed = worker.renew_leases(renew).await.unwrap().into_inner();
    assert_eq!(renewed.lost, ["no token of yours"]);

    let report = ReportResultsRequest { results: vec![success(&token, "1")] };
    let verdicts = worker.report_results(report).await.unwrap().into_inner().verdicts;
    assert_eq!(verdicts[0].verdict(), ResultVerdict::Committed);
    completes(&client, &task_id).await;

    let nothing = PollStepsRequest { session_id: polled.session_id, wait: None, ..poll.clone() };
    let polled = worker.poll_steps(nothing).await.unwrap().into_inner();
    assert!(polled.deliveries.is_empty());
    let unknown = PollStepsRequest { session_id: uuid::Uuid::now_v7().to_string(), ..poll };
    let refused = worker.poll_steps(unknown).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    let refused = tasker_client::Error::from(refused);
    assert_eq!(refused.reason(), Some("SESSION_LOST"));
}

async fn a_worker_that_polls_is_told_at_once_what_has_timed_out_or_was_cancelled(mesh: &Mesh) {
    let client = mesh.client();
    let yaml = "{namespace: fences, name: short, version: 1.0.0, steps: [
        {name: only, handler: {callable: only}, timeout_seconds: 4,
         retry: {max_attempts: 2, backoff: none}}]}";
    client.register_template(yaml).await.unwrap();
    let task_id = client.create_task(NewTask::of("fences", "short")).await.unwrap().task_id;
    let mut worker = WorkerServiceClient::new(mesh.channel().await);
    let begin = PollStepsRequest { session_id: String::new(), ..poll("polling") };
    let mut polled = worker.poll_steps(begin.clone()).await.unwrap().into_inner();
    for attempt in 1..=2 {
        let delivery = polled.deliveries.remove(0);
        assert_eq!((delivery.task_id.as_str(), delivery.attempt), (task_id.as_str(), attempt));
        let token = delivery.delivery_token;
        // It asks for nothing that there is: only for what it must know.
        let busy = PollStepsRequest {
            session_id: polled.session_id.clone(),
            held: vec![token.clone()],
            handlers: vec!["none".to_owned()],
            wait: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
            ..begin.clone()
        };
        let told = async {
            let asked = Instant::now();
            let told = worker.clone().poll_steps(busy).await.unwrap().into_inner();
            assert!(asked.elapsed() < PATIENCE, "it was told after {:?}", asked.elapsed());
            assert_eq!((told.lost, told.deliveries.len()), (vec![token.clone()], 0));
        };
        if attempt == 1 {
            told.await;
        } else {
            let cancelled = async {
                client.cancel_task(&task_id, &Operator::new("ada", "")).await.unwrap();
            };
            tokio::join!(told, cancelled);
        }
        let late = ReportResultsRequest { results: vec![success(&token, "1")] };
        let verdicts = worker.report_results(late).await.unwrap().into_inner().verdicts;
        assert_eq!(verdicts[0].verdict(), ResultVerdict::LeaseLost);
        if attempt == 1 {
            let next = PollStepsRequest { session_id: polled.session_id, ..begin.clone() };
            polled = worker.poll_steps(next).await.unwrap().into_inner();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_polling_worker_does_not_name_any_more_goes_to_others() {
    let mesh = Mesh::setup().start().await;
    let client = mesh.client();
    let task_id = submit(&client).await;
    let mut worker = WorkerServiceClient::new(mesh.channel().await);
    let poll = poll("forgetful");
    let first = worker.poll_steps(poll.clone()).await.unwrap().into_inner();
    assert_eq!(first.deliveries.len(), 1);
    let session_id = first.session_id;
    // It goes on calling, and names nothing: what it was given is taken back, and it is given anew.
    let second = until("the step is delivered again", PATIENCE, async || {
        let poll = PollStepsRequest { session_id: session_id.clone(), ..poll.clone() };
        let polled = worker.clone().poll_steps(poll).await.unwrap().into_inner();
        polled.deliveries.into_iter().next()
    })
    .await;
    assert_eq!(second.attempt, 1);
    assert_ne!(second.delivery_token, first.deliveries[0].delivery_token);
    let results = vec![
        success(&first.deliveries[0].delivery_token, "1"),
        success(&second.delivery_token, "2"),
    ];
    let report = worker.report_results(ReportResultsRequest { results }).await.unwrap();
    let verdicts: Vec<_> =
        report.into_inner().verdicts.iter().map(ResultVerdictFor::verdict).collect();
    assert_eq!(verdicts, [ResultVerdict::LeaseLost, ResultVerdict::Committed]);
    completes(&client, &task_id).await;
}
