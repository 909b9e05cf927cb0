//! One whole life of a process, in a process of its own since signals go to all of it.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    net::SocketAddr,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use nix::sys::signal::{Signal, raise};
use tasker_runtime::{Context, Process, Service, config::Source};
use tokio::runtime::Runtime;
use tonic::{service::Routes, transport::Channel};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
    health_client::HealthClient,
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

#[test]
fn a_process_serves_health_and_reflection_follows_readiness_and_drains_on_sigterm() {
    let address = free_address();
    let (told, context_of) = mpsc::channel();
    let finished = Arc::new(AtomicBool::new(false));
    let process = thread::spawn({
        let finished = finished.clone();
        move || {
            let source = Source::from_parts(["--drain.timeout=5s".to_owned()], []).unwrap();
            Process::new("finalizer").run_from(
                &source,
                |_| Ok(()),
                |(), context: Context| async move {
                    let (drain, done) = (context.drain.clone(), finished.clone());
                    context.tracker.spawn(async move {
                        drain.cancelled().await;
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        done.store(true, Ordering::SeqCst);
                    });
                    told.send(context).unwrap();
                    Ok(Service { listen: address, routes: Routes::default() })
                },
            )
        }
    });
    let context = context_of.recv().unwrap();
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        let channel = connect(address).await;
        let mut health = HealthClient::new(channel.clone());
        assert_eq!(status(&mut health, "").await, ServingStatus::Serving);
        assert_eq!(status(&mut health, "finalizer").await, ServingStatus::Serving);

        let mut watch = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
        assert_eq!(next(&mut watch).await, Some(ServingStatus::Serving));
        let condition = context.readiness.condition("database");
        assert_eq!(next(&mut watch).await, Some(ServingStatus::NotServing));
        condition.ready();
        assert_eq!(next(&mut watch).await, Some(ServingStatus::Serving));

        let services = reflected(channel).await;
        for service in ["tasker.v1.TaskService", "tasker.v1.WorkerService", "grpc.health.v1.Health"]
        {
            assert!(services.iter().any(|known| known == service), "{service} in {services:?}");
        }

        let started = Instant::now();
        raise(Signal::SIGTERM).unwrap();
        // The watch is told, and then ended: it does not hold up the drain.
        assert_eq!(next(&mut watch).await, Some(ServingStatus::NotServing));
        assert_eq!(next(&mut watch).await, None);
        assert!(started.elapsed() < Duration::from_secs(2));
    });
    assert_eq!(process.join().unwrap(), ExitCode::SUCCESS);
    assert!(finished.load(Ordering::SeqCst), "the drain did not wait for the background work");
}

fn free_address() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

async fn connect(address: SocketAddr) -> Channel {
    let endpoint = Channel::from_shared(format!("http://{address}")).unwrap();
    loop {
        match endpoint.connect().await {
            Ok(channel) => return channel,
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn status(health: &mut HealthClient<Channel>, service: &str) -> ServingStatus {
    let request = HealthCheckRequest { service: service.to_owned() };
    health.check(request).await.unwrap().into_inner().status()
}

async fn next(watch: &mut tonic::Streaming<HealthCheckResponse>) -> Option<ServingStatus> {
    watch.message().await.unwrap().map(|message| message.status())
}

async fn reflected(channel: Channel) -> Vec<String> {
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = ServerReflectionClient::new(channel);
    let mut answers =
        client.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
    match answers.message().await.unwrap().unwrap().message_response {
        Some(MessageResponse::ListServicesResponse(list)) => {
            list.service.into_iter().map(|service| service.name).collect()
        }
        other => panic!("{other:?}"),
    }
}
