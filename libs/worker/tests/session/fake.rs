//! A mesh whose every word is said by the test.

use std::{collections::HashMap, pin::Pin, time::Duration};

use futures::Stream;
use tasker_worker::v1::{
    Deliver, Delivery, Hello, Payload, PollStepsRequest, PollStepsResponse, Pong, Progress,
    ProgressAck, ProgressVerdict, RenewLeasesRequest, RenewLeasesResponse, ReportResultsRequest,
    ReportResultsResponse, ResultVerdict, ResultVerdictFor, ResultsAck, SaveProgressRequest,
    SaveProgressResponse, StepError, StepResult, Welcome, WorkRequest, WorkResponse,
    step_result::Outcome,
    work_request::Message as Request,
    work_response::Message as Response,
    worker_service_server::{WorkerService, WorkerServiceServer},
};
use tokio::{net::TcpListener, sync::mpsc, time::timeout};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Status, Streaming, transport::Server};

/// Longer than anything here takes, so that a broken promise fails and does not hang.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) async fn soon<T>(work: impl Future<Output = T>) -> T {
    timeout(PATIENCE, work).await.expect("it happens soon")
}

/// A server that hands each session over to the test.
pub(crate) struct FakeMesh {
    pub(crate) url: String,
    sessions: mpsc::Receiver<Arrival>,
}

/// A worker that has connected; answered by the test.
pub(crate) struct Arrival {
    requests: Streaming<WorkRequest>,
    answer: tokio::sync::oneshot::Sender<Result<mpsc::Receiver<Said>, Status>>,
}

type Said = Result<WorkResponse, Status>;

/// One session, seen from the server. Dropped, it ends the stream.
pub(crate) struct Session {
    pub(crate) hello: Hello,
    requests: Streaming<WorkRequest>,
    responses: mpsc::Sender<Said>,
    /// Pings that came, whether or not they were answered.
    pub(crate) pings: Vec<i64>,
    answers_pings: bool,
}

impl FakeMesh {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (arrivals, sessions) = mpsc::channel(16);
        let server = Server::builder().add_service(WorkerServiceServer::new(Door { arrivals }));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        Self { url, sessions }
    }

    /// Waits for a worker, and turns it away.
    pub(crate) async fn refuse(&mut self, status: Status) {
        let arrival = soon(self.sessions.recv()).await.unwrap();
        assert!(arrival.answer.send(Err(status)).is_ok());
    }

    /// Waits for a worker, and lets it in as far as `Hello`.
    pub(crate) async fn arrival(&mut self) -> Session {
        let mut arrival = soon(self.sessions.recv()).await.unwrap();
        let (responses, said) = mpsc::channel(64);
        assert!(arrival.answer.send(Ok(said)).is_ok());
        let first = soon(arrival.requests.message()).await.unwrap().unwrap();
        let Some(Request::Hello(hello)) = first.message else { panic!("{first:?}") };
        let (requests, pings) = (arrival.requests, Vec::new());
        Session { hello, requests, responses, pings, answers_pings: true }
    }

    /// Waits for a worker, and welcomes it, with all it holds.
    pub(crate) async fn session(&mut self) -> Session {
        let mut session = self.arrival().await;
        let resumed = session.hello.held.clone();
        session.welcome(Welcome { resumed, ..welcome() }).await;
        session
    }
}

pub(crate) fn welcome() -> Welcome {
    let heartbeat_interval = Some(Duration::from_secs(5).try_into().unwrap());
    let max_checkpoint_bytes = 1_000;
    let session_id = "s".to_owned();
    Welcome { session_id, heartbeat_interval, max_checkpoint_bytes, ..Welcome::default() }
}

impl Session {
    pub(crate) async fn say(&mut self, message: Response) {
        let response = WorkResponse { message: Some(message) };
        self.responses.send(Ok(response)).await.unwrap();
    }

    pub(crate) async fn welcome(&mut self, welcome: Welcome) {
        self.say(Response::Welcome(welcome)).await;
    }

    pub(crate) async fn deliver(&mut self, deliveries: impl IntoIterator<Item = Delivery>) {
        let deliveries = deliveries.into_iter().collect();
        self.say(Response::Deliver(Deliver { deliveries })).await;
    }

    /// Delivers, and waits for the acknowledgement.
    pub(crate) async fn deliver_acked(&mut self, deliveries: impl IntoIterator<Item = Delivery>) {
        let deliveries: Vec<_> = deliveries.into_iter().collect();
        let tokens: Vec<_> = deliveries.iter().map(|it| it.delivery_token.clone()).collect();
        self.deliver(deliveries).await;
        assert_eq!(self.acked().await, tokens);
    }

    pub(crate) async fn answer(&mut self, results: &[StepResult], verdict: ResultVerdict) {
        let answer = |result: &StepResult| ResultVerdictFor {
            delivery_token: result.delivery_token.clone(),
            verdict: verdict.into(),
            reason: "because".to_owned(),
        };
        let verdicts = results.iter().map(answer).collect();
        self.say(Response::ResultsAck(ResultsAck { verdicts })).await;
    }

    pub(crate) async fn end_with(self, status: Status) {
        self.responses.send(Err(status)).await.unwrap();
    }

    pub(crate) fn stop_answering_pings(&mut self) {
        self.answers_pings = false;
    }

    /// The next word of the worker, pings aside; none when it has closed its side.
    pub(crate) async fn hear(&mut self) -> Option<Request> {
        loop {
            // An error is a worker that has gone without a word.
            let request = soon(self.requests.message()).await.ok()??;
            match request.message.unwrap() {
                Request::Ping(ping) => {
                    self.pings.push(ping.sequence);
                    if self.answers_pings {
                        self.say(Response::Pong(Pong { sequence: ping.sequence })).await;
                    }
                }
                message => return Some(message),
            }
        }
    }

    pub(crate) async fn acked(&mut self) -> Vec<String> {
        match self.hear().await {
            Some(Request::DeliveryAck(ack)) => ack.delivery_tokens,
            other => panic!("an acknowledgement was expected: {other:?}"),
        }
    }

    pub(crate) async fn nacked(&mut self) -> Vec<String> {
        match self.hear().await {
            Some(Request::Nack(nack)) => nack.delivery_tokens,
            other => panic!("deliveries given back were expected: {other:?}"),
        }
    }

    pub(crate) async fn results(&mut self) -> Vec<StepResult> {
        match self.hear().await {
            Some(Request::Results(results)) => results.results,
            other => panic!("results were expected: {other:?}"),
        }
    }

    pub(crate) async fn progress(&mut self) -> Progress {
        match self.hear().await {
            Some(Request::Progress(progress)) => progress,
            other => panic!("a checkpoint was expected: {other:?}"),
        }
    }

    pub(crate) async fn answer_progress(&mut self, progress: &Progress, verdict: ProgressVerdict) {
        let ack = ProgressAck {
            delivery_token: progress.delivery_token.clone(),
            sequence: progress.sequence,
            verdict: verdict.into(),
            reason: "because".to_owned(),
        };
        self.say(Response::ProgressAck(ack)).await;
    }

    /// The only result of the next message.
    pub(crate) async fn result(&mut self) -> StepResult {
        let mut results = self.results().await;
        assert_eq!(results.len(), 1, "{results:?}");
        results.remove(0)
    }

    /// That the worker has heard all that was said so far, and has nothing to say to it.
    pub(crate) async fn is_quiet(&mut self, handler: &str) {
        self.deliver([delivery("quiet", handler)]).await;
        assert_eq!(self.acked().await, ["quiet"]);
    }
}

pub(crate) fn delivery(token: &str, handler: &str) -> Delivery {
    Delivery {
        delivery_token: token.to_owned(),
        task_id: "task".to_owned(),
        namespace: "tests".to_owned(),
        step_name: "step".to_owned(),
        handler: handler.to_owned(),
        attempt: 1,
        max_attempts: 3,
        context: Some(Payload { data: "6".into(), ..Payload::default() }),
        ..Delivery::default()
    }
}

pub(crate) fn success(result: &StepResult) -> &str {
    match &result.outcome {
        Some(Outcome::Success(payload)) => std::str::from_utf8(&payload.data).unwrap(),
        other => panic!("a success was expected: {other:?}"),
    }
}

pub(crate) fn failure(result: &StepResult) -> &StepError {
    match &result.outcome {
        Some(Outcome::Failure(error)) => error,
        other => panic!("a failure was expected: {other:?}"),
    }
}

pub(crate) fn by_token(results: Vec<StepResult>) -> HashMap<String, StepResult> {
    results.into_iter().map(|result| (result.delivery_token.clone(), result)).collect()
}

struct Door {
    arrivals: mpsc::Sender<Arrival>,
}

#[tonic::async_trait]
impl WorkerService for Door {
    type WorkStream = Pin<Box<dyn Stream<Item = Said> + Send>>;

    async fn work(
        &self,
        request: tonic::Request<Streaming<WorkRequest>>,
    ) -> Result<tonic::Response<Self::WorkStream>, Status> {
        let (answer, answered) = tokio::sync::oneshot::channel();
        let arrival = Arrival { requests: request.into_inner(), answer };
        self.arrivals.send(arrival).await.map_err(|_| Status::unavailable("the test is over"))?;
        let said = answered.await.map_err(|_| Status::unavailable("the test is over"))??;
        Ok(tonic::Response::new(Box::pin(ReceiverStream::new(said))))
    }

    async fn poll_steps(
        &self,
        _: tonic::Request<PollStepsRequest>,
    ) -> Result<tonic::Response<PollStepsResponse>, Status> {
        Err(Status::unimplemented("not used"))
    }

    async fn report_results(
        &self,
        _: tonic::Request<ReportResultsRequest>,
    ) -> Result<tonic::Response<ReportResultsResponse>, Status> {
        Err(Status::unimplemented("not used"))
    }

    async fn save_progress(
        &self,
        _: tonic::Request<SaveProgressRequest>,
    ) -> Result<tonic::Response<SaveProgressResponse>, Status> {
        Err(Status::unimplemented("not used"))
    }

    async fn renew_leases(
        &self,
        _: tonic::Request<RenewLeasesRequest>,
    ) -> Result<tonic::Response<RenewLeasesResponse>, Status> {
        Err(Status::unimplemented("not used"))
    }
}
