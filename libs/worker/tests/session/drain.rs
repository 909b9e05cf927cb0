//! Stopping: what was begun is finished, what was not is given back.

use std::time::Duration;

use tasker_worker::{
    WorkerError,
    v1::{Cancel, Drain, ResultVerdict, work_request::Message, work_response},
};

use crate::{
    bench::Bench,
    fake::{delivery, failure, success},
};

#[tokio::test]
async fn an_idle_worker_says_that_it_drains_and_closes() {
    let (bench, mut session) = Bench::start(2).await;
    session.deliver_acked([delivery("a", "double")]).await;
    let result = session.result().await;
    session.answer(&[result], ResultVerdict::Committed).await;
    bench.shut_down();
    assert_eq!(session.hear().await, Some(Message::Drain(Drain {})));
    assert_eq!(session.hear().await, None);
    drop(session);
    bench.ended().await.unwrap();
}

#[tokio::test]
async fn what_was_begun_is_finished_and_acknowledged_before_the_worker_ends() {
    let (mut bench, mut session) = Bench::start(2).await;
    session.deliver_acked([delivery("a", "gate")]).await;
    bench.begun().await;
    bench.shut_down();
    assert_eq!(session.hear().await, Some(Message::Drain(Drain {})));
    bench.open(1);
    let result = session.result().await;
    assert_eq!(success(&result), "\"a\"");
    session.answer(&[result], ResultVerdict::Committed).await;
    assert_eq!(session.hear().await, None);
    drop(session);
    bench.ended().await.unwrap();
}

#[tokio::test]
async fn what_was_not_begun_is_given_back() {
    let (mut bench, mut session) = Bench::start(1).await;
    session.deliver_acked([delivery("a", "deaf")]).await;
    bench.begun().await;
    // Its place is free for the server at once, but its handler has not stopped yet.
    let cancel = Cancel { delivery_tokens: vec!["a".to_owned()], reason: String::new() };
    session.say(work_response::Message::Cancel(cancel)).await;
    session.deliver([delivery("b", "gate")]).await;
    bench.shut_down();
    let mut heard = Vec::new();
    while let Some(message) = session.hear().await {
        heard.push(message);
    }
    let given_back = heard.iter().any(|message| match message {
        Message::Nack(nack) => nack.delivery_tokens == ["b"],
        _ => false,
    });
    assert!(given_back, "{heard:?}");
}

#[tokio::test]
async fn a_delivery_that_crosses_the_drain_is_given_back() {
    let (bench, mut session) = Bench::start(2).await;
    session.deliver_acked([delivery("a", "gate")]).await;
    bench.shut_down();
    assert_eq!(session.hear().await, Some(Message::Drain(Drain {})));
    session.deliver([delivery("b", "gate"), delivery("a", "gate")]).await;
    let mut heard = [session.hear().await.unwrap(), session.hear().await.unwrap()];
    heard.sort_by_key(|message| matches!(message, Message::Nack(_)));
    let [Message::DeliveryAck(ack), Message::Nack(nack)] = &heard else { panic!("{heard:?}") };
    assert_eq!((&ack.delivery_tokens[0][..], &nack.delivery_tokens[0][..]), ("a", "b"));
}

#[tokio::test]
async fn handlers_that_take_too_long_are_dropped_and_their_steps_fail_retryably() {
    let mut bench = Bench::start_unwelcome(2, Duration::from_millis(20)).await;
    let mut session = bench.mesh.session().await;
    session.deliver_acked([delivery("a", "deaf")]).await;
    bench.begun().await;
    bench.shut_down();
    assert_eq!(session.hear().await, Some(Message::Drain(Drain {})));
    let result = session.result().await;
    assert_eq!(
        (&failure(&result).r#type[..], failure(&result).retryable),
        ("WORKER_STOPPED", true)
    );
    session.answer(&[result], ResultVerdict::Committed).await;
    assert_eq!(session.hear().await, None);
    drop(session);
    bench.ended().await.unwrap();
}

#[tokio::test]
async fn a_worker_that_nobody_answers_stops_at_once() {
    let bench = Bench::start_unwelcome(2, Duration::from_secs(30)).await;
    bench.shut_down();
    bench.ended().await.unwrap();
}

#[tokio::test]
async fn a_worker_between_two_tries_to_connect_stops_at_once() {
    let mut bench = Bench::start_unwelcome(2, Duration::from_secs(30)).await;
    // By now it waits for a second or so before the next.
    for _ in 0..6 {
        bench.mesh.refuse(tonic::Status::unavailable("away")).await;
    }
    bench.shut_down();
    let stopping = std::time::Instant::now();
    bench.ended().await.unwrap();
    assert!(stopping.elapsed() < Duration::from_millis(500), "{:?}", stopping.elapsed());
}

#[tokio::test]
async fn results_are_handed_in_over_a_new_connection_if_the_old_one_breaks() {
    let (mut bench, mut session) = Bench::start(2).await;
    session.deliver_acked([delivery("a", "double")]).await;
    session.result().await;
    bench.shut_down();
    assert_eq!(session.hear().await, Some(Message::Drain(Drain {})));
    drop(session);

    let mut session = bench.mesh.session().await;
    assert_eq!((session.hello.credit, &session.hello.held[..]), (0, &["a".to_owned()][..]));
    let mut heard = [session.hear().await.unwrap(), session.hear().await.unwrap()];
    heard.sort_by_key(|message| matches!(message, Message::Results(_)));
    let [Message::Drain(_), Message::Results(results)] = &heard else { panic!("{heard:?}") };
    session.answer(&results.results, ResultVerdict::Committed).await;
    assert_eq!(session.hear().await, None);
    drop(session);
    bench.ended().await.unwrap();
}

#[tokio::test]
async fn a_worker_that_cannot_hand_in_its_results_says_so() {
    let mut bench = Bench::start_unwelcome(2, Duration::ZERO).await;
    let mut session = bench.mesh.session().await;
    session.deliver_acked([delivery("a", "double")]).await;
    session.result().await;
    bench.shut_down();
    assert!(matches!(bench.ended().await, Err(WorkerError::NotDrained { held: 1 })));
}

#[tokio::test]
async fn a_worker_that_is_dropped_lets_go_of_its_connection_and_of_its_handlers() {
    let (mut bench, mut session) = Bench::start(2).await;
    session.deliver_acked([delivery("a", "deaf")]).await;
    bench.begun().await;
    bench.dropped().await;
    assert_eq!(session.hear().await, None);
}
