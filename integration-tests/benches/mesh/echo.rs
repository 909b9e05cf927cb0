//! A bare gRPC server in a process of its own: what a call costs when nobody does anything with it.

use std::{
    collections::HashMap,
    io::{Read as _, Write as _},
    net::Ipv4Addr,
    pin::Pin,
    process::Stdio,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use futures::Stream;
use hdrhistogram::Histogram;
use tasker_api::v1::{
    Ping, PollStepsRequest, PollStepsResponse, Pong, RenewLeasesRequest, RenewLeasesResponse,
    ReportResultsRequest, ReportResultsResponse, SaveProgressRequest, SaveProgressResponse,
    WorkRequest, WorkResponse, work_request, work_response,
    worker_service_client::WorkerServiceClient,
    worker_service_server::{WorkerService, WorkerServiceServer},
};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    net::TcpListener,
    process::{Child, Command},
    sync::{mpsc, oneshot},
};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Channel, Endpoint, Server, server::TcpIncoming},
};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse,
    health_check_response::ServingStatus,
    health_client::HealthClient,
    health_server::{Health, HealthServer},
};

use crate::latency::micros;

/// Calls before any is measured.
const FIRST: usize = 200;
/// Messages that wait for the stream to take them.
const ON_THEIR_WAY: usize = 5_000;

/// The server's process. It ends when this is dropped, or when our process is gone.
pub struct Echo {
    url: String,
    // Killed when dropped; its input, which it reads to the end, is closed with it.
    _child: Child,
}

impl Echo {
    /// Starts it, and returns when it listens.
    pub async fn start() -> Result<Self> {
        Self::start_with(&["--echo"]).await
    }

    /// The same, of one that passes everything on to another, and the answers back.
    pub async fn start_before(next: &Self) -> Result<Self> {
        Self::start_with(&["--echo", "--echo-before", next.url()]).await
    }

    async fn start_with(arguments: &[&str]) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn()?;
        let output = child.stdout.take().context("its output was asked for")?;
        let first = BufReader::new(output).lines().next_line().await?;
        Ok(Self {
            url: first.context("the echo server does not say where it listens")?,
            _child: child,
        })
    }

    /// Where it listens.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A health check, from call to answer, so many times in µs.
    pub async fn unary(&self, calls: usize) -> Result<Histogram<u64>> {
        health_checks(&self.url, calls).await
    }

    /// A message there and one back on an open stream, so many times in µs.
    pub async fn ping_pong(&self, times: usize) -> Result<Histogram<u64>> {
        let (outgoing, mut incoming) = self.open_stream(1).await?;
        let mut round_trips = Histogram::new(3)?;
        for sequence in 0..i64::try_from(FIRST + times)? {
            let begun = Instant::now();
            outgoing.send(ping(sequence)).await?;
            let pong = incoming.message().await?.and_then(|response| response.message);
            let time = begun.elapsed();
            ensure!(pong == Some(work_response::Message::Pong(Pong { sequence })), "not the pong");
            record_after_first(&mut round_trips, usize::try_from(sequence)?, time)?;
        }
        Ok(round_trips)
    }

    async fn open_stream(
        &self,
        on_their_way: usize,
    ) -> Result<(mpsc::Sender<WorkRequest>, Streaming<WorkResponse>)> {
        let (outgoing, requests) = mpsc::channel(on_their_way);
        let mut client = WorkerServiceClient::new(connect(&self.url).await?);
        Ok((outgoing, client.work(ReceiverStream::new(requests)).await?.into_inner()))
    }

    /// Calls like those.
    pub async fn caller(&self) -> Result<Caller> {
        Ok(Caller(HealthClient::new(connect(&self.url).await?)))
    }

    /// An open stream.
    pub async fn hops(&self) -> Result<Hops> {
        let (outgoing, mut incoming) = self.open_stream(ON_THEIR_WAY).await?;
        let waiting = Arc::new(Mutex::new(Some(HashMap::new())));
        let asked: Arc<Waiting> = waiting.clone();
        tokio::spawn(async move {
            while let Ok(Some(WorkResponse { message: Some(message) })) = incoming.message().await {
                let work_response::Message::Pong(Pong { sequence }) = message else { break };
                let asker = lock(&asked).as_mut().and_then(|askers| askers.remove(&sequence));
                if let Some(asker) = asker {
                    asker.send(()).ok();
                }
            }
            // Whoever waits is told by its end of the channel.
            lock(&asked).take();
        });
        Ok(Hops { outgoing, waiting, sent: AtomicI64::default() })
    }
}

/// Calls on an open connection, many on their way at once.
pub struct Caller(HealthClient<Channel>);

impl Caller {
    /// A health check.
    pub async fn call(&self) -> Result<()> {
        self.0.clone().check(HealthCheckRequest::default()).await?;
        Ok(())
    }
}

/// Messages there and back on an open stream, many on their way at once.
pub struct Hops {
    outgoing: mpsc::Sender<WorkRequest>,
    waiting: Arc<Waiting>,
    sent: AtomicI64,
}

/// Who waits for an answer, by the number of the message; nothing once the stream has ended.
type Askers = Option<HashMap<i64, oneshot::Sender<()>>>;
type Waiting = Mutex<Askers>;

fn lock(waiting: &Waiting) -> MutexGuard<'_, Askers> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hops {
    /// Sends a message, and waits for its answer.
    pub async fn there_and_back(&self) -> Result<()> {
        let sequence = self.sent.fetch_add(1, Ordering::Relaxed);
        let (asker, answer) = oneshot::channel();
        lock(&self.waiting).as_mut().context("the stream has ended")?.insert(sequence, asker);
        self.outgoing.send(ping(sequence)).await?;
        answer.await.context("the stream has ended")
    }
}

fn ping(sequence: i64) -> WorkRequest {
    WorkRequest { message: Some(work_request::Message::Ping(Ping { sequence })) }
}

/// A health check at any server, from call to answer, so many times in µs.
pub async fn health_checks(url: &str, calls: usize) -> Result<Histogram<u64>> {
    let mut client = HealthClient::new(connect(url).await?);
    let mut times = Histogram::new(3)?;
    for nth in 0..FIRST + calls {
        let begun = Instant::now();
        client.check(HealthCheckRequest::default()).await?;
        record_after_first(&mut times, nth, begun.elapsed())?;
    }
    Ok(times)
}

async fn connect(url: &str) -> Result<Channel> {
    Ok(Endpoint::from_shared(url.to_owned())?.tcp_nodelay(true).connect().await?)
}

fn record_after_first(times: &mut Histogram<u64>, nth: usize, time: Duration) -> Result<()> {
    if nth >= FIRST {
        times.record(micros(time))?;
    }
    Ok(())
}

/// Is that server, or one that passes everything on to `next`: says where it listens, and serves until its
/// input ends.
pub async fn serve(next: Option<&str>) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let next = match next {
        Some(next) => Some(connect(next).await?),
        None => None,
    };
    let bare = Bare { next };
    let served = Server::builder()
        .add_service(HealthServer::new(bare.clone()))
        .add_service(WorkerServiceServer::new(bare))
        .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)));
    let mut output = std::io::stdout();
    writeln!(output, "http://{address}")?;
    output.flush()?;
    let input_ended = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    tokio::select! {
        served = served => served?,
        ended = input_ended => { ended??; }
    }
    Ok(())
}

/// Answers pings and health checks, and nothing else; or has the next one answer them.
#[derive(Clone)]
struct Bare {
    next: Option<Channel>,
}

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Health for Bare {
    type WatchStream = Responses<HealthCheckResponse>;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        match &self.next {
            Some(next) => HealthClient::new(next.clone()).check(request.into_inner()).await,
            None => {
                Ok(Response::new(HealthCheckResponse { status: ServingStatus::Serving.into() }))
            }
        }
    }

    async fn watch(
        &self,
        _: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        Err(only_pings())
    }
}

#[tonic::async_trait]
impl WorkerService for Bare {
    type WorkStream = Responses<WorkResponse>;

    async fn work(
        &self,
        request: Request<Streaming<WorkRequest>>,
    ) -> Result<Response<Self::WorkStream>, Status> {
        let requests = request.into_inner();
        if let Some(next) = &self.next {
            // A broken stream ends the next one, too.
            let requests = requests.map_while(Result::ok);
            let answers = WorkerServiceClient::new(next.clone()).work(requests).await?.into_inner();
            return Ok(Response::new(Box::pin(answers)));
        }
        let answers = requests.map(|request| match request?.message {
            Some(work_request::Message::Ping(Ping { sequence })) => {
                let pong = work_response::Message::Pong(Pong { sequence });
                Ok(WorkResponse { message: Some(pong) })
            }
            other => Err(Status::invalid_argument(format!("not a ping: {other:?}"))),
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn poll_steps(
        &self,
        _: Request<PollStepsRequest>,
    ) -> Result<Response<PollStepsResponse>, Status> {
        Err(only_pings())
    }

    async fn report_results(
        &self,
        _: Request<ReportResultsRequest>,
    ) -> Result<Response<ReportResultsResponse>, Status> {
        Err(only_pings())
    }

    async fn save_progress(
        &self,
        _: Request<SaveProgressRequest>,
    ) -> Result<Response<SaveProgressResponse>, Status> {
        Err(only_pings())
    }

    async fn renew_leases(
        &self,
        _: Request<RenewLeasesRequest>,
    ) -> Result<Response<RenewLeasesResponse>, Status> {
        Err(only_pings())
    }
}

fn only_pings() -> Status {
    Status::unimplemented("this server answers pings and health checks")
}
