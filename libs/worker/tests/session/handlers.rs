//! Handlers: what they are given, and what becomes of how they end.

use std::{sync::atomic::Ordering, time::Duration};

use tasker_worker::v1::{Cancel, Payload, ResultVerdict, TraceContext, work_response::Message};

use crate::{
    bench::{Bench, CALLABLES},
    fake::{by_token, delivery, failure, success},
};

#[tokio::test]
async fn the_worker_says_who_it_is_and_what_it_can_do() {
    let (_bench, session) = Bench::start(3).await;
    let hello = &session.hello;
    assert_eq!((hello.worker_id.as_str(), hello.protocol_version, hello.credit), ("w", 1, 3));
    assert_eq!(hello.namespaces, ["tests"]);
    assert_eq!(hello.handlers, CALLABLES);
    assert!(hello.held.is_empty() && hello.sdk.starts_with("tasker-worker-rust/"));
}

#[tokio::test]
async fn a_delivery_is_acknowledged_before_its_handler_has_ended() {
    let (mut bench, mut session) = Bench::start(2).await;
    session.deliver_acked([delivery("a", "gate"), delivery("b", "gate")]).await;
    assert_eq!([bench.begun().await, bench.begun().await].len(), 2);
    bench.open(2);
    assert!(success(&session.results().await[0]).len() == 3);
}

#[tokio::test]
async fn handlers_run_side_by_side_up_to_the_concurrency() {
    let (mut bench, mut session) = Bench::start(4).await;
    let four = ["a", "b", "c", "d"];
    session.deliver_acked(four.map(|token| delivery(token, "gate"))).await;
    for _ in four {
        bench.begun().await;
    }
    assert_eq!(bench.running.load(Ordering::SeqCst), 4);
    // More wait, up to twice the concurrency, and no further.
    let more = ["e", "f", "g", "h"];
    session.deliver_acked(more.map(|token| delivery(token, "gate"))).await;
    session.deliver([delivery("i", "gate")]).await;
    assert_eq!(session.nacked().await, ["i"]);
    assert_eq!(bench.running.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn a_delivery_that_comes_twice_is_acknowledged_twice_and_run_once() {
    let (mut bench, mut session) = Bench::start(2).await;
    session.deliver_acked([delivery("a", "gate")]).await;
    session.deliver_acked([delivery("a", "gate")]).await;
    assert_eq!(bench.begun().await, "a");
    assert_eq!(bench.running.load(Ordering::SeqCst), 1);
    bench.open(2);
    assert_eq!(success(&session.result().await), "\"a\"");
}

#[tokio::test]
async fn a_panic_is_a_retryable_failure_and_leaves_the_worker_running() {
    let (_bench, mut session) = Bench::start(2).await;
    session.deliver_acked([delivery("a", "panic")]).await;
    let result = session.result().await;
    let error = failure(&result);
    assert_eq!((error.r#type.as_str(), error.retryable), ("HANDLER_PANICKED", true));
    assert!(error.message.contains("seven was wanted"), "{error:?}");
    session.deliver_acked([delivery("b", "double")]).await;
    assert_eq!(success(&session.result().await), "12");
}

#[tokio::test]
async fn an_input_that_does_not_parse_is_a_permanent_failure() {
    let (_bench, mut session) = Bench::start(2).await;
    let context = Some(Payload { data: "\"six\"".into(), ..Payload::default() });
    let bad = tasker_worker::v1::Delivery { context, ..delivery("a", "double") };
    session.deliver_acked([bad]).await;
    let result = session.result().await;
    let error = failure(&result);
    assert_eq!((error.r#type.as_str(), error.retryable), ("INVALID_INPUT", false));
}

#[tokio::test]
async fn a_handler_may_ask_for_a_later_attempt() {
    let (_bench, mut session) = Bench::start(2).await;
    session.deliver_acked([delivery("a", "patient")]).await;
    let result = session.result().await;
    assert!(failure(&result).retryable);
    let wait = Duration::try_from(result.retry_after.unwrap()).unwrap();
    assert_eq!(wait, Duration::from_millis(1500));
}

#[tokio::test]
async fn a_callable_that_is_not_here_fails_and_may_be_tried_elsewhere() {
    let (_bench, mut session) = Bench::start(2).await;
    session.deliver_acked([delivery("a", "unheard_of")]).await;
    let result = session.result().await;
    assert_eq!(
        (failure(&result).r#type.as_str(), failure(&result).retryable),
        ("NO_HANDLER", true)
    );
}

#[tokio::test]
async fn a_result_that_cannot_be_sent_fails_its_step_and_no_other() {
    let (_bench, mut session) = Bench::start(2).await;
    session.deliver_acked([delivery("a", "large"), delivery("b", "double")]).await;
    let mut results = session.results().await;
    while results.len() < 2 {
        results.extend(session.results().await);
    }
    let results = by_token(results);
    let error = failure(&results["a"]);
    assert_eq!((error.r#type.as_str(), error.retryable), ("RESULT_TOO_LARGE", false));
    assert_eq!(success(&results["b"]), "12");
}

#[tokio::test]
async fn a_handler_is_told_to_stop_when_its_step_is_cancelled() {
    let (mut bench, mut session) = Bench::start(1).await;
    session.deliver_acked([delivery("a", "gate")]).await;
    bench.begun().await;
    let cancel = Cancel { delivery_tokens: vec!["a".to_owned()], reason: String::new() };
    session.say(Message::Cancel(cancel)).await;
    assert_eq!(bench.cancelled().await, "a");
    // Its result is not sent: the next word is about the next delivery.
    session.is_quiet("double").await;
    assert_eq!(session.result().await.delivery_token, "quiet");
}

#[tokio::test]
async fn a_handler_is_told_to_stop_when_its_step_times_out() {
    let (mut bench, mut session) = Bench::start(1).await;
    let timeout = Some(Duration::from_millis(20).try_into().unwrap());
    session.deliver_acked([tasker_worker::v1::Delivery { timeout, ..delivery("a", "gate") }]).await;
    assert_eq!(bench.cancelled().await, "a");
    let result = session.result().await;
    assert_eq!(failure(&result).r#type, "CANCELLED");
    session.answer(&[result], ResultVerdict::LeaseLost).await;
    session.is_quiet("double").await;
}

#[tokio::test]
async fn a_handler_that_does_not_stop_is_dropped_and_makes_room() {
    let (mut bench, mut session) = Bench::start(1).await;
    session.deliver_acked([delivery("a", "deaf")]).await;
    bench.begun().await;
    let cancel = Cancel { delivery_tokens: vec!["a".to_owned()], reason: String::new() };
    session.say(Message::Cancel(cancel)).await;
    session.deliver_acked([delivery("b", "double")]).await;
    assert_eq!(session.result().await.delivery_token, "b");
}

#[tokio::test]
async fn a_handler_runs_in_a_span_of_its_tasks_trace() {
    use opentelemetry::trace::TracerProvider as _;
    use tracing_subscriber::layer::SubscriberExt as _;

    opentelemetry::global::set_text_map_propagator(
        opentelemetry_sdk::propagation::TraceContextPropagator::new(),
    );
    let provider = opentelemetry_sdk::trace::SdkTracerProvider::builder().build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));

    let (_bench, mut session) = Bench::start(1).await;
    let (trace_id, parent) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
    let traceparent = format!("00-{trace_id}-{parent}-01");
    let trace = Some(TraceContext { traceparent, tracestate: String::new() });
    session.deliver_acked([tasker_worker::v1::Delivery { trace, ..delivery("a", "double") }]).await;
    let of_span = session.result().await.trace.unwrap().traceparent;
    assert!(of_span.contains(trace_id) && !of_span.contains(parent), "{of_span}");
}
