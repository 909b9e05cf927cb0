//! Results: batched, kept until acknowledged, settled by every answer.

use tasker_worker::v1::ResultVerdict;

use crate::{
    bench::Bench,
    fake::{by_token, delivery, failure, success},
};

#[tokio::test]
async fn a_lone_result_goes_at_once() {
    let (_bench, mut session) = Bench::start(8).await;
    session.deliver_acked([delivery("a", "double")]).await;
    assert_eq!(success(&session.result().await), "12");
}

#[tokio::test]
async fn results_that_are_ready_together_go_together() {
    let (mut bench, mut session) = Bench::start(64).await;
    let tokens: Vec<_> = (0..64).map(|n| n.to_string()).collect();
    session.deliver_acked(tokens.iter().map(|token| delivery(token, "gate"))).await;
    for _ in &tokens {
        bench.begun().await;
    }
    bench.open(64);
    let (mut results, mut messages) = (Vec::new(), 0);
    while results.len() < 64 {
        results.extend(session.results().await);
        messages += 1;
    }
    assert_eq!(by_token(results).len(), 64);
    assert!(messages < 64, "{messages} messages");
}

#[tokio::test]
async fn every_answer_settles_a_result_and_makes_room() {
    let (_bench, mut session) = Bench::start(1).await;
    let settling = [ResultVerdict::Committed, ResultVerdict::Duplicate, ResultVerdict::LeaseLost];
    for (n, verdict) in settling.into_iter().enumerate() {
        session.deliver_acked([delivery(&n.to_string(), "double")]).await;
        let result = session.result().await;
        session.answer(&[result], verdict).await;
    }
    session.is_quiet("double").await;
}

#[tokio::test]
async fn a_delivery_may_overtake_the_acknowledgement_that_made_room_for_it() {
    let (_bench, mut session) = Bench::start(1).await;
    session.deliver_acked([delivery("a", "double")]).await;
    let first = session.result().await;
    session.deliver_acked([delivery("b", "double")]).await;
    session.answer(&[first], ResultVerdict::Committed).await;
    assert_eq!(session.result().await.delivery_token, "b");
}

#[tokio::test]
async fn results_that_are_never_acknowledged_do_not_gather_without_end() {
    let (_bench, mut session) = Bench::start(1).await;
    for token in ["a", "b"] {
        session.deliver_acked([delivery(token, "double")]).await;
        session.result().await;
    }
    session.deliver([delivery("c", "double")]).await;
    assert_eq!(session.nacked().await, ["c"]);
}

#[tokio::test]
async fn a_refused_result_becomes_a_permanent_failure_once() {
    let (_bench, mut session) = Bench::start(1).await;
    session.deliver_acked([delivery("a", "double")]).await;
    let result = session.result().await;
    session.answer(&[result], ResultVerdict::Invalid).await;

    let instead = session.result().await;
    let error = failure(&instead);
    assert_eq!((error.r#type.as_str(), error.retryable), ("RESULT_REFUSED", false));
    assert_eq!(error.message, "because");
    session.answer(&[instead], ResultVerdict::Invalid).await;
    session.is_quiet("double").await;
}
