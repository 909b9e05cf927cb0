//! The unary twin of the stream: a session that lives from call to call.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use tasker_api::{
    DeliveryToken, Invalid, field, status, time,
    v1::{
        Delivery, PollStepsRequest, PollStepsResponse, RenewLeasesRequest, RenewLeasesResponse,
        work_response::Message,
    },
};
use tasker_domain::{ErrorKind, SessionId};
use tasker_stage::store_error;
use tasker_store::{Held, StoreError};
use tokio::{sync::mpsc, time::timeout};
use tonic::Status;

use crate::{hello, roster::Member, session::Sessions};

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

        let (session, lost) = match session {
            Some(session) => (session, self.keep(session, request.held).await?),
            None => {
                let session = SessionId::new();
                let store = &self.deliveries.database.store;
                let opened =
                    store.open_session(session, &worker_id, self.liveness.session_ttl).await;
                opened.map_err(|error| self.failed(&error))?;
                (session, Vec::new())
            }
        };
        let (out, mut inbox) = mpsc::channel(credit.max(1));
        let member = Member {
            session,
            namespaces,
            handlers,
            credit,
            reserved: 0,
            holding: HashMap::new(),
            acknowledges: false,
            out,
        };
        // A place of its own for each call: two calls of one session do not take each other's steps.
        let place = SessionId::new();
        self.deliveries.roster.join(place, member);
        let deliveries = self.first_deliveries(&mut inbox, wait).await;
        self.deliveries.roster.leave(place);
        let deliveries = deliveries.into_iter().chain(rest(&mut inbox)).collect();
        let session_ttl = Some(time::duration(self.liveness.session_ttl));
        Ok(PollStepsResponse { session_id: session.to_string(), deliveries, session_ttl, lost })
    }

    /// Keeps a session and its leases alive.
    pub async fn renew(&self, request: RenewLeasesRequest) -> Result<RenewLeasesResponse, Status> {
        let session = field::id("session_id", &request.session_id)?;
        let lost = self.keep(session, request.held).await?;
        let session_ttl = Some(time::duration(self.liveness.session_ttl));
        Ok(RenewLeasesResponse { session_ttl, lost })
    }

    /// Renews a session. What it does not name was never taken, and goes to others; returns what it
    /// names and has lost.
    async fn keep(&self, session: SessionId, held: Vec<String>) -> Result<Vec<String>, Status> {
        let store = &self.deliveries.database.store;
        let alive = store.renew_sessions(&[session], self.liveness.session_ttl).await;
        if alive.map_err(|error| self.failed(&error))?.is_empty() {
            return Err(status(
                ErrorKind::SessionLost,
                "the session has expired: begin again without it",
            ));
        }
        let leases = store.leases_of(session).await.map_err(|error| self.failed(&error))?;
        let named: Vec<(String, Option<DeliveryToken>)> =
            held.into_iter().map(|text| (text.clone(), text.parse().ok())).collect();
        let names: HashSet<_> =
            named.iter().filter_map(|(_, token)| token.map(|token| token.delivery_id)).collect();
        let owned: HashSet<_> = leases.iter().map(|(held, _)| held.delivery_id).collect();
        let arrived =
            |(held, age): &(Held, Duration)| names.contains(&held.delivery_id) || *age < ARRIVED;
        let strays = leases.iter().filter(|lease| !arrived(lease)).map(|(held, _)| *held).collect();
        self.deliveries.release(strays, "not acknowledged").await;
        let is_mine = |token: &Option<DeliveryToken>| {
            token.is_some_and(|token| owned.contains(&token.delivery_id))
        };
        Ok(named.into_iter().filter(|(_, token)| !is_mine(token)).map(|(text, _)| text).collect())
    }

    async fn first_deliveries(
        &self,
        inbox: &mut mpsc::Receiver<Result<tasker_api::v1::WorkResponse, Status>>,
        wait: Duration,
    ) -> Vec<Delivery> {
        // The queue is looked into at least once, even by a call that does not wait.
        let wait = wait.max(Duration::from_millis(50));
        tokio::select! {
            () = self.drain.cancelled() => Vec::new(),
            first = timeout(wait, inbox.recv()) => first.ok().flatten().map(deliveries_of).unwrap_or_default(),
        }
    }

    fn failed(&self, error: &StoreError) -> Status {
        self.deliveries.database.noticed(error);
        store_error(error)
    }
}

/// What has come meanwhile.
fn rest(inbox: &mut mpsc::Receiver<Result<tasker_api::v1::WorkResponse, Status>>) -> Vec<Delivery> {
    inbox.close();
    std::iter::from_fn(|| inbox.try_recv().ok()).flat_map(deliveries_of).collect()
}

fn deliveries_of(response: Result<tasker_api::v1::WorkResponse, Status>) -> Vec<Delivery> {
    match response.ok().and_then(|response| response.message) {
        Some(Message::Deliver(deliver)) => deliver.deliveries,
        _ => Vec::new(),
    }
}
