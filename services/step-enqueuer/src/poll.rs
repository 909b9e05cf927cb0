//! The unary twin of the stream: a session that lives from call to call.

use std::{
    collections::{HashMap, HashSet},
    pin::pin,
    time::Duration,
};

use tasker_api::{
    DeliveryToken, Invalid, field, status, time,
    v1::{
        Delivery, PollStepsRequest, PollStepsResponse, RenewLeasesRequest, RenewLeasesResponse,
        WorkResponse, work_response::Message,
    },
};
use tasker_domain::{ErrorKind, SessionId};
use tasker_stage::store_error;
use tasker_store::{Held, Lease, StoreError};
use tokio::{
    sync::mpsc,
    time::{Instant, interval, sleep, sleep_until},
};
use tonic::Status;

use crate::{deliver::Deliveries, hello, roster::Member, session::Sessions};

/// How long a poll may wait.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// The most steps of one poll.
const MAX_STEPS: i32 = 1_000;
/// A delivery that the worker does not name this long after it was given never arrived.
const ARRIVED: Duration = Duration::from_secs(2);

impl Sessions {
    /// Opens or keeps a session, and takes steps.
    pub async fn poll(&self, request: PollStepsRequest) -> Result<PollStepsResponse, Status> {
        let mut invalid = Invalid::new();
        let identity = hello::identity("", request.worker_id, request.namespaces, request.handlers);
        let identity = invalid.take(identity);
        let wait = invalid.take(time::from_duration("wait", request.wait));
        if !(1..=MAX_STEPS).contains(&request.max_steps) {
            invalid.add("max_steps", format!("{}: give 1 to {MAX_STEPS}", request.max_steps));
        }
        if wait.is_some_and(|wait| wait > MAX_WAIT) {
            invalid.add("wait", "give at most 60 s");
        }
        let session = match request.session_id.as_str() {
            "" => None,
            text => invalid.take(field::id("session_id", text)),
        };
        let (Some((worker_id, namespaces, handlers)), Some(wait)) = (identity, wait) else {
            return Err(invalid.into());
        };
        invalid.check()?;
        let credit = usize::try_from(request.max_steps).expect("its range has been checked");

        let held = request.held;
        let (session, kept) = match session {
            Some(session) => (session, self.keep(session, &held).await?),
            None => {
                let session = SessionId::new();
                let store = &self.deliveries.database.store;
                let ttl = self.liveness.session_ttl;
                let opened =
                    store.open_session(session, &worker_id, &namespaces, &handlers, ttl).await;
                opened.map_err(|error| self.failed(&error))?;
                (session, Kept::default())
            }
        };
        // What the credit allows, and beside it that something is lost.
        let (out, mut inbox) = mpsc::channel(credit.max(1) + 1);
        let member = Member {
            session,
            namespaces,
            handlers,
            credit,
            reserved: 0,
            passed_on: 0,
            holding: HashMap::new(),
            named: hello::tokens(held.clone())
                .into_iter()
                .map(|(text, token)| (token.delivery_id, text))
                .collect(),
            acknowledges: false,
            out,
        };
        let place = Place::take(&self.deliveries, member);
        let waiting = Waiting { session, held, wait };
        let (mut deliveries, lost) = self.wait_for_news(waiting, kept, &mut inbox).await?;
        place.leave();
        deliveries.extend(rest(&mut inbox));
        let is_short = |delivery: &Delivery| {
            let timeout = delivery.timeout.and_then(|timeout| Duration::try_from(timeout).ok());
            timeout.is_some_and(|timeout| timeout <= self.liveness.tick())
        };
        if deliveries.iter().any(is_short) {
            self.deliveries.roster.polled.wake();
        }
        Ok(PollStepsResponse {
            session_id: session.to_string(),
            deliveries,
            session_ttl: Some(time::duration(self.liveness.session_ttl)),
            lost,
        })
    }

    /// Keeps a session and its leases alive.
    pub async fn renew(&self, request: RenewLeasesRequest) -> Result<RenewLeasesResponse, Status> {
        let session = field::id("session_id", &request.session_id)?;
        let Kept { lost, .. } = self.keep(session, &request.held).await?;
        let session_ttl = Some(time::duration(self.liveness.session_ttl));
        Ok(RenewLeasesResponse { session_ttl, lost })
    }

    /// Renews a session. What it does not name was never taken, and goes to others; what has taken too long
    /// is lost.
    async fn keep(&self, session: SessionId, held: &[String]) -> Result<Kept, Status> {
        let store = &self.deliveries.database.store;
        let alive = store.renew_sessions(&[session], self.liveness.session_ttl).await;
        if alive.map_err(|error| self.failed(&error))?.is_empty() {
            return Err(status(
                ErrorKind::SessionLost,
                "the session has expired: begin again without it",
            ));
        }
        let leases = store.leases_of(session).await.map_err(|error| self.failed(&error))?;
        let (late, leases): (Vec<_>, Vec<_>) =
            leases.into_iter().partition(|lease| lease.time_left.is_zero());
        if !late.is_empty() {
            let late: Vec<Held> = late.into_iter().map(|lease| lease.held).collect();
            self.leases.end_late(&late).await.map_err(|error| self.failed(&error))?;
        }
        let named: Vec<(String, Option<DeliveryToken>)> =
            held.iter().map(|text| (text.clone(), text.parse().ok())).collect();
        let names: HashSet<_> =
            named.iter().filter_map(|(_, token)| token.map(|token| token.delivery_id)).collect();
        let owned: HashSet<_> = leases.iter().map(|lease| lease.held.delivery_id).collect();
        let is_named = |lease: &&Lease| names.contains(&lease.held.delivery_id);
        let arrived = |lease: &&Lease| is_named(lease) || lease.age < ARRIVED;
        let strays = leases.iter().filter(|lease| !arrived(lease)).map(|lease| lease.held);
        self.deliveries.release(session, strays.collect(), "not acknowledged").await;
        let next = leases.iter().filter(is_named).map(|lease| lease.time_left).min();
        let is_mine = |token: &Option<DeliveryToken>| {
            token.is_some_and(|token| owned.contains(&token.delivery_id))
        };
        let lost = named.into_iter().filter(|(_, token)| !is_mine(token)).map(|(text, _)| text);
        Ok(Kept { lost: lost.collect(), next })
    }

    /// Waits for something to run, or to know: returns deliveries, and what of the worker's is lost. The
    /// session is kept meanwhile, however long the call waits.
    async fn wait_for_news(
        &self,
        waiting: Waiting,
        mut kept: Kept,
        inbox: &mut mpsc::Receiver<Result<WorkResponse, Status>>,
    ) -> Result<(Vec<Delivery>, Vec<String>), Status> {
        let Waiting { session, held, wait } = waiting;
        // What is lost is told at once.
        let wait = if kept.lost.is_empty() { wait } else { Duration::ZERO };
        // The queue is looked into at least once, even by a call that does not wait.
        let mut over = pin!(sleep(wait.max(Duration::from_millis(50))));
        let mut ticks = interval(self.liveness.tick());
        ticks.reset();
        loop {
            let late = Instant::now() + kept.next.unwrap_or(MAX_WAIT);
            tokio::select! {
                () = self.drain.cancelled() => return Ok((Vec::new(), kept.lost)),
                () = &mut over => return Ok((Vec::new(), kept.lost)),
                heard = inbox.recv() => {
                    let Some(heard) = heard else { return Ok((Vec::new(), kept.lost)) };
                    let deliveries = deliveries_of(heard);
                    if !deliveries.is_empty() {
                        return Ok((deliveries, kept.lost));
                    }
                    // It was told to stop something: what that is, the leases say.
                    kept = self.keep(session, &held).await?;
                }
                _ = ticks.tick() => kept = self.keep(session, &held).await?,
                () = sleep_until(late), if kept.next.is_some() => {
                    kept = self.keep(session, &held).await?;
                }
            }
            if !kept.lost.is_empty() {
                return Ok((Vec::new(), kept.lost));
            }
        }
    }

    fn failed(&self, error: &StoreError) -> Status {
        self.deliveries.database.noticed(error);
        store_error(error)
    }
}

/// What has become of what a worker holds.
#[derive(Default)]
struct Kept {
    /// What it has lost.
    lost: Vec<String>,
    /// How long until the first of the rest has taken too long.
    next: Option<Duration>,
}

/// A call that waits.
struct Waiting {
    session: SessionId,
    /// What the worker says it holds.
    held: Vec<String>,
    wait: Duration,
}

/// A place of its own for each call: two calls of one session do not take each other's steps.
///
/// Dropped before it is left, as when the caller hangs up, what it was given goes to others.
struct Place<'a> {
    deliveries: &'a Deliveries,
    id: SessionId,
    session: SessionId,
}

impl<'a> Place<'a> {
    fn take(deliveries: &'a Deliveries, member: Member) -> Self {
        let (id, session) = (SessionId::new(), member.session);
        deliveries.roster.join(id, member);
        Self { deliveries, id, session }
    }

    /// The worker is given what the place holds.
    fn leave(self) {
        self.deliveries.roster.leave(self.id);
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let held = self.deliveries.roster.leave(self.id);
        if !held.is_empty() {
            let held = held.into_iter().map(|holding| holding.held).collect();
            let (deliveries, session) = (self.deliveries.clone(), self.session);
            tokio::spawn(async move {
                deliveries.release(session, held, "the caller has gone").await;
            });
        }
    }
}

/// What has come meanwhile.
fn rest(inbox: &mut mpsc::Receiver<Result<WorkResponse, Status>>) -> Vec<Delivery> {
    inbox.close();
    std::iter::from_fn(|| inbox.try_recv().ok()).flat_map(deliveries_of).collect()
}

fn deliveries_of(response: Result<WorkResponse, Status>) -> Vec<Delivery> {
    match response.ok().and_then(|response| response.message) {
        Some(Message::Deliver(deliver)) => deliver.deliveries,
        _ => Vec::new(),
    }
}
