//! Failures: tried again as the template says, or for good.

use std::{future::pending, time::Duration};

use futures::TryStreamExt as _;
use tasker_client::{
    NewTask,
    v1::{ResultVerdict, StepState, TaskState},
};
use tasker_integration_tests::{Mesh, Recorder, Session, success};
use tasker_worker::{HandlerError, Registry, StepContext};

const PATIENCE: Duration = Duration::from_secs(30);
/// What a retry may be late by, at most.
const LATE: Duration = Duration::from_millis(100);
/// The same for those that the machine kept waiting, where many tests share it.
const LATEST: Duration = Duration::from_secs(1);
const FIRST_WAIT: Duration = Duration::from_millis(200);

in_both_shapes![
    a_step_that_fails_twice_succeeds_at_its_third_attempt_after_its_back_off,
    a_permanent_failure_blocks_the_task_after_other_branches_have_ended,
    an_attempt_that_takes_too_long_is_stopped_and_tried_again,
    a_timed_out_delivery_is_cancelled_at_its_worker_and_its_late_result_refused,
    every_wait_is_what_its_step_says_and_no_retry_comes_late,
    a_step_that_may_be_attempted_once_fails_at_its_first_failure,
];

async fn a_step_that_fails_twice_succeeds_at_its_third_attempt_after_its_back_off(mesh: &Mesh) {
    let client = mesh.client();
    let yaml = "{namespace: retries, name: third_time, version: 1.0.0, steps: [
        {name: only, handler: {callable: fail_twice}, retry: {max_attempts: 3,
         backoff: exponential, backoff_base_ms: 200, max_backoff_ms: 1000, jitter: false}}]}";
    client.register_template(yaml).await.unwrap();
    let ends = Recorder::default();
    let mut handlers = Registry::new();
    handlers.register_fn("fail_twice", |step: StepContext| async move {
        match step.attempt() {
            1 | 2 => Err(HandlerError::retryable("busy", "not yet")),
            third => Ok(third),
        }
    });
    let worker = mesh.worker(&["retries"], &ends.of(&handlers));
    let began = std::time::Instant::now();
    let task_id = client.create_task(NewTask::of("retries", "third_time")).await.unwrap().task_id;
    let task = client.wait_for_task(&task_id, PATIENCE).await.unwrap();
    assert_eq!(task.state(), TaskState::Complete);
    assert!(began.elapsed() >= 3 * FIRST_WAIT, "a back-off was not waited for");
    let step = client.get_step(&task_id, "only").await.unwrap();
    assert_eq!((step.attempt, step.result.unwrap().payload.unwrap().data.as_ref()), (3, &b"3"[..]));
    assert_eq!(ends.count(), 3);
    worker.stop().await;
    let ledger = mesh.ledger().await;
    ledger.every_task_has_completed_once(1).await;
    ledger.nothing_is_left().await;
}

async fn a_permanent_failure_blocks_the_task_after_other_branches_have_ended(mesh: &Mesh) {
    let client = mesh.client();
    let yaml = "{namespace: retries, name: half, version: 1.0.0, steps: [
        {name: bad, handler: {callable: refuse}},
        {name: never, handler: {callable: pass}, dependencies: [bad, good_2]},
        {name: tired, handler: {callable: busy}, retry: {max_attempts: 2, backoff: none}},
        {name: good_1, handler: {callable: pass}},
        {name: good_2, handler: {callable: pass}, dependencies: [good_1]}]}";
    client.register_template(yaml).await.unwrap();
    let mut handlers = Registry::new();
    handlers.register_fn("pass", |_| async { Ok(1) });
    handlers.register_fn("refuse", |_| async {
        Err::<(), _>(HandlerError::permanent("card_declined", "the card is declined"))
    });
    handlers.register_fn("busy", |_| async {
        Err::<(), _>(HandlerError::retryable("busy", "try later"))
    });
    let worker = mesh.worker(&["retries"], &handlers);
    let task_id = client.create_task(NewTask::of("retries", "half")).await.unwrap().task_id;
    let task = client.wait_for_task(&task_id, PATIENCE).await.unwrap();
    assert_eq!(task.state(), TaskState::BlockedByFailures);
    let counts = task.steps.unwrap();
    assert_eq!((counts.failed, counts.satisfied, counts.total), (2, 2, 5));

    let stands = async |name| {
        let step = client.get_step(&task_id, name).await.unwrap();
        (step.state(), step.attempt)
    };
    // A permanent failure has no second attempt; `max_attempts` counts the first one.
    assert_eq!(stands("bad").await, (StepState::Error, 1));
    assert_eq!(stands("tired").await, (StepState::Error, 2));
    assert_eq!(stands("good_2").await, (StepState::Complete, 1));
    assert_eq!(stands("never").await, (StepState::Pending, 0));
    let error = client.get_step(&task_id, "bad").await.unwrap().result.unwrap().error.unwrap();
    assert_eq!((error.r#type.as_str(), error.retryable), ("card_declined", false));
    assert_eq!(error.message, "the card is declined");
    worker.stop().await;
    let ledger = mesh.ledger().await;
    ledger.histories_hold().await;
    ledger.nothing_is_left().await;
}

async fn an_attempt_that_takes_too_long_is_stopped_and_tried_again(mesh: &Mesh) {
    let client = mesh.client();
    let yaml = "{namespace: retries, name: slow, version: 1.0.0, steps: [
        {name: only, handler: {callable: hang_once}, timeout_seconds: 1}]}";
    client.register_template(yaml).await.unwrap();
    let mut handlers = Registry::new();
    handlers.register_fn("hang_once", |step: StepContext| async move {
        if step.attempt() == 1 {
            pending::<()>().await;
        }
        Ok(step.attempt())
    });
    let worker = mesh.worker(&["retries"], &handlers);
    let task_id = client.create_task(NewTask::of("retries", "slow")).await.unwrap().task_id;
    let task = client.wait_for_task(&task_id, PATIENCE).await.unwrap();
    assert_eq!(task.state(), TaskState::Complete);
    let step = client.get_step(&task_id, "only").await.unwrap();
    assert_eq!((step.attempt, step.result.unwrap().payload.unwrap().data.as_ref()), (2, &b"2"[..]));
    worker.stop().await;
    let ledger = mesh.ledger().await;
    ledger.every_task_has_completed_once(1).await;
    ledger.nothing_is_left().await;
}

async fn a_timed_out_delivery_is_cancelled_at_its_worker_and_its_late_result_refused(mesh: &Mesh) {
    let client = mesh.client();
    let yaml = "{namespace: retries, name: two_seconds, version: 1.0.0, steps: [
        {name: only, handler: {callable: only}, timeout_seconds: 2, retry: {max_attempts: 2}}]}";
    client.register_template(yaml).await.unwrap();
    let task_id = client.create_task(NewTask::of("retries", "two_seconds")).await.unwrap().task_id;
    let hello = Session::hello("slow", "retries", &["only"], 1);
    let mut session = Session::open(mesh.channel().await, hello).await.unwrap();
    let late = session.take().await;
    assert_eq!(session.cancelled().await, std::slice::from_ref(&late.delivery_token));
    let current = session.take().await;
    assert_eq!((late.attempt, current.attempt), (1, 2), "the attempt that took too long counts");

    let verdict = session.report(success(&late.delivery_token, "1")).await;
    assert_eq!(verdict, ResultVerdict::LeaseLost);
    let verdict = session.report(success(&current.delivery_token, "2")).await;
    assert_eq!(verdict, ResultVerdict::Committed);
    let task = client.wait_for_task(&task_id, PATIENCE).await.unwrap();
    assert_eq!(task.state(), TaskState::Complete);
    let result = client.get_step(&task_id, "only").await.unwrap().result.unwrap();
    assert_eq!(result.payload.unwrap().data.as_ref(), b"2");
    session.drain().await;
    let ledger = mesh.ledger().await;
    ledger.every_task_has_completed_once(1).await;
    ledger.nothing_is_left().await;
}

async fn every_wait_is_what_its_step_says_and_no_retry_comes_late(mesh: &Mesh) {
    let client = mesh.client();
    let yaml = "{namespace: retries, name: waits, version: 1.0.0, steps: [
        {name: linear, handler: {callable: busy},
         retry: {max_attempts: 4, backoff: linear, backoff_base_ms: 100, jitter: false}},
        {name: exponential, handler: {callable: busy},
         retry: {max_attempts: 4, backoff: exponential, backoff_base_ms: 100, jitter: false}},
        {name: fibonacci, handler: {callable: busy},
         retry: {max_attempts: 4, backoff: fibonacci, backoff_base_ms: 100, jitter: false}},
        {name: bounded, handler: {callable: busy}, retry: {max_attempts: 4,
         backoff: exponential, backoff_base_ms: 100, max_backoff_ms: 150, jitter: false}},
        {name: jittered, handler: {callable: busy},
         retry: {max_attempts: 4, backoff: linear, backoff_base_ms: 100, jitter: true}},
        {name: asks_for_more, handler: {callable: ask_for_250},
         retry: {max_attempts: 4, backoff: linear, backoff_base_ms: 100, jitter: false}},
        {name: asks_for_less, handler: {callable: ask_for_50},
         retry: {max_attempts: 4, backoff: exponential, backoff_base_ms: 100, max_backoff_ms: 100,
         jitter: false}},
        {name: none, handler: {callable: busy}, retry: {max_attempts: 4, backoff: none}}]}";
    client.register_template(yaml).await.unwrap();
    let ledger = mesh.ledger().await;
    ledger.note_waits().await;
    let busy = || HandlerError::retryable("busy", "try later");
    let mut handlers = Registry::new();
    handlers.register_fn("busy", move |_| async move { Err::<(), _>(busy()) });
    handlers.register_fn("ask_for_250", move |_| async move {
        Err::<(), _>(busy().after(Duration::from_millis(250)))
    });
    handlers.register_fn("ask_for_50", move |_| async move {
        Err::<(), _>(busy().after(Duration::from_millis(50)))
    });
    let task_id = client.create_task(NewTask::of("retries", "waits")).await.unwrap().task_id;
    let worker = mesh.worker(&["retries"], &handlers);
    let task = client.wait_for_task(&task_id, PATIENCE).await.unwrap();
    assert_eq!(task.state(), TaskState::BlockedByFailures);
    worker.stop().await;

    let waits = ledger.waits().await;
    let millis = |step: &str| -> Vec<u128> {
        waits.iter().filter(|wait| wait.step == step).map(|wait| wait.waits.as_millis()).collect()
    };
    assert_eq!(millis("linear"), [100, 200, 300]);
    assert_eq!(millis("exponential"), [100, 200, 400]);
    assert_eq!(millis("fibonacci"), [100, 100, 200]);
    assert_eq!(millis("bounded"), [100, 150, 150]);
    assert_eq!(millis("asks_for_more"), [250, 250, 300]);
    assert_eq!(millis("asks_for_less"), [100, 100, 100]);
    assert_eq!(millis("none"), [0, 0, 0]);
    for (whole, part) in [100, 200, 300].into_iter().zip(millis("jittered")) {
        assert!((whole / 2..=whole).contains(&part), "{part} of {whole} ms");
    }
    let mut late: Vec<Duration> = waits.iter().map(|wait| wait.late).collect();
    late.sort();
    println!("{} retries: half within {:?}, all within {:?}", late.len(), late[12], late[23]);
    assert!(late[late.len() / 2] < LATE && late.iter().all(|late| *late < LATEST), "{late:?}");
    ledger.histories_hold().await;
    ledger.nothing_is_left().await;
}

async fn a_step_that_may_be_attempted_once_fails_at_its_first_failure(mesh: &Mesh) {
    let client = mesh.client();
    let yaml = "{namespace: retries, name: once, version: 1.0.0, steps: [
        {name: zero, handler: {callable: busy}, retry: {max_attempts: 0, backoff: none}},
        {name: one, handler: {callable: busy}, retry: {max_attempts: 1, backoff: none}},
        {name: forbidden, handler: {callable: busy}, retry: {retryable: false, max_attempts: 5}},
        {name: refused, handler: {callable: refuse}, retry: {max_attempts: 5, backoff: none}}]}";
    client.register_template(yaml).await.unwrap();
    let recorder = Recorder::default();
    let mut handlers = Registry::new();
    handlers.register_fn("busy", |_| async {
        Err::<(), _>(HandlerError::retryable("busy", "try later"))
    });
    handlers.register_fn("refuse", |_| async {
        Err::<(), _>(HandlerError::permanent("refused", "it will not help"))
    });
    let worker = mesh.worker(&["retries"], &recorder.of(&handlers));
    let task_id = client.create_task(NewTask::of("retries", "once")).await.unwrap().task_id;
    let task = client.wait_for_task(&task_id, PATIENCE).await.unwrap();
    assert_eq!(task.state(), TaskState::BlockedByFailures);
    let steps: Vec<_> = client.list_steps(&task_id).try_collect().await.unwrap();
    assert_eq!(steps.len(), 4);
    for step in steps {
        assert_eq!((step.state(), step.attempt), (StepState::Error, 1), "{}", step.name);
    }
    assert_eq!(recorder.count(), 4);
    worker.stop().await;
    let ledger = mesh.ledger().await;
    ledger.histories_hold().await;
    ledger.nothing_is_left().await;
}
