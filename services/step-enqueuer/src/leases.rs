//! Leases end with their worker's session, or at the step's timeout; unacknowledged deliveries go back.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use tasker_api::{
    mesh::v1::{
        JudgeQueuedResultsRequest, result_processor_service_client::ResultProcessorServiceClient,
    },
    v1::{GoAway, work_response::Message},
};
use tasker_domain::SessionId;
use tasker_runtime::mesh::TracedBalance;
use tasker_store::{Announcement, Expiry, Held, Lease, Lost, LostLeases, StoreError};
use tokio::time::{MissedTickBehavior, interval, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{deliver::Deliveries, liveness::Liveness, roster::Holding};

/// How often deadlines are looked at while anything is held.
const LOOK: Duration = Duration::from_millis(200);
/// Leases ended in one transaction, and what else is cleared away in one.
const BATCH: i64 = 1_000;
/// Ticks between two looks for sessions to forget.
const PURGE: u32 = 20;

/// The work.
#[derive(Clone)]
pub struct Leases {
    pub deliveries: Deliveries,
    pub liveness: Liveness,
    pub results: ResultProcessorServiceClient<TracedBalance>,
    pub makes_calls: bool,
}

impl Leases {
    /// Watches the deadlines of what is held here, until draining begins. Asleep while nothing is.
    pub async fn watch_deadlines(self, drain: CancellationToken) {
        let roster = &self.deliveries.roster;
        while drain.run_until_cancelled(roster.held.woken()).await.is_some() {
            loop {
                if drain.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_none() {
                    return;
                }
                let overdue = roster.overdue(Instant::now());
                for (session, holding) in overdue.unacknowledged {
                    roster.release(session, [holding.held.delivery_id]);
                    self.deliveries.release(session, vec![holding.held], "not acknowledged").await;
                }
                let timed_out = overdue.timed_out.into_iter().map(|(_, holding)| holding).collect();
                self.time_out(timed_out).await;
                if !overdue.holding {
                    break;
                }
            }
        }
    }

    async fn time_out(&self, timed_out: Vec<Holding>) {
        if timed_out.is_empty() {
            return;
        }
        let expiries: Vec<Expiry> =
            timed_out.iter().map(|holding| timeout_of(holding.held)).collect();
        match self.expire(&expiries).await {
            Ok(()) => {
                let lost = timed_out.iter().map(|holding| holding.held.delivery_id);
                self.deliveries.roster.cancel(lost, "the step took longer than its timeout");
            }
            // Still held: the next look tries again.
            Err(error) => tracing::warn!("timeouts could not be recorded: {error}"),
        }
    }

    /// Renews the sessions that are connected here, and ends the leases of those that nobody renews,
    /// until draining begins.
    pub async fn watch_sessions(self, drain: CancellationToken) {
        let mut ticks = interval(self.liveness.tick());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut count = 0u32;
        // When the next attempt has taken too long, whosever it is: nobody else watches those of workers that
        // poll.
        let mut due: Option<Instant> = None;
        // After an outage, whether the database's or our own, every worker gets the time to come back.
        let mut trusted = Instant::now();
        loop {
            let purge = tokio::select! {
                () = drain.cancelled() => return,
                _ = ticks.tick() => {
                    count = count.wrapping_add(1);
                    count % PURGE == 1
                }
                () = self.deliveries.roster.polled.woken() => false,
                () = sleep_until(due.unwrap_or(trusted).into()), if due.is_some() => false,
            };
            let patient = trusted.elapsed() < self.liveness.renewal();
            match self.tick(patient, purge).await {
                Ok(next) => due = next.map(|wait| Instant::now() + wait.max(LOOK)),
                Err(error) => {
                    self.deliveries.database.noticed(&error);
                    tracing::warn!("sessions could not be renewed: {error}");
                    (due, trusted) = (None, Instant::now());
                }
            }
        }
    }

    /// Returns how long until the next attempt has taken too long, if that is before the next tick.
    async fn tick(&self, patient: bool, purge: bool) -> Result<Option<Duration>, StoreError> {
        let Deliveries { database, roster, .. } = &self.deliveries;
        let sessions = roster.sessions();
        if !sessions.is_empty() {
            let alive = database.store.renew_sessions(&sessions, self.liveness.renewal()).await?;
            for lost in sessions.iter().filter(|session| !alive.contains(session)) {
                let reason = "the session has expired".to_owned();
                roster.send(*lost, Message::GoAway(GoAway { reason }));
            }
        }
        if patient {
            return Ok(None);
        }
        let next = loop {
            let LostLeases { lost, next } =
                database.store.lost_leases(BATCH, self.liveness.tick()).await?;
            if !lost.is_empty() {
                let expiries: Vec<Expiry> = lost.iter().map(expiry_of).collect();
                self.expire(&expiries).await?;
            }
            if i64::try_from(lost.len()).is_ok_and(|found| found < BATCH) {
                break next;
            }
        };
        if purge {
            database.store.purge_sessions().await?;
            while database.store.purge_limit_grants(BATCH).await? == BATCH.unsigned_abs() {}
            for session in sessions {
                self.compare(session).await?;
            }
        }
        Ok(next)
    }

    /// Takes back what a connected worker was never told of: a start that was committed although its
    /// answer, and then its release, got lost. And cancels what it was not told that it has lost.
    async fn compare(&self, session: SessionId) -> Result<(), StoreError> {
        let held = self.deliveries.roster.holding(session);
        let leases = self.deliveries.database.store.leases_of(session).await?;
        let leased: HashSet<Uuid> = leases.iter().map(|lease| lease.held.delivery_id).collect();
        let lost: Vec<Uuid> = held.difference(&leased).copied().collect();
        if !lost.is_empty() {
            self.deliveries.roster.cancel(lost, "the lease has ended");
        }
        let holding = self.deliveries.roster.holding(session);
        let stray = |lease: &Lease| {
            lease.age > self.liveness.tick() && !holding.contains(&lease.held.delivery_id)
        };
        let strays = leases.into_iter().filter(stray).map(|lease| lease.held).collect();
        self.deliveries.release(session, strays, "never delivered").await;
        Ok(())
    }

    /// Ends leases that have taken too long.
    pub async fn end_late(&self, late: &[Held]) -> Result<(), StoreError> {
        let expiries: Vec<Expiry> = late.iter().copied().map(timeout_of).collect();
        self.expire(&expiries).await
    }

    async fn expire(&self, expiries: &[Expiry]) -> Result<(), StoreError> {
        let Deliveries { database, actor, announcer, .. } = &self.deliveries;
        let (_, watched) = database.store.expire_leases(expiries, actor).await?;
        let tasks = watched.into_iter().collect();
        announcer.announce(Announcement { tasks, results: true, ..Announcement::default() });
        self.deliveries.roster.may_have_ended();
        if self.makes_calls {
            let mut results = self.results.clone();
            // A hint: the queue is the promise.
            tokio::spawn(async move {
                let call = results.judge_queued_results(JudgeQueuedResultsRequest {});
                if let Ok(Err(status)) = timeout(Duration::from_secs(2), call).await {
                    tracing::debug!("result-processor was not told: {}", status.message());
                }
            });
        }
        Ok(())
    }
}

fn timeout_of(held: Held) -> Expiry {
    Expiry {
        held,
        session: None,
        error_type: "STEP_TIMED_OUT",
        error_message: "the attempt took longer than the step's timeout".to_owned(),
    }
}

fn expiry_of(lost: &Lost) -> Expiry {
    if lost.timed_out {
        return timeout_of(lost.held);
    }
    Expiry {
        held: lost.held,
        session: Some(lost.session),
        error_type: "LEASE_EXPIRED",
        error_message: "the worker was lost: its session has expired".to_owned(),
    }
}
