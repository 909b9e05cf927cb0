//! Checkpoints: saved when the mesh says so, kept over connections; and steps that go on later.

use std::time::Duration;

use tasker_worker::v1::{
    Checkpoint, Delivery, Payload, ProgressVerdict, ResultVerdict, StepYield, Welcome,
    step_result::Outcome,
};

use crate::{
    bench::Bench,
    fake::{delivery, failure, success, welcome},
};

fn at(checkpoint: &Checkpoint) -> &str {
    std::str::from_utf8(&checkpoint.cursor.as_ref().unwrap().data).unwrap()
}

#[tokio::test]
async fn a_handler_goes_on_from_what_was_saved_before() {
    let (_bench, mut session) = Bench::start(1).await;
    let cursor = Some(Payload { data: "41".into(), ..Payload::default() });
    let checkpoint = Some(Checkpoint { cursor, ..Checkpoint::default() });
    session.deliver_acked([Delivery { checkpoint, ..delivery("a", "resume") }]).await;
    assert_eq!(success(&session.result().await), "42");
}

#[tokio::test]
async fn a_checkpoint_is_saved_once_the_mesh_says_so() {
    let (_bench, mut session) = Bench::start(1).await;
    session.deliver_acked([delivery("a", "save")]).await;
    for cursor in ["1", "2", "3"] {
        let progress = session.progress().await;
        assert_eq!(progress.delivery_token, "a");
        assert_eq!(at(progress.checkpoint.as_ref().unwrap()), cursor);
        session.answer_progress(&progress, ProgressVerdict::Committed).await;
    }
    assert_eq!(success(&session.result().await), "\"saved\"");
}

#[tokio::test]
async fn checkpoints_are_sent_again_in_their_order_until_they_are_acknowledged() {
    let (mut bench, mut session) = Bench::start(1).await;
    session.deliver_acked([delivery("a", "save_together")]).await;
    let mut sent = Vec::new();
    for _ in 0..3 {
        sent.push(session.progress().await);
    }
    session.answer_progress(&sent[0], ProgressVerdict::Committed).await;
    // So that the answer is heard before the connection is cut.
    session.deliver([delivery("a", "save_together")]).await;
    assert_eq!(session.acked().await, ["a"]);
    drop(session);

    let mut session = bench.mesh.session().await;
    assert_eq!(session.acked().await, ["a"]);
    for progress in &sent[1..] {
        assert_eq!(session.progress().await, *progress);
        session.answer_progress(progress, ProgressVerdict::Committed).await;
    }
    assert_eq!(success(&session.result().await), "\"saved\"");
}

#[tokio::test]
async fn a_checkpoint_of_a_delivery_that_is_not_resumed_fails_and_is_not_sent() {
    let (mut bench, mut session) = Bench::start(2).await;
    session.deliver_acked([delivery("a", "save")]).await;
    session.progress().await;
    drop(session);
    let mut session = bench.mesh.arrival().await;
    session.welcome(welcome()).await;
    session.is_quiet("gate").await;
}

#[tokio::test]
async fn a_handler_whose_lease_is_lost_is_told_so_by_its_checkpoint() {
    let (_bench, mut session) = Bench::start(2).await;
    session.deliver_acked([delivery("a", "save")]).await;
    let progress = session.progress().await;
    session.answer_progress(&progress, ProgressVerdict::LeaseLost).await;
    // Neither another checkpoint nor a result is sent.
    session.is_quiet("gate").await;
}

#[tokio::test]
async fn a_checkpoint_that_the_mesh_refuses_fails_as_it_says() {
    let (_bench, mut session) = Bench::start(1).await;
    session.deliver_acked([delivery("a", "save")]).await;
    let progress = session.progress().await;
    session.answer_progress(&progress, ProgressVerdict::Invalid).await;
    let result = session.result().await;
    let error = failure(&result);
    assert_eq!((error.r#type.as_str(), error.retryable), ("CHECKPOINT_REFUSED", false));
    assert_eq!(error.message, "because");
}

#[tokio::test]
async fn a_checkpoint_that_is_too_large_is_not_sent() {
    let mut bench = Bench::start_unwelcome(1, Duration::from_secs(30)).await;
    let mut session = bench.mesh.arrival().await;
    session.welcome(Welcome { max_checkpoint_bytes: 3, ..welcome() }).await;
    session.deliver_acked([delivery("a", "save")]).await;
    let result = session.result().await;
    assert_eq!(failure(&result).r#type, "CHECKPOINT_REFUSED");
    assert!(failure(&result).message.contains("3 are allowed"));
}

#[tokio::test]
async fn a_handler_yields_its_step_with_what_it_goes_on_from() {
    let (_bench, mut session) = Bench::start(1).await;
    session.deliver_acked([delivery("a", "yield")]).await;
    let result = session.result().await;
    let Some(Outcome::Yielded(StepYield { checkpoint, delay })) = &result.outcome else {
        panic!("a yield was expected: {result:?}")
    };
    assert_eq!(at(checkpoint.as_ref().unwrap()), "7");
    assert_eq!(Duration::try_from(delay.unwrap()).unwrap(), Duration::from_millis(1_500));
    assert_eq!(result.retry_after, None);
    session.answer(&[result], ResultVerdict::Committed).await;
    session.is_quiet("double").await;
}
