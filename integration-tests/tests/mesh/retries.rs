//! Failures: tried again as the template says, or for good.

use std::{future::pending, time::Duration};

use tasker_client::{
    NewTask,
    v1::{StepState, TaskState},
};
use tasker_integration_tests::{Mesh, Recorder};
use tasker_worker::{HandlerError, Registry, StepContext};

const PATIENCE: Duration = Duration::from_secs(30);
const FIRST_WAIT: Duration = Duration::from_millis(200);

in_both_shapes![
    a_step_that_fails_twice_succeeds_at_its_third_attempt_after_its_back_off,
    a_permanent_failure_blocks_the_task_after_other_branches_have_ended,
    an_attempt_that_takes_too_long_is_stopped_and_tried_again,
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
