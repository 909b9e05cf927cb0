//! A step goes on from where it was, however it was interrupted.

use std::time::{Duration, Instant};

use futures::TryStreamExt as _;
use tasker_client::{
    Client, NewTask,
    v1::{
        Checkpoint, Delivery, Hello, Progress, ProgressVerdict, ResultVerdict, SaveProgressRequest,
        StepError, StepResult, TaskState, step_result::Outcome,
        worker_service_client::WorkerServiceClient,
    },
};
use tasker_integration_tests::{
    Mesh, Program, Session, checkpoint, failure, success, until, yielded,
};
use tasker_worker::{Checkpoint as Progressed, Registry, StepContext, Yield};

const PATIENCE: Duration = Duration::from_secs(30);
const YAML: &str = "{namespace: checkpoints, name: long, version: 1.0.0, steps: [
    {name: only, handler: {callable: work}, retry: {max_attempts: 2, backoff: none}}]}";

in_both_shapes![
    a_step_that_yields_goes_on_without_using_up_an_attempt,
    a_yield_sent_twice_is_taken_once,
    a_step_that_yields_for_a_time_is_not_delivered_before,
    a_failed_attempt_leaves_its_checkpoint_to_the_next,
    what_a_step_saves_right_before_it_fails_is_there_for_the_next_attempt,
    late_progress_of_a_lost_lease_is_refused,
    a_checkpoint_that_is_too_large_is_refused_and_the_one_before_stays,
    progress_is_saved_by_unary_calls_too,
    a_worker_that_connects_again_goes_on_saving,
    a_step_shows_how_far_it_has_come,
];

async fn submit(client: &Client) -> String {
    client.register_template(YAML).await.unwrap();
    client.create_task(NewTask::of("checkpoints", "long")).await.unwrap().task_id
}

fn hello(worker: &str) -> Hello {
    Session::hello(worker, "checkpoints", &["work"], 1)
}

async fn session(mesh: &Mesh, worker: &str) -> Session {
    Session::open(mesh.channel().await, hello(worker)).await.unwrap()
}

/// Where a delivery is to go on.
fn goes_on_at(delivery: &Delivery) -> Option<&str> {
    let cursor = delivery.checkpoint.as_ref()?.cursor.as_ref()?;
    Some(std::str::from_utf8(&cursor.data).unwrap())
}

async fn completes(mesh: &Mesh, task_id: &str, attempt: i32) {
    let client = mesh.client();
    let task = client.wait_for_task(task_id, PATIENCE).await.unwrap();
    assert_eq!(task.state(), TaskState::Complete);
    assert_eq!(client.get_step(task_id, "only").await.unwrap().attempt, attempt);
    let ledger = mesh.ledger().await;
    ledger.every_task_has_completed_once(1).await;
    ledger.nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_goes_on_from_its_checkpoint_after_its_worker_was_killed() {
    let mesh = Mesh::setup().with("step_enqueuer.session_ttl", "2s");
    goes_on_after_a_kill(&mesh.start().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_goes_on_from_its_checkpoint_after_its_worker_was_killed_in_one_process() {
    let mesh = Mesh::setup().with("step_enqueuer.session_ttl", "2s");
    goes_on_after_a_kill(&mesh.start_in_one_process().await).await;
}

async fn goes_on_after_a_kill(mesh: &Mesh) {
    let client = mesh.client();
    let task_id = submit(&client).await;
    let arguments = [mesh.gateway(), "checkpoints", "work"];
    let none: [(&str, &str); 0] = [];
    let killed = Program::start("tasker-test-worker", "killed", &arguments, none, mesh.logs());
    until("the worker has saved a checkpoint", PATIENCE, async || {
        killed.log().contains("has saved only").then_some(())
    })
    .await;
    killed.kill();
    let mut handlers = Registry::new();
    handlers.register_fn("work", |step: StepContext| async move {
        step.checkpoint().unwrap().cursor::<String>()
    });
    let worker = mesh.worker(&["checkpoints"], &handlers);
    client.wait_for_task(&task_id, PATIENCE).await.unwrap();
    let result = client.get_step(&task_id, "only").await.unwrap().result.unwrap();
    assert_eq!(result.payload.unwrap().data, r#""half way""#);
    worker.stop().await;
    completes(mesh, &task_id, 2).await;
}

async fn a_step_that_yields_goes_on_without_using_up_an_attempt(mesh: &Mesh) {
    let client = mesh.client();
    let task_id = submit(&client).await;
    let mut handlers = Registry::new();
    handlers.register_fn("work", |step: StepContext| async move {
        assert_eq!(step.attempt(), 1);
        let before = step.checkpoint().unwrap_or_default();
        let page = before.cursor::<i64>()?.unwrap_or_default() + 1;
        let sum = before.result::<i64>()?.unwrap_or_default() + page;
        if page == 10 {
            return Ok((sum, before.counter("pages")));
        }
        let now = Progressed::at(&page)?.with_counter("pages", page).with_result(&sum)?;
        if page % 2 == 0 {
            return Err(Yield::at(now).into());
        }
        step.save_checkpoint(now).await?;
        Err(Yield::from_last().into())
    });
    let worker = mesh.worker(&["checkpoints"], &handlers);
    client.wait_for_task(&task_id, PATIENCE).await.unwrap();
    let result = client.get_step(&task_id, "only").await.unwrap().result.unwrap();
    assert_eq!(result.payload.unwrap().data, "[55,9]");
    worker.stop().await;
    completes(mesh, &task_id, 1).await;
}

async fn a_yield_sent_twice_is_taken_once(mesh: &Mesh) {
    let task_id = submit(&mesh.client()).await;
    let mut first = session(mesh, "first").await;
    let mut second = session(mesh, "second").await;
    // Whichever gets it.
    let token = tokio::select! {
        delivery = first.take() => delivery.delivery_token,
        delivery = second.take() => {
            std::mem::swap(&mut first, &mut second);
            delivery.delivery_token
        }
    };
    first.say_that_it_drains().await;
    let once = yielded(&token, "1", Duration::ZERO);
    assert_eq!(first.report(once).await, ResultVerdict::Committed);
    let again = yielded(&token, "2", Duration::ZERO);
    assert_eq!(first.report(again).await, ResultVerdict::Duplicate);
    let next = second.take().await;
    assert_eq!((next.attempt, goes_on_at(&next)), (1, Some("1")));
    let done = success(&next.delivery_token, "1");
    assert_eq!(second.report(done).await, ResultVerdict::Committed);
    let late = yielded(&token, "3", Duration::ZERO);
    assert_eq!(first.report(late).await, ResultVerdict::LeaseLost);
    first.drain().await;
    second.drain().await;
    completes(mesh, &task_id, 1).await;
}

async fn a_step_that_yields_for_a_time_is_not_delivered_before(mesh: &Mesh) {
    const DELAY: Duration = Duration::from_millis(1_500);
    let task_id = submit(&mesh.client()).await;
    let mut session = session(mesh, "patient").await;
    let delivery = session.take().await;
    let began = Instant::now();
    let later = yielded(&delivery.delivery_token, "1", DELAY);
    assert_eq!(session.report(later).await, ResultVerdict::Committed);
    let next = session.take().await;
    let waited = began.elapsed();
    assert!(waited >= DELAY, "it took only {waited:?}");
    // By a timer of its own: the queue is looked into but every ten seconds.
    assert!(waited < DELAY + Duration::from_secs(5), "it took {waited:?}");
    assert_eq!((next.attempt, goes_on_at(&next)), (1, Some("1")));
    session.report(success(&next.delivery_token, "1")).await;
    session.drain().await;
    completes(mesh, &task_id, 1).await;
}

async fn a_failed_attempt_leaves_its_checkpoint_to_the_next(mesh: &Mesh) {
    let task_id = submit(&mesh.client()).await;
    let mut session = session(mesh, "unlucky").await;
    let first = session.take().await;
    assert_eq!(goes_on_at(&first), None);
    for cursor in ["1", "2"] {
        let ack = session.save(&first.delivery_token, cursor).await;
        assert_eq!(ack.verdict(), ProgressVerdict::Committed, "{ack:?}");
    }
    let error = StepError { retryable: true, ..StepError::default() };
    let failed = StepResult {
        delivery_token: first.delivery_token,
        outcome: Some(Outcome::Failure(error)),
        ..StepResult::default()
    };
    assert_eq!(session.report(failed).await, ResultVerdict::Committed);
    let second = session.take().await;
    assert_eq!((second.attempt, goes_on_at(&second)), (2, Some("2")));
    session.report(success(&second.delivery_token, "1")).await;
    session.drain().await;
    completes(mesh, &task_id, 2).await;
}

async fn what_a_step_saves_right_before_it_fails_is_there_for_the_next_attempt(mesh: &Mesh) {
    const ATTEMPTS: usize = 50;
    let client = mesh.client();
    let yaml = "{namespace: checkpoints, name: hasty, version: 1.0.0, steps: [
        {name: only, handler: {callable: work}, retry: {max_attempts: 51, backoff: none}}]}";
    client.register_template(yaml).await.unwrap();
    client.create_task(NewTask::of("checkpoints", "hasty")).await.unwrap();
    let mut session = session(mesh, "hasty").await;
    let mut saved = None;
    for attempt in 0..ATTEMPTS {
        let delivery = session.take().await;
        assert_eq!(goes_on_at(&delivery), saved.as_deref());
        let cursor = attempt.to_string();
        let failed = failure(&delivery.delivery_token, "not_yet", true);
        assert_eq!(session.save_and_report(&cursor, failed).await, ResultVerdict::Committed);
        saved = Some(cursor);
    }
}

async fn late_progress_of_a_lost_lease_is_refused(mesh: &Mesh) {
    let task_id = submit(&mesh.client()).await;
    let mut late = session(mesh, "late").await;
    // Not acknowledged: it goes to the other.
    let lost = late.delivery().await.delivery_token;
    let mut other = session(mesh, "other").await;
    let current = other.take().await;
    let saved = other.save(&current.delivery_token, "1").await;
    assert_eq!(saved.verdict(), ProgressVerdict::Committed);
    let ack = late.save(&lost, "2").await;
    assert_eq!(ack.verdict(), ProgressVerdict::LeaseLost);
    late.drain().await;

    let verdict = other.report(yielded(&current.delivery_token, "1", Duration::ZERO)).await;
    assert_eq!(verdict, ResultVerdict::Committed);
    let next = other.take().await;
    assert_eq!(goes_on_at(&next), Some("1"));
    other.report(success(&next.delivery_token, "1")).await;
    // The step has ended: nothing can be saved any more.
    let ack = other.save(&next.delivery_token, "3").await;
    assert_eq!(ack.verdict(), ProgressVerdict::LeaseLost);
    other.drain().await;
    completes(mesh, &task_id, 1).await;
}

async fn a_checkpoint_that_is_too_large_is_refused_and_the_one_before_stays(mesh: &Mesh) {
    let task_id = submit(&mesh.client()).await;
    let mut session = session(mesh, "large").await;
    let bound = usize::try_from(session.welcome.max_checkpoint_bytes).unwrap();
    assert_eq!(bound, 256 << 10);
    let token = session.take().await.delivery_token;
    let fits = format!("\"{}\"", "x".repeat(bound - 100));
    let ack = session.save(&token, &fits).await;
    assert_eq!(ack.verdict(), ProgressVerdict::Committed, "{ack:?}");
    let large = format!("\"{}\"", "x".repeat(bound));
    let ack = session.save(&token, &large).await;
    assert_eq!(ack.verdict(), ProgressVerdict::Invalid);
    assert!(ack.reason.contains("at most 262144"), "{}", ack.reason);
    let ack = session.save(&token, "no JSON").await;
    assert_eq!(ack.verdict(), ProgressVerdict::Invalid);
    let refused = session.report(yielded(&token, &large, Duration::ZERO)).await;
    assert_eq!(refused, ResultVerdict::Invalid);
    // The lease stands, and what was saved before.
    let cursorless = yielded(&token, "0", Duration::ZERO);
    let Some(Outcome::Yielded(mut step)) = cursorless.outcome else { unreachable!() };
    step.checkpoint = None;
    let kept = StepResult { outcome: Some(Outcome::Yielded(step)), ..cursorless };
    assert_eq!(session.report(kept).await, ResultVerdict::Committed);
    let next = session.take().await;
    assert_eq!(goes_on_at(&next), Some(fits.as_str()));
    session.report(success(&next.delivery_token, "1")).await;
    session.drain().await;
    completes(mesh, &task_id, 1).await;
}

async fn progress_is_saved_by_unary_calls_too(mesh: &Mesh) {
    let task_id = submit(&mesh.client()).await;
    let mut session = session(mesh, "streams").await;
    let token = session.take().await.delivery_token;
    let mut unary = WorkerServiceClient::new(mesh.channel().await);
    let progress = |delivery_token: &str, sequence, checkpoint| Progress {
        delivery_token: delivery_token.to_owned(),
        checkpoint,
        sequence,
    };
    let request = SaveProgressRequest {
        progress: vec![
            progress(&token, 1, Some(checkpoint("1"))),
            progress(&token, 2, Some(checkpoint("2"))),
            progress(&token, 3, None),
            progress("no token of yours", 4, Some(Checkpoint::default())),
        ],
    };
    let acks = unary.save_progress(request).await.unwrap().into_inner().acks;
    let answers: Vec<_> = acks.iter().map(|ack| (ack.sequence, ack.verdict())).collect();
    let (committed, invalid) = (ProgressVerdict::Committed, ProgressVerdict::Invalid);
    assert_eq!(answers, [(1, committed), (2, committed), (3, invalid), (4, invalid)]);
    session.give_back(&token, "not now").await;
    let next = session.take().await;
    assert_eq!((next.attempt, goes_on_at(&next)), (1, Some("2")));
    session.report(success(&next.delivery_token, "1")).await;
    session.drain().await;
    completes(mesh, &task_id, 1).await;
}

async fn a_worker_that_connects_again_goes_on_saving(mesh: &Mesh) {
    let task_id = submit(&mesh.client()).await;
    let mut session = session(mesh, "same").await;
    let token = session.take().await.delivery_token;
    session.save(&token, "1").await;
    drop(session);
    let again = Hello { held: vec![token.clone()], ..hello("same") };
    let mut session = Session::open(mesh.channel().await, again).await.unwrap();
    let ack = session.save(&token, "2").await;
    assert_eq!(ack.verdict(), ProgressVerdict::Committed);
    session.give_back(&token, "not now").await;
    let next = session.take().await;
    assert_eq!(goes_on_at(&next), Some("2"));
    session.report(success(&next.delivery_token, "1")).await;
    let task = mesh.client().wait_for_task(&task_id, PATIENCE).await.unwrap();
    assert_eq!(task.state(), TaskState::Complete);
}

async fn a_step_shows_how_far_it_has_come(mesh: &Mesh) {
    let client = mesh.client();
    let task_id = submit(&client).await;
    assert_eq!(client.get_step(&task_id, "only").await.unwrap().checkpoint, None);
    let mut session = session(mesh, "saving").await;
    let token = session.take().await.delivery_token;
    let before = std::time::SystemTime::now() - Duration::from_secs(1);
    let mut half_way = yielded(&token, "7", Duration::ZERO);
    let Some(Outcome::Yielded(step)) = &mut half_way.outcome else { panic!("{half_way:?}") };
    let counters = &mut step.checkpoint.as_mut().unwrap().counters;
    counters.extend([("pages".to_owned(), 7), ("rows".to_owned(), 120)]);
    let counters = counters.clone();
    assert_eq!(session.report(half_way).await, ResultVerdict::Committed);
    let saved = client.get_step(&task_id, "only").await.unwrap().checkpoint.unwrap();
    let kept = "SELECT octet_length(checkpoint)::bigint FROM step_checkpoints";
    let kept = mesh.ledger().await.number(kept).await;
    assert_eq!((saved.attempt, i64::from(saved.size_bytes)), (1, kept));
    assert_eq!(saved.counters, counters);
    let at = std::time::SystemTime::try_from(saved.save_time.unwrap()).unwrap();
    assert!(at >= before && at <= std::time::SystemTime::now() + Duration::from_secs(1));
    let token = session.take().await.delivery_token;
    session.report(success(&token, "1")).await;
    session.drain().await;
    completes(mesh, &task_id, 1).await;
    // Lists leave it out.
    let listed: Vec<_> = client.list_steps(&task_id).try_collect().await.unwrap();
    assert_eq!(listed[0].checkpoint, None);
}
