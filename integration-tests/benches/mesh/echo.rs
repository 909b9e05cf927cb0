//! A bare gRPC server in a process of its own: what a call costs when nobody does anything with it.

use std::{
    io::{Read as _, Write as _},
    net::Ipv4Addr,
    pin::Pin,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use futures::{Stream, StreamExt as _};
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
    sync::mpsc,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Channel, Endpoint, Server, server::TcpIncoming},
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::latency::micros;

/// Calls before any is measured.
const FIRST: usize = 200;

/// The server's process. It ends when this is dropped, or when our process is gone.
pub struct Echo {
    url: String,
    // Killed when dropped; its input, which it reads to the end, is closed with it.
    _child: Child,
}

impl Echo {
    /// Starts it, and returns when it listens.
    pub async fn start() -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("--echo").stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
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
        let (outgoing, requests) = mpsc::channel(1);
        let mut client = WorkerServiceClient::new(connect(&self.url).await?);
        let mut incoming = client.work(ReceiverStream::new(requests)).await?.into_inner();
        let mut round_trips = Histogram::new(3)?;
        for sequence in 0..i64::try_from(FIRST + times)? {
            let begun = Instant::now();
            let ping = work_request::Message::Ping(Ping { sequence });
            outgoing.send(WorkRequest { message: Some(ping) }).await?;
            let pong = incoming.message().await?.and_then(|response| response.message);
            let time = begun.elapsed();
            ensure!(pong == Some(work_response::Message::Pong(Pong { sequence })), "not the pong");
            record_after_first(&mut round_trips, usize::try_from(sequence)?, time)?;
        }
        Ok(round_trips)
    }
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

/// Is that server: says where it listens, and serves until its input ends.
pub async fn serve() -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let (_, health) = tonic_health::server::health_reporter();
    let served = Server::builder()
        .add_service(health)
        .add_service(WorkerServiceServer::new(PingPong))
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

/// Answers pings, and nothing else.
struct PingPong;

type Responses = Pin<Box<dyn Stream<Item = Result<WorkResponse, Status>> + Send>>;

#[tonic::async_trait]
impl WorkerService for PingPong {
    type WorkStream = Responses;

    async fn work(
        &self,
        request: Request<Streaming<WorkRequest>>,
    ) -> Result<Response<Responses>, Status> {
        let answers = request.into_inner().map(|request| match request?.message {
            Some(work_request::Message::Ping(Ping { sequence })) => {
                let pong = work_response::Message::Pong(Pong { sequence });
                Ok(WorkResponse { message: Some(pong) })
            }
            other => Err(Status::invalid_argument(format!("not a ping: {other:?}"))),
        });
        Ok(Response::new(answers.boxed()))
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
