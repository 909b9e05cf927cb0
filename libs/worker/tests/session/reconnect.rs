//! Connections that come and go; deliveries and results that stay.

use std::time::Duration;

use tasker_worker::{
    WorkerError,
    v1::{GoAway, ResultVerdict, Welcome, work_response::Message},
};
use tonic::{Code, Status};

use crate::{
    bench::Bench,
    fake::{delivery, success, welcome},
};

#[tokio::test]
async fn a_handler_outlives_its_connection_if_its_lease_does() {
    let (mut bench, mut session) = Bench::start(2).await;
    session.deliver_acked([delivery("a", "gate")]).await;
    bench.begun().await;
    session.end_with(Status::unavailable("going down")).await;

    let mut session = bench.mesh.session().await;
    assert_eq!(session.hello.held, ["a"]);
    assert_eq!(session.acked().await, ["a"]);
    bench.open(1);
    assert_eq!(success(&session.result().await), "\"a\"");
}

#[tokio::test]
async fn a_result_is_sent_again_until_it_is_acknowledged() {
    let (mut bench, mut session) = Bench::start(2).await;
    session.deliver_acked([delivery("a", "double")]).await;
    session.result().await;
    for _ in 0..2 {
        drop(session);
        session = bench.mesh.session().await;
        assert_eq!(session.hello.held, ["a"]);
        assert_eq!(success(&session.result().await), "12");
    }
    let result =
        tasker_worker::v1::StepResult { delivery_token: "a".to_owned(), ..Default::default() };
    session.answer(&[result], ResultVerdict::Committed).await;
    session.is_quiet("double").await;
    drop(session);
    assert_eq!(bench.mesh.session().await.hello.held, ["quiet"]);
}

#[tokio::test]
async fn a_delivery_that_is_not_resumed_is_stopped_and_forgotten() {
    let (mut bench, mut session) = Bench::start(2).await;
    session.deliver_acked([delivery("lost", "gate"), delivery("kept", "gate")]).await;
    bench.begun().await;
    bench.begun().await;
    drop(session);

    let mut session = bench.mesh.arrival().await;
    session.welcome(Welcome { resumed: vec!["kept".to_owned()], ..welcome() }).await;
    assert_eq!(bench.cancelled().await, "lost");
    assert_eq!(session.acked().await, ["kept"]);
    bench.open(1);
    assert_eq!(session.result().await.delivery_token, "kept");
}

#[tokio::test]
async fn a_result_whose_lease_was_lost_meanwhile_is_not_sent() {
    let (mut bench, mut session) = Bench::start(2).await;
    session.deliver_acked([delivery("a", "double")]).await;
    session.result().await;
    drop(session);
    let mut session = bench.mesh.arrival().await;
    session.welcome(welcome()).await;
    session.is_quiet("gate").await;
}

#[tokio::test]
async fn a_server_that_says_nothing_for_three_heartbeats_is_left() {
    let mut bench = Bench::start_unwelcome(2, Duration::from_secs(30)).await;
    let mut silent = bench.mesh.arrival().await;
    silent.stop_answering_pings();
    let heartbeat_interval = Some(Duration::from_millis(20).try_into().unwrap());
    silent.welcome(Welcome { heartbeat_interval, ..welcome() }).await;
    assert_eq!(silent.hear().await, None);
    assert_eq!(silent.pings, [1, 2, 3]);
    bench.mesh.session().await;
}

#[tokio::test]
async fn any_word_of_the_server_counts_as_life() {
    let mut bench = Bench::start_unwelcome(2, Duration::from_secs(30)).await;
    let mut session = bench.mesh.arrival().await;
    session.stop_answering_pings();
    let heartbeat_interval = Some(Duration::from_millis(50).try_into().unwrap());
    session.welcome(Welcome { heartbeat_interval, ..welcome() }).await;
    // One pong would do for three pings; here deliveries stand in for it.
    for n in 0.. {
        session.deliver_acked([delivery(&n.to_string(), "double")]).await;
        let result = session.result().await;
        session.answer(&[result], ResultVerdict::Committed).await;
        if session.pings.len() > 6 {
            return;
        }
    }
}

#[tokio::test]
async fn a_server_that_goes_away_is_connected_to_again_with_all_that_is_held() {
    let (mut bench, mut session) = Bench::start(2).await;
    session.deliver_acked([delivery("a", "gate")]).await;
    session.say(Message::GoAway(GoAway { reason: "drained".to_owned() })).await;
    let next = bench.mesh.session().await;
    assert_eq!(next.hello.held, ["a"]);
    assert_eq!(session.hear().await, None, "the old stream is closed");
}

#[tokio::test]
async fn a_worker_goes_on_connecting_while_the_mesh_is_away() {
    let mut bench = Bench::start_unwelcome(2, Duration::from_secs(30)).await;
    for code in [Code::Unavailable, Code::Internal, Code::Unknown, Code::ResourceExhausted] {
        bench.mesh.refuse(Status::new(code, "not now")).await;
    }
    bench.mesh.session().await;
}

#[tokio::test]
async fn a_worker_that_the_mesh_refuses_ends_with_the_reason() {
    for code in [Code::InvalidArgument, Code::Unauthenticated, Code::PermissionDenied] {
        let mut bench = Bench::start_unwelcome(2, Duration::from_secs(30)).await;
        bench.mesh.refuse(Status::new(code, "never")).await;
        match bench.ended().await {
            Err(WorkerError::Refused(error)) => assert_eq!(error.code(), code),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_refusal_within_a_session_ends_the_worker_too() {
    let (bench, session) = Bench::start(2).await;
    session.end_with(Status::invalid_argument("no such namespace")).await;
    assert!(matches!(bench.ended().await, Err(WorkerError::Refused(_))));
}
