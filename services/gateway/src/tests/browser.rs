use bytes::{Bytes, BytesMut};
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use prost::Message as _;
use tasker_api::v1::{CreateTaskRequest, CreateTaskResponse, WatchTaskRequest, WatchTaskResponse};
use tonic::body::Body;

use super::mesh::Mesh;

const ORIGIN: &str = "https://console.example";

/// One gRPC-Web frame: a flag, the length, the content.
fn frame(content: &[u8]) -> Bytes {
    let length = u32::try_from(content.len()).unwrap().to_be_bytes();
    [&[0], &length[..], content].concat().into()
}

/// The first frame, which takes its bytes from `data`.
fn unframe(data: &mut BytesMut) -> (u8, Bytes) {
    let prefix = data.split_to(5);
    let length = u32::from_be_bytes(prefix[1..].try_into().unwrap());
    (prefix[0], data.split_to(length as usize).freeze())
}

fn post(mesh: &Mesh, method: &str, message: &impl prost::Message) -> Request<Body> {
    Request::post(format!("/tasker.v1.TaskService/{method}"))
        .header(header::HOST, mesh.gateway.to_string())
        .header(header::ORIGIN, ORIGIN)
        .header(header::CONTENT_TYPE, "application/grpc-web+proto")
        .body(Body::new(Full::new(frame(&message.encode_to_vec()))))
        .unwrap()
}

#[tokio::test]
async fn a_page_calls_over_http1() {
    let mesh = Mesh::start().await;
    let create = CreateTaskRequest { request_id: "page".to_owned(), ..Default::default() };
    let request = post(&mesh, "CreateTask", &create);
    let response = mesh.connect_http1().await.send_request(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let mut body = BytesMut::from(&body[..]);
    let (flag, message) = unframe(&mut body);
    assert_eq!(flag, 0);
    assert_eq!(CreateTaskResponse::decode(message).unwrap().task_id, "page");
    let (flag, trailers) = unframe(&mut body);
    assert_eq!(flag, 0x80);
    assert!(String::from_utf8_lossy(&trailers).contains("grpc-status:0"), "{trailers:?}");
}

#[tokio::test]
async fn a_page_hears_a_stream_as_it_comes() {
    let mesh = Mesh::start().await;
    let request = post(&mesh, "WatchTask", &WatchTaskRequest::default());
    let mut response = mesh.connect_http1().await.send_request(request).await.unwrap();
    let mut data = BytesMut::new();
    // The stream stays open: what has come has come.
    while data.len() < 5 {
        data.extend(response.frame().await.unwrap().unwrap().into_data().unwrap());
    }
    let (flag, message) = unframe(&mut data);
    assert_eq!(flag, 0);
    assert_eq!(WatchTaskResponse::decode(message).unwrap().cursor, "1");
}

fn preflight(mesh: &Mesh) -> Request<Body> {
    Request::options("/tasker.v1.TaskService/CreateTask")
        .header(header::HOST, mesh.gateway.to_string())
        .header(header::ORIGIN, ORIGIN)
        .header(header::ACCESS_CONTROL_REQUEST_METHOD, "POST")
        .header(header::ACCESS_CONTROL_REQUEST_HEADERS, "content-type,x-grpc-web")
        .body(Body::empty())
        .unwrap()
}

#[tokio::test]
async fn a_page_of_an_allowed_origin_may_call() {
    let mesh = Mesh::with_origins(&[ORIGIN]).await;
    let mut connection = mesh.connect_http1().await;
    let response = connection.send_request(preflight(&mesh)).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()[header::ACCESS_CONTROL_ALLOW_ORIGIN], ORIGIN);

    let create = CreateTaskRequest { request_id: "refused".to_owned(), ..Default::default() };
    let request = post(&mesh, "CreateTask", &create);
    let response = mesh.connect_http1().await.send_request(request).await.unwrap();
    assert_eq!(response.headers()[header::ACCESS_CONTROL_ALLOW_ORIGIN], ORIGIN);
    let exposed = response.headers()[header::ACCESS_CONTROL_EXPOSE_HEADERS].to_str().unwrap();
    assert!(exposed.contains("grpc-status"), "{exposed}");
}

#[tokio::test]
async fn pages_of_other_sites_may_not_call_unless_told() {
    let mesh = Mesh::start().await;
    let response = mesh.connect_http1().await.send_request(preflight(&mesh)).await.unwrap();
    assert!(!response.headers().contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN));
}
