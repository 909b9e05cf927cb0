//! The gateway as the runtime serves it, with nothing behind it.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::net::SocketAddr;

use tasker_api::v1::{GetHealthRequest, health_service_client::HealthServiceClient};
use tasker_gateway::{Config, Gateway};
use tasker_runtime::{
    Context,
    config::{Drain, Source},
    serve,
};
use tokio::{net::TcpListener, task::JoinHandle};
use tonic::{Request, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

async fn start() -> (SocketAddr, Context, JoinHandle<anyhow::Result<()>>) {
    // Nobody listens on port 1.
    let nowhere = ["task_request", "step_enqueuer", "result_processor", "finalizer"]
        .map(|service| format!("--mesh.{service}=127.0.0.1:1"));
    let source = Source::from_parts(nowhere, []).unwrap();
    let context = Context::new("gateway", &Drain::default());
    let service = Gateway::build(Config::load(&source).unwrap(), context.clone()).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (address, context.clone(), tokio::spawn(serve(service, listener, context)))
}

async fn connect(gateway: SocketAddr) -> Channel {
    Channel::from_shared(format!("http://{gateway}")).unwrap().connect().await.unwrap()
}

#[tokio::test]
async fn the_gateway_is_ready_though_the_mesh_is_not() {
    let (gateway, context, served) = start().await;
    let channel = connect(gateway).await;
    let own = HealthClient::new(channel.clone()).check(HealthCheckRequest::default()).await;
    assert_eq!(own.unwrap().into_inner().status, 1);
    let mesh = HealthServiceClient::new(channel).get_health(GetHealthRequest {}).await.unwrap();
    let mesh = mesh.into_inner();
    assert!(!mesh.ready);
    let ready: Vec<_> = mesh.services.iter().filter(|it| it.ready).map(|it| &it.service).collect();
    assert_eq!(ready, ["gateway"]);
    assert_eq!(mesh.services.len(), 5);
    context.drain.cancel();
    served.await.unwrap().unwrap();
}

#[tokio::test]
async fn tools_can_ask_what_there_is_to_call() {
    let (gateway, ..) = start().await;
    let ask = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = ServerReflectionClient::new(connect(gateway).await);
    let asked = Request::new(futures::stream::iter([ask]));
    let mut answers = client.server_reflection_info(asked).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response;
    let Some(MessageResponse::ListServicesResponse(found)) = answer else { panic!("{answer:?}") };
    assert!(found.service.iter().any(|it| it.name == "tasker.v1.TaskService"), "{found:?}");
}
