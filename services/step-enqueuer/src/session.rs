//! A worker's session over the `Work` stream.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use tasker_api::{
    Invalid, MAX_MESSAGE_BYTES,
    mesh::v1::SubmittedResult,
    status, time,
    v1::{
        GoAway, Pong, Progress, Results, Welcome, WorkRequest, WorkResponse, work_request,
        work_response::Message,
    },
};
use tasker_domain::{ErrorKind, SessionId};
use tasker_stage::{refused, store_error};
use tokio::{sync::mpsc, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Status, Streaming};
use uuid::Uuid;

use crate::{
    answers::Answers,
    deliver::Deliveries,
    hello::{self, Worker},
    leases::Leases,
    liveness::Liveness,
    next::Submission,
    report::Reports,
    roster::{Holding, Member, Roster, response},
    save_checkpoints::Progresses,
};

/// How long a worker may take to say hello.
const HELLO: Duration = Duration::from_secs(10);
/// Messages that wait to be sent to one worker.
const OUTBOX: usize = 1_024;
/// How long results that came before the end may take to be answered.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

/// What sessions need.
#[derive(Clone)]
pub struct Sessions {
    pub deliveries: Deliveries,
    pub reports: Reports,
    pub progress: Progresses,
    pub liveness: Liveness,
    pub leases: Leases,
    pub drain: CancellationToken,
}

pub type Outbox = mpsc::Sender<Result<WorkResponse, Status>>;
type Inbox = mpsc::Receiver<Result<WorkResponse, Status>>;

/// One session on its way.
struct Session {
    all: Sessions,
    id: SessionId,
    worker_id: String,
    out: Outbox,
    /// Whether the worker wants nothing more.
    draining: bool,
    /// Progress on its way to being saved, by delivery: its results wait for it.
    saving: HashMap<Uuid, CancellationToken>,
    /// Results that are on their way to their answers.
    answering: TaskTracker,
    /// Cancelled if results could not be kept: the worker connects again, and sends them again.
    failed: CancellationToken,
}

impl Sessions {
    /// Serves one worker's stream.
    pub fn open(&self, requests: Streaming<WorkRequest>) -> Inbox {
        let (out, inbox) = mpsc::channel(OUTBOX);
        let all = self.clone();
        tokio::spawn(async move {
            if let Err(status) = all.serve(requests, out.clone()).await {
                // Whoever has gone is not told.
                out.send(Err(status)).await.ok();
            }
        });
        inbox
    }

    async fn serve(self, mut requests: Streaming<WorkRequest>, out: Outbox) -> Result<(), Status> {
        let worker = first(&mut requests).await?;
        let id = SessionId::new();
        let store = &self.deliveries.database.store;
        let failed = |error| {
            self.deliveries.database.noticed(&error);
            store_error(&error)
        };
        let Worker { worker_id, namespaces, handlers, .. } = &worker;
        let ttl = self.liveness.renewal();
        let opened = store.open_session(id, worker_id, namespaces, handlers, ttl).await;
        opened.map_err(failed)?;
        let held: Vec<_> = worker.held.iter().map(|(_, token)| hello::held(token)).collect();
        let adopted = if held.is_empty() {
            Vec::new()
        } else {
            store.adopt_leases(&held, &worker.worker_id, id).await.map_err(failed)?
        };
        let time_left: HashMap<Uuid, Duration> =
            adopted.into_iter().map(|lease| (lease.delivery_id, lease.time_left)).collect();
        let mine =
            worker.held.iter().filter(|(_, token)| time_left.contains_key(&token.delivery_id));
        let resumed: Vec<String> = mine.clone().map(|(text, _)| text.clone()).collect();
        let holding = mine.map(|(_, token)| {
            let now = Instant::now();
            let holding = Holding {
                held: hello::held(token),
                task: None,
                attempt: token.attempt,
                acknowledged: true,
                since: now,
                times_out: now + time_left[&token.delivery_id],
                passed_on: false,
            };
            (token.delivery_id, holding)
        });
        let member = Member {
            session: id,
            namespaces: worker.namespaces,
            handlers: worker.handlers,
            credit: worker.credit,
            reserved: 0,
            passed_on: 0,
            holding: holding.collect(),
            named: HashMap::new(),
            acknowledges: true,
            out: out.clone(),
        };
        let welcome = Welcome {
            session_id: id.to_string(),
            heartbeat_interval: Some(time::duration(self.liveness.heartbeat())),
            session_ttl: Some(time::duration(self.liveness.session_ttl)),
            resumed,
            max_message_bytes: i32::try_from(MAX_MESSAGE_BYTES).unwrap_or(i32::MAX),
            max_checkpoint_bytes: i32::try_from(self.progress.max_checkpoint_bytes)
                .unwrap_or(i32::MAX),
        };
        // Welcome is the first thing that the worker hears: deliveries come from the roster.
        out.send(Ok(response(Message::Welcome(welcome)))).await.ok();
        self.deliveries.roster.join(id, member);
        tracing::info!(session.id = %id, worker.id = worker.worker_id, "worker {} is connected", worker.worker_id);
        let session = Session {
            id,
            worker_id: worker.worker_id,
            out,
            draining: false,
            saving: HashMap::new(),
            answering: TaskTracker::new(),
            failed: CancellationToken::new(),
            all: self,
        };
        session.run(requests).await
    }
}

/// The first request, which must be `Hello`.
async fn first(requests: &mut Streaming<WorkRequest>) -> Result<Worker, Status> {
    let first = timeout(HELLO, requests.message()).await;
    // Perhaps it only stood still: it may come again.
    let late = || status(ErrorKind::Unavailable, "nobody said hello within 10 s: connect again");
    let first = first.map_err(|_| late())??;
    match first.and_then(|request| request.message) {
        Some(work_request::Message::Hello(hello)) => Ok(Worker::read(hello)?),
        _ => Err(Invalid::field("hello", "the first request must be Hello").into()),
    }
}

impl Session {
    async fn run(mut self, mut requests: Streaming<WorkRequest>) -> Result<(), Status> {
        let ended = self.listen(&mut requests).await;
        // What was handed in before the end is still answered.
        self.answering.close();
        timeout(LAST_ANSWERS, self.answering.wait()).await.ok();
        self.leave().await;
        ended
    }

    async fn listen(&mut self, requests: &mut Streaming<WorkRequest>) -> Result<(), Status> {
        let drain = self.all.drain.clone();
        let failed = self.failed.clone();
        loop {
            tokio::select! {
                () = drain.cancelled() => {
                    let reason = "the server is ending".to_owned();
                    self.roster().send(self.id, Message::GoAway(GoAway { reason }));
                    return Err(status(ErrorKind::Unavailable, "the server is ending: connect again"));
                }
                () = failed.cancelled() => {
                    return Err(status(ErrorKind::Unavailable, "results could not be kept: connect again, and send them again"));
                }
                request = timeout(self.all.liveness.silence(), requests.message()) => match request {
                    Ok(Ok(Some(request))) => self.take(request).await?,
                    Ok(Ok(None)) => return Ok(()),
                    Ok(Err(lost)) => {
                        tracing::debug!(session.id = %self.id, "a worker's stream broke: {}", lost.message());
                        return Ok(());
                    }
                    Err(_) => return Err(status(ErrorKind::Unavailable, "nothing was heard for three heartbeats: connect again")),
                }
            }
        }
    }

    async fn take(&mut self, request: WorkRequest) -> Result<(), Status> {
        use work_request::Message as Said;

        match request.message {
            Some(Said::Credit(credit)) => {
                let credit = hello::credit("credit.credit", credit.credit)?;
                if !self.draining {
                    self.roster().set_credit(self.id, credit);
                }
            }
            Some(Said::DeliveryAck(ack)) => {
                let tokens = hello::tokens(ack.delivery_tokens);
                self.roster()
                    .acknowledge(self.id, tokens.iter().map(|(_, token)| token.delivery_id));
            }
            Some(Said::Results(results)) => self.judge(results).await?,
            Some(Said::Progress(progress)) => self.save(progress).await?,
            Some(Said::Nack(nack)) => {
                let tokens = hello::tokens(nack.delivery_tokens);
                self.roster().release(self.id, tokens.iter().map(|(_, token)| token.delivery_id));
                let held = tokens.iter().map(|(_, token)| hello::held(token)).collect();
                let reason: String = nack.reason.replace('\0', "").chars().take(1_000).collect();
                let (deliveries, session) = (self.all.deliveries.clone(), self.id);
                self.answering
                    .spawn(async move { deliveries.release(session, held, &reason).await });
            }
            Some(Said::Ping(ping)) => {
                self.roster().send(self.id, Message::Pong(Pong { sequence: ping.sequence }));
            }
            Some(Said::Drain(_)) => {
                self.draining = true;
                self.roster().set_credit(self.id, 0);
            }
            Some(Said::Hello(_)) => {
                return Err(Invalid::field("hello", "say hello once").into());
            }
            None => return Err(Invalid::field("message", "set one of the messages").into()),
        }
        Ok(())
    }

    /// Hands results on, and answers them when they are durable. Waits only for a place; those of deliveries
    /// whose progress is being saved wait elsewhere, until it is: a failure must not be judged before.
    async fn judge(&mut self, results: Results) -> Result<(), Status> {
        let (mut waiting, mut behind) = (Vec::with_capacity(results.results.len()), Vec::new());
        for result in results.results {
            let saving = self.saving_of(&result.delivery_token);
            let result = SubmittedResult {
                result: Some(result),
                worker_id: self.worker_id.clone(),
                places: Vec::new(),
            };
            let submission = Submission { result, session: Some(self.id) };
            if let Some(saved) = saving {
                behind.push((saved, submission));
                continue;
            }
            let reported = self.all.reports.submit_in_turn(submission).await;
            waiting.push(reported.map_err(|error| refused(&error))?);
        }
        let answers = Answers {
            out: self.out.clone(),
            roster: self.roster().clone(),
            id: self.id,
            reports: self.all.reports.clone(),
            failed: self.failed.clone(),
        };
        if !behind.is_empty() {
            let answers = answers.clone();
            self.answering.spawn(async move { answers.submit_and_give(behind).await });
        }
        if !waiting.is_empty() {
            self.answering.spawn(async move { answers.give(waiting).await });
        }
        Ok(())
    }

    /// Cancelled when the progress of a delivery has been saved, if some is on its way.
    fn saving_of(&mut self, delivery_token: &str) -> Option<CancellationToken> {
        if self.saving.is_empty() {
            return None;
        }
        let token: tasker_api::DeliveryToken = delivery_token.parse().ok()?;
        self.saving.get(&token.delivery_id).filter(|saved| !saved.is_cancelled()).cloned()
    }

    /// Saves progress, and answers it when it is durable. Waits only for a place.
    async fn save(&mut self, progress: Progress) -> Result<(), Status> {
        let token = progress.delivery_token.parse::<tasker_api::DeliveryToken>();
        let saving = self.all.progress.save(progress).await.map_err(|error| refused(&error))?;
        let saved = CancellationToken::new();
        if let (Ok(token), true) = (token, saving.is_on_its_way()) {
            self.saving.retain(|_, saved| !saved.is_cancelled());
            // Saved in the order in which they came: the last stands for those before.
            self.saving.insert(token.delivery_id, saved.clone());
        }
        let (out, failed) = (self.out.clone(), self.failed.clone());
        self.answering.spawn(async move {
            match saving.saved().await {
                Ok(ack) => {
                    saved.cancel();
                    // Whoever has gone sends it again.
                    out.send(Ok(response(Message::ProgressAck(ack)))).await.ok();
                }
                // Not acknowledged: the worker keeps it.
                Err(_) => failed.cancel(),
            }
        });
        Ok(())
    }

    /// A worker that is done gives its session up; one that may come back keeps it for a while, and
    /// what it has acknowledged with it.
    async fn leave(self) {
        let holding = self.roster().leave(self.id);
        let (held, never_begun): (Vec<_>, Vec<_>) =
            holding.into_iter().partition(|holding| holding.acknowledged);
        let never_begun = never_begun.into_iter().map(|holding| holding.held).collect();
        self.all.deliveries.release(self.id, never_begun, "not acknowledged").await;
        let store = &self.all.deliveries.database.store;
        let left = if self.draining || held.is_empty() {
            store.end_session(self.id).await
        } else {
            store.renew_sessions(&[self.id], self.all.liveness.grace()).await.map(|_| ())
        };
        if let Err(error) = left {
            // It expires by itself.
            self.all.deliveries.database.noticed(&error);
        }
        tracing::info!(session.id = %self.id, worker.id = self.worker_id, held = held.len(), "worker {} has left", self.worker_id);
    }

    fn roster(&self) -> &Roster {
        &self.all.deliveries.roster
    }
}
