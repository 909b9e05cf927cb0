//! Looks after the database, now and then: the history's partitions, what queues have lost, and what is not
//! to be kept any longer.

use std::{collections::BTreeMap, time::Duration};

use tasker_stack::sweep::Wake;
use tasker_stage::Database;
use tasker_store::{Announcement, StoreError};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// How often the partitions are looked after.
const PARTITIONS: Duration = Duration::from_secs(6 * 60 * 60);
/// How many days ahead they are made: a weekend without the service loses nothing.
const DAYS_AHEAD: i32 = 7;

/// Tasks whose results are purged in one transaction: each may have thousands.
const PURGED_TASKS: i64 = 100;
/// Dead letters that are forgotten in one transaction.
const PURGED_LETTERS: i64 = 1_000;

/// Transitions of tasks, and of steps, that are forgotten in one statement.
const PURGED_TRANSITIONS: i64 = 10_000;

/// Events of a namespace that are purged in one transaction.
const PURGED_EVENTS: i32 = 1_000;

/// The work.
pub struct Maintenance {
    pub database: Database,
    pub reconcile_interval: Duration,
    pub keep_history_days: i32,
    /// 0: for ever.
    pub keep_results_days: i32,
    /// 0: for ever.
    pub keep_events_days: i32,
    /// Who is named where it closes dead letters, and moves tasks that were miscounted.
    pub actor: String,
    /// Has the queue of finalizations read.
    pub repaired: Wake,
}

impl Maintenance {
    /// Works until draining begins.
    pub async fn run(self, drain: CancellationToken) {
        let mut reconcile = interval(self.reconcile_interval);
        let mut partitions = interval(PARTITIONS);
        reconcile.set_missed_tick_behavior(MissedTickBehavior::Delay);
        reconcile.reset();
        loop {
            let done = tokio::select! {
                () = drain.cancelled() => return,
                _ = partitions.tick() => self.keep_history().await,
                _ = reconcile.tick() => self.look_after(&drain).await,
            };
            if let Err(error) = done {
                self.database.noticed(&error);
                tracing::warn!("maintenance failed, and is tried again: {error}");
                // Not only after hours: making partitions again is a no-op.
                partitions.reset_after(self.reconcile_interval);
            }
        }
    }

    async fn keep_history(&self) -> Result<(), StoreError> {
        let store = &self.database.store;
        store.maintain_history(DAYS_AHEAD, self.keep_history_days).await?;
        while store.purge_history(self.keep_history_days, PURGED_TRANSITIONS).await? {}
        let batch = u64::try_from(PURGED_LETTERS).expect("it is positive");
        while store.purge_dead_letters(self.keep_history_days, PURGED_LETTERS).await? == batch {}
        store.purge_pauses(self.keep_history_days).await
    }

    async fn look_after(&self, drain: &CancellationToken) -> Result<(), StoreError> {
        self.reconcile().await?;
        let store = &self.database.store;
        store.close_dead_letters(&self.actor).await?;
        while self.keep_results_days > 0 && !drain.is_cancelled() {
            if store.purge_results(self.keep_results_days, PURGED_TASKS).await? < PURGED_TASKS {
                break;
            }
        }
        self.purge_events(drain).await
    }

    /// Deletes durable events that nobody has read in time: what has no reader would grow for ever.
    async fn purge_events(&self, drain: &CancellationToken) -> Result<(), StoreError> {
        let mut purged: BTreeMap<String, i64> = BTreeMap::new();
        while self.keep_events_days > 0 && !drain.is_cancelled() {
            let store = &self.database.store;
            let batch = store.purge_events(self.keep_events_days, PURGED_EVENTS).await?;
            let more = batch.iter().any(|(_, events)| *events == i64::from(PURGED_EVENTS));
            for (namespace, events) in batch {
                *purged.entry(namespace).or_default() += events;
            }
            if !more {
                break;
            }
        }
        for (namespace, events) in purged {
            tracing::warn!(
                namespace,
                events,
                "{events} events of {namespace} were deleted: nobody has read them within {} days",
                self.keep_events_days
            );
        }
        Ok(())
    }

    async fn reconcile(&self) -> Result<(), StoreError> {
        let Some(findings) = self.database.store.reconcile(&self.actor).await? else {
            return Ok(());
        };
        if findings.total() > 0 {
            tracing::warn!(
                repaired = findings.total(),
                "the reconciler sent again what was lost: {findings:?}"
            );
        }
        // Where queues are read only when somebody calls, a call that got lost would be for ever.
        let unread = self.database.store.messages_wait(self.reconcile_interval).await?;
        if findings.total() > 0 || unread {
            self.repaired.wake();
            let all = Announcement { everything: true, ..Announcement::default() };
            self.database.store.announce(all).await?;
        }
        Ok(())
    }
}
