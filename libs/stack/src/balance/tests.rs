use std::{
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering},
};

use http_body_util::BodyExt;
use tokio::{net::TcpListener, runtime::Runtime, time::sleep};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Code, transport::Server};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tower::util::MapRequestLayer;

use super::*;

/// A real server that can be killed: its connections die with its runtime.
struct TestReplica {
    address: SocketAddr,
    calls: Arc<AtomicUsize>,
    drain: CancellationToken,
    runtime: Option<Runtime>,
}

impl TestReplica {
    fn start() -> Self {
        Self::start_at(([127, 0, 0, 1], 0).into())
    }

    fn start_at(address: SocketAddr) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let calls = Arc::new(AtomicUsize::new(0));
        let counter = calls.clone();
        let drain = CancellationToken::new();
        let draining = drain.clone().cancelled_owned();
        let (told, address_of) = std::sync::mpsc::channel();
        runtime.spawn(async move {
            let listener = TcpListener::bind(address).await.unwrap();
            told.send(listener.local_addr().unwrap()).unwrap();
            let (_reporter, health) = tonic_health::server::health_reporter();
            Server::builder()
                .layer(MapRequestLayer::new(move |request: Request<Body>| {
                    counter.fetch_add(1, Ordering::SeqCst);
                    request
                }))
                .add_service(health)
                .serve_with_incoming_shutdown(TcpListenerStream::new(listener), draining)
                .await
        });
        let address = address_of.recv().unwrap();
        Self { address, calls, drain, runtime: Some(runtime) }
    }

    fn kill(&mut self) {
        let runtime = self.runtime.take().unwrap();
        // On a thread of its own, since it waits until every connection is gone.
        std::thread::spawn(|| runtime.shutdown_timeout(Duration::from_secs(5))).join().unwrap();
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

impl Drop for TestReplica {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn balance_over(replicas: &[&TestReplica]) -> Balance {
    let endpoints =
        replicas.iter().map(|replica| replica.address.to_string().parse().unwrap()).collect();
    Balance::new("test-service", endpoints, CancellationToken::new())
}

async fn connected(balance: &Balance, count: usize) {
    let mut replicas = balance.shared.ready.subscribe();
    replicas.wait_for(|replicas| replicas.len() == count).await.unwrap();
}

async fn check(balance: &Balance) -> Result<(), Status> {
    let request = HealthCheckRequest::default();
    HealthClient::new(balance.clone()).check(request).await.map(drop)
}

#[tokio::test]
async fn calls_spread_over_the_replicas() {
    let (one, two) = (TestReplica::start(), TestReplica::start());
    let balance = balance_over(&[&one, &two]);
    connected(&balance, 2).await;
    futures::future::try_join_all((0..200).map(|_| check(&balance))).await.unwrap();
    assert_eq!(one.calls() + two.calls(), 200);
    assert!(one.calls() > 50 && two.calls() > 50, "{} and {}", one.calls(), two.calls());
    assert!(balance.shared.ready.loads().iter().all(|in_flight| *in_flight == 0));
}

#[tokio::test]
async fn a_killed_replica_gets_no_call_and_a_restarted_one_gets_them_again() {
    let (one, mut two) = (TestReplica::start(), TestReplica::start());
    let balance = balance_over(&[&one, &two]);
    connected(&balance, 2).await;

    two.kill();
    connected(&balance, 1).await;
    for _ in 0..100 {
        check(&balance).await.unwrap();
    }
    assert_eq!((one.calls(), two.calls()), (100, 0));

    let again = TestReplica::start_at(two.address);
    connected(&balance, 2).await;
    futures::future::try_join_all((0..100).map(|_| check(&balance))).await.unwrap();
    assert!(again.calls() > 20, "{}", again.calls());
}

#[tokio::test]
async fn without_a_replica_a_call_is_unavailable_within_the_bound() {
    let mut gone = TestReplica::start();
    gone.kill();
    let endpoint = gone.address.to_string().parse().unwrap();
    let balance = Balance::with_wait(
        "test-service",
        vec![endpoint],
        CancellationToken::new(),
        Duration::from_millis(100),
    );
    let started = Instant::now();
    let status = check(&balance).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("test-service"), "{status}");
    assert!(started.elapsed() >= Duration::from_millis(100));
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn a_call_waits_for_the_first_replica_without_polling() {
    let mut gone = TestReplica::start();
    gone.kill();
    let balance = balance_over(&[&gone]);
    let waiting = tokio::spawn({
        let balance = balance.clone();
        async move { check(&balance).await }
    });
    let _back = TestReplica::start_at(gone.address);
    waiting.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_shorter_deadline_of_the_caller_ends_the_wait() {
    let mut gone = TestReplica::start();
    gone.kill();
    let balance = balance_over(&[&gone]);
    let started = Instant::now();
    let mut request = tonic::Request::new(HealthCheckRequest::default());
    request.set_timeout(Duration::from_millis(50));
    let status = HealthClient::new(balance).check(request).await.unwrap_err();
    assert!(matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded), "{status}");
    assert!(started.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn a_stream_is_in_flight_until_its_response_is_dropped() {
    let replica = TestReplica::start();
    let balance = balance_over(&[&replica]);
    let mut client = HealthClient::new(balance.clone());
    let mut watch = client.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert!(watch.message().await.unwrap().is_some());
    assert_eq!(balance.shared.ready.loads(), [1]);
    drop(watch);
    assert_eq!(balance.shared.ready.loads(), [0]);
}

#[tokio::test]
async fn a_stream_to_a_killed_replica_ends_unavailable() {
    let mut replica = TestReplica::start();
    let balance = balance_over(&[&replica]);
    let mut client = HealthClient::new(balance.clone());
    let mut watch = client.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert!(watch.message().await.unwrap().is_some());
    replica.kill();
    assert_eq!(watch.message().await.unwrap_err().code(), Code::Unavailable);
    connected(&balance, 0).await;
}

#[tokio::test]
async fn connections_close_when_the_last_clone_is_gone() {
    let replica = TestReplica::start();
    let balance = balance_over(&[&replica]);
    connected(&balance, 1).await;
    let mut replicas = balance.shared.ready.subscribe();
    drop(balance.clone());
    assert_eq!(replicas.borrow_and_update().len(), 1);
    drop(balance);
    // The set goes with the tasks that fill it.
    while replicas.changed().await.is_ok() {}
}

#[tokio::test]
async fn a_draining_replica_loses_no_call() {
    let (steady, draining) = (TestReplica::start(), TestReplica::start());
    let balance = balance_over(&[&steady, &draining]);
    connected(&balance, 2).await;
    let callers = (0..8).map(|_| {
        let balance = balance.clone();
        tokio::spawn(async move {
            for _ in 0..100 {
                check(&balance).await.unwrap();
            }
        })
    });
    let callers: Vec<_> = callers.collect();
    sleep(Duration::from_millis(20)).await;
    draining.drain.cancel();
    futures::future::try_join_all(callers).await.unwrap();
    connected(&balance, 1).await;
    assert_eq!(steady.calls() + draining.calls(), 800);
}

#[tokio::test]
async fn a_name_is_resolved() {
    let replica = TestReplica::start();
    let endpoint = format!("http://localhost:{}", replica.address.port()).parse().unwrap();
    let mut balance = Balance::new("test-service", vec![endpoint], CancellationToken::new());
    let request = Request::post("/grpc.health.v1.Health/Check")
        .header("content-type", "application/grpc")
        .body(Body::new(http_body_util::Full::from(&[0u8; 5][..])))
        .unwrap();
    let response = balance.call(request).await.unwrap();
    let collected = response.into_body().collect().await.unwrap();
    assert_eq!(collected.trailers().unwrap()["grpc-status"], "0");
}

#[tokio::test]
async fn calls_in_a_storm_of_kills_succeed_or_are_unavailable() {
    let steady = TestReplica::start();
    let mut shaky = TestReplica::start();
    let balance = balance_over(&[&steady, &shaky]);
    connected(&balance, 2).await;
    let callers: Vec<_> = (0..8)
        .map(|_| {
            let balance = balance.clone();
            tokio::spawn(async move {
                let mut failed = 0;
                for _ in 0..200 {
                    if let Err(status) = check(&balance).await {
                        assert_eq!(status.code(), Code::Unavailable, "{status}");
                        failed += 1;
                    }
                }
                failed
            })
        })
        .collect();
    for _ in 0..3 {
        sleep(Duration::from_millis(20)).await;
        shaky.kill();
        shaky = TestReplica::start_at(shaky.address);
    }
    let failed: usize =
        futures::future::join_all(callers).await.into_iter().map(|count| count.unwrap()).sum();
    // Only those that were on the wire at a kill: at most one for each caller and kill.
    assert!(failed <= 24, "{failed} calls failed");
}

#[tokio::test]
async fn who_leaves_is_not_warned_that_the_others_do() {
    for leaves in [false, true] {
        let mut replica = TestReplica::start();
        let leaving = CancellationToken::new();
        let endpoint = replica.address.to_string().parse().unwrap();
        let balance = Balance::new("test-service", vec![endpoint], leaving.clone());
        let ready = balance.shared.ready.clone();
        ready.any().await;
        let last = ready.choose().unwrap();
        if leaves {
            leaving.cancel();
        }
        assert_eq!(ready.lost(&last), !leaves);
        replica.kill();
    }
}
