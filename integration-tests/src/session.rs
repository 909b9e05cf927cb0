//! A worker's session by the bare contract, for what the worker library would never do.

use std::time::Duration;

use tasker_api::v1::{
    Checkpoint, Delivery, DeliveryAck, Drain, Hello, Nack, Payload, Ping, Pong, Progress,
    ProgressAck, ResultVerdict, ResultVerdictFor, Results, StepError, StepResult, StepYield,
    Welcome, WorkRequest, WorkResponse, step_result::Outcome, work_request, work_response,
    worker_service_client::WorkerServiceClient,
};
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming, transport::Channel};

const PATIENCE: Duration = Duration::from_secs(20);
/// Not one of the regular pings.
const OUR_PING: i64 = -1;

/// A session that does only what it is told, but for its pings. Dropped, its stream is cut.
#[derive(Debug)]
pub struct Session {
    /// What the server has agreed to.
    pub welcome: Welcome,
    outgoing: mpsc::Sender<WorkRequest>,
    incoming: Streaming<WorkResponse>,
    pings: JoinHandle<()>,
    saves: i64,
}

impl Session {
    /// What a worker says first, when it holds nothing.
    #[must_use]
    pub fn hello(worker_id: &str, namespace: &str, handlers: &[&str], credit: i32) -> Hello {
        Hello {
            worker_id: worker_id.to_owned(),
            sdk: "bare".to_owned(),
            protocol_version: 1,
            namespaces: vec![namespace.to_owned()],
            handlers: handlers.iter().map(|&handler| handler.to_owned()).collect(),
            credit,
            held: Vec::new(),
        }
    }

    /// Opens a session.
    ///
    /// # Errors
    /// The server refuses it.
    ///
    /// # Panics
    /// The server does not answer, or not with `Welcome`.
    pub async fn open(channel: Channel, hello: Hello) -> Result<Self, Status> {
        let (outgoing, requests) = mpsc::channel(64);
        let first = WorkRequest { message: Some(work_request::Message::Hello(hello)) };
        outgoing.send(first).await.expect("there is room for the first message");
        let mut client = WorkerServiceClient::new(channel);
        let opened = timeout(PATIENCE, client.work(ReceiverStream::new(requests))).await;
        let mut incoming = opened.expect("the server answers")?.into_inner();
        let first = timeout(PATIENCE, incoming.message()).await.expect("the server answers")?;
        let Some(work_response::Message::Welcome(welcome)) = first.and_then(|it| it.message) else {
            panic!("the server did not say welcome first");
        };
        let pings = tokio::spawn(ping(outgoing.clone(), welcome.heartbeat_interval));
        Ok(Self { welcome, outgoing, incoming, pings, saves: 0 })
    }

    /// Waits for the next delivery. It is not acknowledged.
    ///
    /// # Panics
    /// There is none in time.
    pub async fn delivery(&mut self) -> Delivery {
        let delivered = self.hear_until(|heard| match heard {
            work_response::Message::Deliver(deliver) => Some(deliver.deliveries),
            _ => None,
        });
        let mut deliveries = delivered.await;
        assert_eq!(deliveries.len(), 1, "the test grants one credit");
        deliveries.remove(0)
    }

    /// Waits for the next delivery, and acknowledges it; returns when the server knows.
    ///
    /// # Panics
    /// There is none in time.
    pub async fn take(&mut self) -> Delivery {
        let delivery = self.delivery().await;
        let tokens = vec![delivery.delivery_token.clone()];
        self.say(work_request::Message::DeliveryAck(DeliveryAck { delivery_tokens: tokens })).await;
        self.say(work_request::Message::Ping(Ping { sequence: OUR_PING })).await;
        // The server takes what it is told in turn.
        let pong = work_response::Message::Pong(Pong { sequence: OUR_PING });
        self.hear_until(|heard| (heard == pong).then_some(())).await;
        delivery
    }

    /// Reports a result, and waits for what became of it.
    ///
    /// # Panics
    /// There is no answer in time.
    pub async fn report(&mut self, result: StepResult) -> ResultVerdict {
        let token = result.delivery_token.clone();
        self.say(work_request::Message::Results(Results { results: vec![result] })).await;
        let answered = self.hear_until(|heard| {
            let work_response::Message::ResultsAck(ack) = heard else { return None };
            let of_it = |verdict: &&ResultVerdictFor| verdict.delivery_token == token;
            ack.verdicts.iter().find(of_it).map(ResultVerdictFor::verdict)
        });
        answered.await
    }

    /// Saves how far a delivery has come, and waits for what became of that.
    ///
    /// # Panics
    /// There is no answer in time.
    pub async fn save(&mut self, token: &str, cursor: &str) -> ProgressAck {
        self.saves += 1;
        let sequence = self.saves;
        let checkpoint = Some(checkpoint(cursor));
        let progress = Progress { delivery_token: token.to_owned(), checkpoint, sequence };
        self.say(work_request::Message::Progress(progress)).await;
        let answered = self.hear_until(|heard| match heard {
            work_response::Message::ProgressAck(ack) if ack.sequence == sequence => Some(ack),
            _ => None,
        });
        answered.await
    }

    /// Saves how far a delivery has come and reports its result in one breath, without waiting in between.
    ///
    /// # Panics
    /// There is no answer in time.
    pub async fn save_and_report(&mut self, cursor: &str, result: StepResult) -> ResultVerdict {
        let progress = Progress {
            delivery_token: result.delivery_token.clone(),
            checkpoint: Some(checkpoint(cursor)),
            ..Progress::default()
        };
        self.say(work_request::Message::Progress(progress)).await;
        self.report(result).await
    }

    /// Waits until it is told to stop something, and returns the tokens of what.
    ///
    /// # Panics
    /// It is not told in time.
    pub async fn cancelled(&mut self) -> Vec<String> {
        let cancelled = self.hear_until(|heard| match heard {
            work_response::Message::Cancel(cancel) => Some(cancel.delivery_tokens),
            _ => None,
        });
        cancelled.await
    }

    /// Gives a delivery back that was not begun.
    pub async fn give_back(&self, token: &str, reason: &str) {
        let tokens = vec![token.to_owned()];
        let nack = Nack { delivery_tokens: tokens, reason: reason.to_owned() };
        self.say(work_request::Message::Nack(nack)).await;
    }

    /// Says that it wants nothing more, and hands in what it has.
    pub async fn say_that_it_drains(&self) {
        self.say(work_request::Message::Drain(Drain {})).await;
    }

    /// Says that it wants nothing more, and waits until the server has closed the stream.
    ///
    /// # Panics
    /// The server does not close it.
    pub async fn drain(mut self) {
        self.say_that_it_drains().await;
        self.pings.abort();
        let (closed, _) = mpsc::channel(1);
        self.outgoing = closed;
        let rest = async { while let Ok(Some(_)) = self.incoming.message().await {} };
        timeout(PATIENCE, rest).await.expect("the server closes the stream");
    }

    /// Waits until the server says what is wanted, and passes over the rest.
    async fn hear_until<T>(&mut self, wanted: impl Fn(work_response::Message) -> Option<T>) -> T {
        let heard = async {
            loop {
                let heard = self.incoming.message().await.expect("the stream is not broken");
                let heard = heard.and_then(|response| response.message);
                let heard = heard.expect("the server does not close the stream");
                if let Some(found) = wanted(heard) {
                    return found;
                }
            }
        };
        timeout(PATIENCE, heard).await.expect("the server says it in time")
    }

    async fn say(&self, message: work_request::Message) {
        let sent = self.outgoing.send(WorkRequest { message: Some(message) }).await;
        sent.expect("the stream is open");
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.pings.abort();
    }
}

/// A good result in JSON.
#[must_use]
pub fn success(token: &str, json: &str) -> StepResult {
    let payload = Payload { data: json.to_owned().into(), ..Payload::default() };
    let outcome = Some(Outcome::Success(payload));
    StepResult { delivery_token: token.to_owned(), outcome, ..StepResult::default() }
}

/// Where to go on, in JSON.
#[must_use]
pub fn checkpoint(cursor: &str) -> Checkpoint {
    let cursor = Payload { data: cursor.to_owned().into(), ..Payload::default() };
    Checkpoint { cursor: Some(cursor), ..Checkpoint::default() }
}

/// A step that is to go on later.
#[must_use]
pub fn yielded(token: &str, cursor: &str, delay: Duration) -> StepResult {
    let delay = prost_types::Duration::try_from(delay).expect("a test's delays are short");
    let step = StepYield { checkpoint: Some(checkpoint(cursor)), delay: Some(delay) };
    let outcome = Some(Outcome::Yielded(step));
    StepResult { delivery_token: token.to_owned(), outcome, ..StepResult::default() }
}

/// A failure.
#[must_use]
pub fn failure(token: &str, error_type: &str, retryable: bool) -> StepResult {
    let message = String::new();
    let outcome = Outcome::Failure(StepError { r#type: error_type.to_owned(), message, retryable });
    let outcome = Some(outcome);
    StepResult { delivery_token: token.to_owned(), outcome, ..StepResult::default() }
}

async fn ping(outgoing: mpsc::Sender<WorkRequest>, interval: Option<prost_types::Duration>) {
    let interval = interval.and_then(|it| Duration::try_from(it).ok());
    let mut ticks = tokio::time::interval(interval.unwrap_or(Duration::from_secs(1)));
    for sequence in 1.. {
        ticks.tick().await;
        let message = Some(work_request::Message::Ping(Ping { sequence }));
        if outgoing.send(WorkRequest { message }).await.is_err() {
            return;
        }
    }
}
