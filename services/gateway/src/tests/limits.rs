use futures::stream;
use tasker_api::v1::{CreateTaskRequest, Nack, Ping, WorkRequest, work_request::Message};
use tonic::Code;
use tonic_types::StatusExt as _;

use super::mesh::{MAX_MESSAGE_BYTES, Mesh};

fn too_much() -> String {
    "x".repeat(usize::try_from(MAX_MESSAGE_BYTES).unwrap())
}

#[tokio::test]
async fn a_request_that_is_too_large_never_reaches_its_service() {
    let mut mesh = Mesh::start().await;
    let request = CreateTaskRequest { reason: too_much(), ..Default::default() };
    let status = mesh.tasks().await.create_task(request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let info = status.get_details_error_info().unwrap();
    assert_eq!(info.reason, "MESSAGE_TOO_LARGE");
    assert_eq!(info.metadata["limit_bytes"], MAX_MESSAGE_BYTES.to_string());
    assert!(mesh.seen.try_recv().is_err());
}

#[tokio::test]
async fn a_message_that_is_too_large_ends_its_stream() {
    let mesh = Mesh::start().await;
    let nack = Nack { reason: too_much(), ..Default::default() };
    let messages = [Message::Ping(Ping { sequence: 1 }), Message::Nack(nack)];
    let messages = messages.map(|message| WorkRequest { message: Some(message) });
    let mut workers = mesh.workers().await;
    // Before the head of the answer or after it: that is up to the wires.
    let status = match workers.work(stream::iter(messages)).await {
        Err(status) => status,
        Ok(answers) => {
            let mut answers = answers.into_inner();
            loop {
                match answers.message().await {
                    Ok(pong) => assert!(pong.is_some(), "ended well"),
                    Err(status) => break status,
                }
            }
        }
    };
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(status.get_details_error_info().unwrap().reason, "MESSAGE_TOO_LARGE");
}

#[tokio::test]
async fn what_is_not_grpc_is_told_so() {
    let mesh = Mesh::start().await;
    let body = tonic::body::Body::empty();
    let path = "/tasker.v1.TaskService/CreateTask";
    let request = http::Request::post(format!("{}{path}", mesh.origin()))
        .header("content-type", "application/json");
    let response =
        tower::ServiceExt::oneshot(mesh.connect().await, request.body(body).unwrap()).await;
    assert_eq!(response.unwrap().status(), http::StatusCode::UNSUPPORTED_MEDIA_TYPE);
}
