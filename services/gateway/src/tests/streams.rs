use std::time::Duration;

use futures::StreamExt as _;
use tasker_api::v1::{self, WatchTaskRequest, work_request, work_response};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Request};
use tonic_types::StatusExt as _;

use super::{fake::Seen, mesh::Mesh};

fn ping(sequence: i64) -> v1::WorkRequest {
    v1::WorkRequest { message: Some(work_request::Message::Ping(v1::Ping { sequence })) }
}

fn pong(sequence: i64) -> v1::WorkResponse {
    v1::WorkResponse { message: Some(work_response::Message::Pong(v1::Pong { sequence })) }
}

#[tokio::test]
async fn what_a_service_streams_passes_before_the_stream_ends() {
    let mesh = Mesh::start().await;
    let request = WatchTaskRequest::default();
    let mut events = mesh.tasks().await.watch_task(request).await.unwrap().into_inner();
    assert_eq!(events.message().await.unwrap().unwrap().cursor, "1");
}

#[tokio::test]
async fn a_worker_and_its_service_talk_in_turns() {
    let mesh = Mesh::start().await;
    let (sender, requests) = tokio::sync::mpsc::unbounded_channel();
    let requests = UnboundedReceiverStream::new(requests);
    // Answered before the worker has said anything.
    let mut answers = mesh.workers().await.work(requests).await.unwrap().into_inner();
    for sequence in 1..=3 {
        sender.send(ping(sequence)).unwrap();
        assert_eq!(answers.message().await.unwrap(), Some(pong(sequence)));
    }
    drop(sender);
    assert_eq!(answers.message().await.unwrap(), None);
}

#[tokio::test]
async fn an_open_stream_ends_at_its_deadline() {
    let mut mesh = Mesh::start().await;
    let mut request = Request::new(WatchTaskRequest::default());
    request.set_timeout(Duration::from_millis(200));
    let mut events = mesh.tasks().await.watch_task(request).await.unwrap().into_inner();
    assert!(events.message().await.unwrap().is_some());
    let status = events.message().await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert!(matches!(mesh.next_seen().await, Seen::Called(_)));
    assert!(matches!(mesh.next_seen().await, Seen::Dropped));
}

#[tokio::test]
async fn a_stream_that_nobody_reads_any_more_ends_at_the_service() {
    let mut mesh = Mesh::start().await;
    let request = WatchTaskRequest::default();
    let events = mesh.tasks().await.watch_task(request).await.unwrap().into_inner();
    assert!(matches!(mesh.next_seen().await, Seen::Called(_)));
    drop(events);
    assert!(matches!(mesh.next_seen().await, Seen::Dropped));
}

#[tokio::test]
async fn a_stream_whose_service_dies_asks_to_be_opened_again() {
    let mut mesh = Mesh::start().await;
    let request = WatchTaskRequest::default();
    let mut events = mesh.tasks().await.watch_task(request).await.unwrap().into_inner();
    assert!(events.message().await.unwrap().is_some());
    mesh.kill_service();
    let status = events.message().await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(status.get_details_error_info().unwrap().reason, "SERVICE_UNAVAILABLE");
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn a_gateway_that_stops_tells_its_streams_to_connect_again() {
    let mut mesh = Mesh::start().await;
    let request = WatchTaskRequest::default();
    let mut events = mesh.tasks().await.watch_task(request).await.unwrap().into_inner();
    assert!(events.message().await.unwrap().is_some());
    mesh.stop.cancel();
    let status = events.message().await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(matches!(mesh.next_seen().await, Seen::Called(_)));
    assert!(matches!(mesh.next_seen().await, Seen::Dropped));
}
