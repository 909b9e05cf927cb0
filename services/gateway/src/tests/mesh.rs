//! A gateway, the service behind it, and connections to the gateway.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use http::{HeaderValue, Request, Response, Uri};
use hyper::{body::Incoming, client::conn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tasker_api::{
    DESCRIPTORS,
    v1::{
        task_service_client::TaskServiceClient, task_service_server::TaskServiceServer,
        worker_service_client::WorkerServiceClient, worker_service_server::WorkerServiceServer,
    },
};
use tasker_runtime::mesh;
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Runtime,
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::{body::Body, service::Routes as Served, transport::Server};
use tower::{service_fn, util::BoxCloneService};

use super::fake::{Fake, Seen};
use crate::{forward::Forward, front, health_service::MeshHealth, routes::Routes};

/// What the gateway under test lets pass.
pub(super) const MAX_MESSAGE_BYTES: u64 = 10_000;

/// A connection without any client's own deadlines, so that what is seen is the gateway's doing.
pub(super) type Bare = BoxCloneService<Request<Body>, Response<Incoming>, hyper::Error>;

pub(super) struct Mesh {
    pub(super) gateway: SocketAddr,
    pub(super) seen: UnboundedReceiver<Seen>,
    /// Ends the gateway's streams.
    pub(super) stop: CancellationToken,
    service: Option<Runtime>,
}

impl Mesh {
    pub(super) async fn start() -> Self {
        Self::with_origins(&[]).await
    }

    /// With pages of these origins allowed to call.
    pub(super) async fn with_origins(origins: &[&'static str]) -> Self {
        let (sender, seen) = unbounded_channel();
        let fake = Fake { seen: sender };
        let (health, serving) = tonic_health::server::health_reporter();
        health.set_service_status("", tonic_health::ServingStatus::Serving).await;
        let routes = Served::new(TaskServiceServer::new(fake.clone()))
            .add_service(WorkerServiceServer::new(fake))
            .add_service(serving);
        let (address, listener) = bind();
        // Where all of it can be killed at once.
        let service = Runtime::new().unwrap();
        service.spawn(serve(routes, listener));

        let at = [address.to_string()];
        // Nobody listens there.
        let nowhere = ["127.0.0.1:1".to_owned()];
        let stop = CancellationToken::new();
        let channel = |name, at: &[String]| (name, mesh::channel(name, at, &stop).unwrap());
        let channels = Arc::new(BTreeMap::from([
            channel("task-request", &at),
            channel("step-enqueuer", &at),
            channel("result-processor", &nowhere),
        ]));
        let table = Routes::read(DESCRIPTORS).unwrap();
        let forward = Forward::new(table, channels.clone(), MAX_MESSAGE_BYTES, stop.clone());
        let origins: Vec<_> = origins.iter().map(|it| HeaderValue::from_static(it)).collect();
        let routes = front::routes(MeshHealth::new(channels), forward, &origins);
        let (gateway, listener) = bind();
        tokio::spawn(serve(routes, listener));
        Self { gateway, seen, stop, service: Some(service) }
    }

    pub(super) async fn tasks(&self) -> TaskServiceClient<Bare> {
        TaskServiceClient::with_origin(self.connect().await, self.origin())
    }

    pub(super) async fn workers(&self) -> WorkerServiceClient<Bare> {
        WorkerServiceClient::with_origin(self.connect().await, self.origin())
    }

    /// A connection as gRPC clients make it.
    pub(super) async fn connect(&self) -> Bare {
        let stream = TcpStream::connect(self.gateway).await.unwrap();
        let (sender, connection) =
            conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let send = move |request| sender.clone().send_request(request);
        BoxCloneService::new(service_fn(send))
    }

    /// A connection as browsers may make it.
    pub(super) async fn connect_http1(&self) -> conn::http1::SendRequest<Body> {
        let stream = TcpStream::connect(self.gateway).await.unwrap();
        let (sender, connection) = conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    pub(super) fn origin(&self) -> Uri {
        format!("http://{}", self.gateway).parse().unwrap()
    }

    /// The service and its connections are gone at once, as after a crash.
    pub(super) fn kill_service(&mut self) {
        self.service.take().expect("it lives").shutdown_background();
    }

    pub(super) async fn next_seen(&mut self) -> Seen {
        self.seen.recv().await.unwrap()
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        // A runtime cannot be dropped where another one runs.
        if let Some(service) = self.service.take() {
            service.shutdown_background();
        }
    }
}

fn bind() -> (SocketAddr, std::net::TcpListener) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    (listener.local_addr().unwrap(), listener)
}

async fn serve(routes: Served, listener: std::net::TcpListener) {
    let listener = TcpListener::from_std(listener).unwrap();
    let server = Server::builder().accept_http1(true).add_routes(routes);
    server.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
}
