use std::time::Duration;

use tasker_api::{
    mesh, v1,
    v1::{CreateTaskRequest, WaitForTaskRequest},
};
use tonic::{Code, Request};
use tonic_types::StatusExt as _;

use super::{fake::Seen, mesh::Mesh};

fn create(request_id: &str) -> CreateTaskRequest {
    CreateTaskRequest { request_id: request_id.to_owned(), ..Default::default() }
}

#[tokio::test]
async fn a_call_passes_with_its_metadata_both_ways() {
    let mut mesh = Mesh::start().await;
    let mut request = Request::new(create("one"));
    request.metadata_mut().insert("authorization", "Bearer key".parse().unwrap());
    request
        .metadata_mut()
        .insert_bin("blob-bin", tonic::metadata::MetadataValue::from_bytes(&[0, 255]));
    request.metadata_mut().insert("tasker-caller", "root".parse().unwrap());
    let response = mesh.tasks().await.create_task(request).await.unwrap();
    assert_eq!(response.metadata().get("answered-by").unwrap(), "fake");
    assert_eq!(response.into_inner().task_id, "one");

    let Seen::Called(metadata) = mesh.next_seen().await else { panic!("not called") };
    assert_eq!(metadata.get("authorization").unwrap(), "Bearer key");
    assert_eq!(metadata.get_bin("blob-bin").unwrap().to_bytes().unwrap(), &[0, 255][..]);
    assert!(metadata.get("tasker-caller").is_none(), "a client was believed");
}

#[tokio::test]
async fn an_error_passes_with_its_details() {
    let mesh = Mesh::start().await;
    let status = mesh.tasks().await.create_task(create("refused")).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::InvalidArgument, "a bad request"));
    let violations = status.get_details_bad_request().unwrap().field_violations;
    assert_eq!(violations[0].field, "template.name");
}

#[tokio::test]
async fn without_telemetry_the_callers_trace_passes_unchanged() {
    let mut mesh = Mesh::start().await;
    let place = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let mut request = Request::new(create("one"));
    request.metadata_mut().insert("traceparent", place.parse().unwrap());
    request.metadata_mut().insert("tracestate", "vendor=1".parse().unwrap());
    mesh.tasks().await.create_task(request).await.unwrap();
    let Seen::Called(metadata) = mesh.next_seen().await else { panic!("not called") };
    assert_eq!(metadata.get("traceparent").unwrap(), place);
    assert_eq!(metadata.get("tracestate").unwrap(), "vendor=1");
}

#[tokio::test]
async fn a_call_ends_at_its_deadline_here_and_at_the_service() {
    let mut mesh = Mesh::start().await;
    let mut request = Request::new(WaitForTaskRequest::default());
    request.set_timeout(Duration::from_millis(100));
    let status = mesh.tasks().await.wait_for_task(request).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert_eq!(status.get_details_error_info().unwrap().reason, "DEADLINE_EXCEEDED");

    let Seen::Called(metadata) = mesh.next_seen().await else { panic!("not called") };
    assert!(metadata.get("grpc-timeout").is_some(), "the service does not know the deadline");
    assert!(matches!(mesh.next_seen().await, Seen::Dropped));
}

#[tokio::test]
async fn a_deadline_that_cannot_be_read_is_refused() {
    let mesh = Mesh::start().await;
    let mut request = Request::new(create("one"));
    request.metadata_mut().insert("grpc-timeout", "soon".parse().unwrap());
    let status = mesh.tasks().await.create_task(request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(status.get_details_error_info().unwrap().reason, "INVALID_TIMEOUT");
}

#[tokio::test]
async fn a_cancelled_call_is_cancelled_at_the_service() {
    let mut mesh = Mesh::start().await;
    let mut tasks = mesh.tasks().await;
    let call =
        tokio::spawn(async move { tasks.wait_for_task(WaitForTaskRequest::default()).await });
    assert!(matches!(mesh.next_seen().await, Seen::Called(_)));
    call.abort();
    assert!(matches!(mesh.next_seen().await, Seen::Dropped));
}

#[tokio::test]
async fn an_unknown_method_is_refused_by_its_name() {
    let mesh = Mesh::start().await;
    let origin = mesh.origin();
    let mut client = tonic::client::Grpc::with_origin(mesh.connect().await, origin);
    client.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<CreateTaskRequest, v1::CreateTaskResponse>::default();
    let path = http::uri::PathAndQuery::from_static("/tasker.v1.TaskService/Destroy");
    let status = client.unary(Request::new(create("one")), path, codec).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    assert!(status.message().contains("/tasker.v1.TaskService/Destroy"), "{status:?}");
    assert_eq!(status.get_details_error_info().unwrap().reason, "UNKNOWN_METHOD");
}

#[tokio::test]
async fn what_services_say_to_each_other_cannot_be_said_by_a_client() {
    use mesh::v1::{
        SubmitStepResultsRequest,
        result_processor_service_client::ResultProcessorServiceClient as Results,
    };
    let mesh = Mesh::start().await;
    let mut results = Results::with_origin(mesh.connect().await, mesh.origin());
    let status =
        results.submit_step_results(SubmitStepResultsRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
}

#[tokio::test]
async fn a_service_without_replicas_is_unavailable_and_says_when_to_try_again() {
    use v1::{GetStepRequest, step_service_client::StepServiceClient};
    let mesh = Mesh::start().await;
    let mut steps = StepServiceClient::with_origin(mesh.connect().await, mesh.origin());
    let status = steps.get_step(GetStepRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    let info = status.get_details_error_info().unwrap();
    assert_eq!((info.reason.as_str(), info.domain.as_str()), ("SERVICE_UNAVAILABLE", "tasker"));
    assert_eq!(info.metadata["service"], "result-processor");
    assert!(status.get_details_retry_info().unwrap().retry_delay.is_some());
}
