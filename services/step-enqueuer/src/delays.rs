//! Steps that wait in their queues for a time to pass are claimed when it has: a timer for the next.

use std::time::Duration;

use tasker_stage::Database;
use tasker_store::StoreError;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::roster::Roster;

/// How long to wait after an error.
const AGAIN: Duration = Duration::from_secs(1);
/// How long to wait where nothing is known to wait.
const NEVER: Duration = Duration::from_secs(3600);

/// The work.
pub struct Delays {
    pub database: Database,
    pub roster: Roster,
}

impl Delays {
    /// Works until draining begins.
    pub async fn run(self, drain: CancellationToken) {
        while !drain.is_cancelled() {
            let pause = match self.look().await {
                Ok(next) => next.unwrap_or(NEVER),
                Err(error) => {
                    self.database.noticed(&error);
                    tracing::warn!("steps that wait for a time could not be looked up: {error}");
                    AGAIN
                }
            };
            tokio::select! {
                () = drain.cancelled() => return,
                () = self.roster.delays.woken() => {}
                () = sleep(pause) => {}
            }
        }
    }

    /// Has claimed what may be by now. Returns how long until the next may be.
    async fn look(&self) -> Result<Option<Duration>, StoreError> {
        let mut next: Option<Duration> = None;
        for namespace in self.roster.namespaces() {
            let wait = self.database.store.next_delayed(&namespace).await?;
            next = next.into_iter().chain(wait).min();
            // After the look: what it did not see waiting for a time is there to be claimed.
            self.roster.come_late(&namespace);
        }
        Ok(next)
    }
}
