//! Looks after the database, now and then: the history's partitions, and what queues have lost.

use std::time::Duration;

use tasker_stack::sweep::Wake;
use tasker_stage::Database;
use tasker_store::{Announcement, StoreError};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// How often the partitions are looked after.
const PARTITIONS: Duration = Duration::from_secs(6 * 60 * 60);
/// How many days ahead they are made: a weekend without the service loses nothing.
const DAYS_AHEAD: i32 = 7;

/// The work.
pub struct Maintenance {
    pub database: Database,
    pub reconcile_interval: Duration,
    pub keep_history_days: i32,
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
                _ = partitions.tick() => {
                    self.database.store.maintain_history(DAYS_AHEAD, self.keep_history_days).await
                }
                _ = reconcile.tick() => self.reconcile().await,
            };
            if let Err(error) = done {
                self.database.noticed(&error);
                tracing::warn!("maintenance failed, and is tried again: {error}");
                // Not only after hours: making partitions again is a no-op.
                partitions.reset_after(self.reconcile_interval);
            }
        }
    }

    async fn reconcile(&self) -> Result<(), StoreError> {
        let Some(findings) = self.database.store.reconcile().await? else { return Ok(()) };
        if findings.total() > 0 {
            tracing::warn!(
                repaired = findings.total(),
                "the reconciler sent again what was lost: {findings:?}"
            );
            self.repaired.wake();
            let all = Announcement { everything: true, ..Announcement::default() };
            self.database.store.announce(all).await?;
        }
        Ok(())
    }
}
