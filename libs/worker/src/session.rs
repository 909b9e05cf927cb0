//! One session: a stream to the mesh, from `Hello` until it is lost or drained.

use std::{collections::HashSet, time::Duration};

use tasker_api::v1::{
    Deliver, Hello, ResultsAck, Welcome, WorkRequest, WorkResponse, work_request, work_response,
    worker_service_client::WorkerServiceClient,
};
use tokio::{
    sync::mpsc,
    time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming, transport::Endpoint};
use tracing::{debug, info};

use crate::{
    holdings::{Holdings, Taken},
    outbox::Outbox,
    saves::Saves,
    stop::Stop,
};

const PROTOCOL_VERSION: i32 = 1;
const SDK: &str = concat!("tasker-worker-rust/", env!("CARGO_PKG_VERSION"));
const WELCOME_TIMEOUT: Duration = Duration::from_secs(10);
/// Where the server does not say how often to ping.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Whatever the server says.
const SHORTEST_HEARTBEAT: Duration = Duration::from_millis(10);
const MISSED_PINGS: u32 = 3;
/// For the server to close the stream after this side has.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// Messages on their way into the connection; the rest gathers in the outbox.
const ON_THE_WAY: usize = 4;
/// The largest message to take: many deliveries, each with the payloads of its dependencies.
const LARGEST_DELIVER: usize = 64 * 1024 * 1024;
/// The largest message to send, where the server does not say.
const LARGEST_RESULTS: usize = 4 * 1024 * 1024;

/// Who this worker is, and what it wants.
pub(crate) struct Introduction {
    pub(crate) worker_id: String,
    pub(crate) namespaces: Vec<String>,
    pub(crate) handlers: Vec<String>,
    pub(crate) concurrency: usize,
}

/// Why a session has ended, if it was not drained.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Lost {
    #[error("the call failed")]
    Failed(#[from] tasker_client::Error),
    #[error("the server said nothing for three heartbeats")]
    Silent,
    #[error("the server did not say welcome")]
    NotWelcome,
    #[error("the server closed the stream")]
    Closed,
    #[error("the server is about to close the stream: {0}")]
    GoAway(String),
}

impl Lost {
    /// The refusal, if connecting again would not help.
    pub(crate) fn into_refusal(self) -> Result<tasker_client::Error, Self> {
        match self {
            Self::Failed(error)
                if matches!(
                    error.code(),
                    Code::InvalidArgument | Code::Unauthenticated | Code::PermissionDenied
                ) =>
            {
                Ok(error)
            }
            lost => Err(lost),
        }
    }
}

pub(crate) struct Session<'a> {
    holdings: &'a mut Holdings,
    saves: &'a mut Saves,
    stop: &'a mut Stop,
    outbox: Outbox,
    outgoing: mpsc::Sender<WorkRequest>,
    incoming: Streaming<WorkResponse>,
    heartbeat: Interval,
    pings: i64,
    /// Pings since the server last said anything.
    unanswered: u32,
    largest_message: usize,
    largest_checkpoint: usize,
    draining: Draining,
}

/// How far the worker has come with stopping.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Draining {
    No,
    /// Handlers may go on until then. The server has answered the ping that followed `Drain` or not:
    /// deliveries that crossed `Drain` come before its answer.
    Until {
        deadline: Instant,
        ping: i64,
        answered: bool,
    },
    /// No handler runs any more.
    Abandoned {
        ping: i64,
        answered: bool,
    },
}

impl<'a> Session<'a> {
    /// Connects, says `Hello` and waits for `Welcome`. Lets go of what the server does not resume.
    pub(crate) async fn open(
        endpoint: &Endpoint,
        who: &Introduction,
        holdings: &'a mut Holdings,
        saves: &'a mut Saves,
        stop: &'a mut Stop,
    ) -> Result<Self, Lost> {
        let channel = endpoint.connect().await.map_err(tasker_client::Error::Connect)?;
        let mut client =
            WorkerServiceClient::new(channel).max_decoding_message_size(LARGEST_DELIVER);
        holdings.collect(&mut Vec::new());
        let (outgoing, on_the_way) = mpsc::channel(ON_THE_WAY);
        let hello = work_request::Message::Hello(who.hello(holdings, stop.is_asked()));
        outgoing.send(WorkRequest { message: Some(hello) }).await.map_err(|_| Lost::Closed)?;
        let opening = async {
            let call = client.work(ReceiverStream::new(on_the_way)).await;
            let mut incoming = call.map_err(tasker_client::Error::from)?.into_inner();
            let first = incoming.message().await.map_err(tasker_client::Error::from)?;
            match first.ok_or(Lost::Closed)?.message {
                Some(work_response::Message::Welcome(welcome)) => Ok((incoming, welcome)),
                _ => Err(Lost::NotWelcome),
            }
        };
        let (incoming, welcome) =
            timeout(WELCOME_TIMEOUT, opening).await.map_err(|_| Lost::NotWelcome)??;
        info!(session.id = welcome.session_id, "The mesh welcomes this worker");
        let mut session = Self {
            holdings,
            saves,
            stop,
            outbox: Outbox::default(),
            outgoing,
            incoming,
            heartbeat: heartbeat(&welcome),
            pings: 0,
            unanswered: 0,
            largest_message: largest_message(&welcome),
            largest_checkpoint: usize::try_from(welcome.max_checkpoint_bytes).unwrap_or(0),
            draining: Draining::No,
        };
        session.resume(&welcome.resumed.into_iter().collect());
        Ok(session)
    }

    fn resume(&mut self, resumed: &HashSet<String>) {
        for token in self.holdings.keep(resumed) {
            self.saves.lose(&token);
        }
        for sequence in self.saves.waiting() {
            self.send_checkpoint(sequence);
        }
        for token in self.holdings.tokens() {
            match self.holdings.result(token) {
                Some(_) => self.outbox.results.push_back(token.clone()),
                // The first acknowledgement may have gone down with the last connection.
                None => self.outbox.acks.push(token.clone()),
            }
        }
    }

    fn send_checkpoint(&mut self, sequence: i64) {
        self.saves.bound(sequence, self.largest_checkpoint);
        self.outbox.progress.push_back(sequence);
    }

    /// Works until the worker was asked to stop and holds nothing any more.
    pub(crate) async fn serve(mut self) -> Result<(), Lost> {
        // A clone, since a place on it stays borrowed through the whole select.
        let outgoing = self.outgoing.clone();
        let mut open = true;
        loop {
            self.holdings.begin_waiting();
            if self.is_drained() {
                drop(outgoing);
                return self.close().await;
            }
            tokio::select! {
                room = outgoing.reserve(), if open && !self.outbox.is_empty() => match room {
                    Ok(room) => {
                        let next = self.outbox.next(self.holdings, self.saves, self.largest_message);
                        if let Some(message) = next {
                            room.send(message);
                        }
                    }
                    // The other direction will say why.
                    Err(_) => open = false,
                },
                heard = self.incoming.message() => {
                    let response = heard.map_err(tasker_client::Error::from)?.ok_or(Lost::Closed)?;
                    self.hear(response)?;
                }
                done = self.holdings.done(), if self.holdings.has_running() => {
                    self.outbox.results.extend(done);
                }
                sequence = self.saves.arrived() => self.send_checkpoint(sequence),
                _ = self.heartbeat.tick() => self.ping()?,
                deadline = self.stop.asked(), if self.draining == Draining::No => {
                    self.drain(deadline);
                }
                () = self.draining.overdue() => self.abandon(),
            }
        }
    }

    fn hear(&mut self, response: WorkResponse) -> Result<(), Lost> {
        use work_response::Message as Said;
        // Whatever it says, it lives.
        self.unanswered = 0;
        match response.message {
            Some(Said::Deliver(deliver)) => self.take(deliver),
            Some(Said::ResultsAck(answers)) => self.settle(&answers),
            Some(Said::Cancel(cancel)) => {
                debug!(
                    reason = cancel.reason,
                    "Told to stop {} steps",
                    cancel.delivery_tokens.len()
                );
                cancel.delivery_tokens.iter().for_each(|token| self.lose(token));
            }
            Some(Said::ProgressAck(ack)) => {
                let token = ack.delivery_token.clone();
                // A result that has overtaken it is settled by its own answer.
                if self.saves.settle(ack) && self.holdings.result(&token).is_none() {
                    self.lose(&token);
                }
            }
            Some(Said::Pong(pong)) => self.draining.hear(pong.sequence),
            Some(Said::GoAway(go_away)) => return Err(Lost::GoAway(go_away.reason)),
            // Of a later version of the contract.
            Some(Said::Welcome(_)) | None => {}
        }
        Ok(())
    }

    fn take(&mut self, deliver: Deliver) {
        for delivery in deliver.deliveries {
            let token = delivery.delivery_token.clone();
            // A new one that comes while we drain has crossed our `Drain`.
            let taken = match self.draining {
                Draining::No => self.holdings.take(delivery),
                Draining::Until { .. } | Draining::Abandoned { .. } => self.holdings.known(&token),
            };
            match taken {
                Taken::Yes => self.outbox.acks.push(token),
                Taken::No => self.outbox.nacks.push(token),
            }
        }
    }

    fn settle(&mut self, answers: &ResultsAck) {
        for answer in &answers.verdicts {
            if self.holdings.settle(answer) {
                self.outbox.results.push_back(answer.delivery_token.clone());
            }
        }
    }

    fn lose(&mut self, token: &str) {
        self.holdings.lose(token);
        self.saves.lose(token);
    }

    fn ping(&mut self) -> Result<(), Lost> {
        if self.unanswered >= MISSED_PINGS {
            return Err(Lost::Silent);
        }
        self.unanswered += 1;
        self.next_ping();
        Ok(())
    }

    fn next_ping(&mut self) -> i64 {
        self.pings += 1;
        self.outbox.ping = Some(self.pings);
        self.pings
    }

    fn drain(&mut self, deadline: Instant) {
        info!(held = self.holdings.len(), "Stopping: finishing what was begun");
        self.outbox.drain = true;
        self.outbox.nacks.extend(self.holdings.give_back());
        self.draining = Draining::Until { deadline, ping: self.next_ping(), answered: false };
    }

    fn abandon(&mut self) {
        let abandoned = self.holdings.abandon();
        info!(abandoned = abandoned.len(), "No time left: handlers are dropped");
        self.outbox.results.extend(abandoned);
        self.draining = self.draining.abandoned();
    }

    fn is_drained(&self) -> bool {
        self.draining.is_answered() && self.holdings.is_empty() && self.outbox.is_empty()
    }

    /// Closes this side, and waits for the other a little: what was sent last must get there.
    async fn close(self) -> Result<(), Lost> {
        drop(self.outgoing);
        let mut incoming = self.incoming;
        let closed = async { while let Ok(Some(_)) = incoming.message().await {} };
        if timeout(CLOSE_TIMEOUT, closed).await.is_err() {
            debug!("The server leaves the stream open");
        }
        Ok(())
    }
}

impl Draining {
    async fn overdue(self) {
        match self {
            Self::Until { deadline, .. } => sleep_until(deadline).await,
            Self::No | Self::Abandoned { .. } => std::future::pending().await,
        }
    }

    fn hear(&mut self, pong: i64) {
        match self {
            Self::Until { ping, answered, .. } | Self::Abandoned { ping, answered } => {
                *answered |= pong >= *ping;
            }
            Self::No => {}
        }
    }

    fn is_answered(self) -> bool {
        match self {
            Self::Until { answered, .. } | Self::Abandoned { answered, .. } => answered,
            Self::No => false,
        }
    }

    fn abandoned(self) -> Self {
        match self {
            Self::Until { ping, answered, .. } => Self::Abandoned { ping, answered },
            Self::No | Self::Abandoned { .. } => self,
        }
    }
}

impl Introduction {
    fn hello(&self, holdings: &Holdings, stopping: bool) -> Hello {
        let credit = if stopping { 0 } else { self.concurrency };
        Hello {
            worker_id: self.worker_id.clone(),
            sdk: SDK.to_owned(),
            protocol_version: PROTOCOL_VERSION,
            namespaces: self.namespaces.clone(),
            handlers: self.handlers.clone(),
            credit: credit.try_into().expect("checked when the worker was built"),
            held: holdings.tokens().cloned().collect(),
        }
    }
}

fn heartbeat(welcome: &Welcome) -> Interval {
    let asked = welcome.heartbeat_interval.and_then(|interval| Duration::try_from(interval).ok());
    let every = asked.unwrap_or(HEARTBEAT).max(SHORTEST_HEARTBEAT);
    let mut heartbeat = interval_at(Instant::now() + every, every);
    // After a stall, a burst of ticks must not count as a burst of missed pings.
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    heartbeat
}

fn largest_message(welcome: &Welcome) -> usize {
    match usize::try_from(welcome.max_message_bytes) {
        Ok(0) | Err(_) => LARGEST_RESULTS,
        Ok(bytes) => bytes,
    }
}
