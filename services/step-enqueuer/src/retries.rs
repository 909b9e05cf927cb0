//! Steps whose back-off is over are ready again: a timer for the next, and no scan.

use std::time::Duration;

use tasker_stack::{gather::Gather, sweep::Wake};
use tasker_stage::{Announcer, Database};
use tasker_store::StoreError;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::enqueue_steps::EnqueueSteps;

/// Steps made ready in one transaction.
const BATCH: i64 = 500;
/// How long to wait after an error.
const AGAIN: Duration = Duration::from_secs(1);
/// How long to wait where no queue is ever read without a call.
const NEVER: Duration = Duration::from_secs(3600);

/// The work.
pub struct Retries {
    pub database: Database,
    pub actor: String,
    pub announcer: Announcer,
    pub ready: Gather<EnqueueSteps>,
    /// Has the ready queue read.
    pub overflow: Wake,
    /// Called when steps have begun to wait.
    pub wake: Wake,
    /// How long nobody looks though nobody has called.
    pub every: Option<Duration>,
}

impl Retries {
    /// Works until draining begins.
    pub async fn run(self, drain: CancellationToken) {
        while !drain.is_cancelled() {
            let pause = match self.retry().await {
                Ok(next) => next.unwrap_or(NEVER).min(self.every.unwrap_or(NEVER)),
                Err(error) => {
                    self.database.noticed(&error);
                    tracing::warn!("retries could not be looked up: {error}");
                    AGAIN
                }
            };
            tokio::select! {
                () = drain.cancelled() => return,
                () = self.wake.woken() => {}
                () = sleep(pause) => {}
            }
        }
    }

    /// Makes ready what is due. Returns how long until the next is.
    async fn retry(&self) -> Result<Option<Duration>, StoreError> {
        loop {
            let next = self.database.store.next_retry().await?;
            if next.is_none_or(|wait| !wait.is_zero()) {
                return Ok(next);
            }
            let retried = self.database.store.retry_steps(BATCH, &self.actor).await?;
            self.announcer.moved(retried.watched);
            for step in retried.ready {
                if self.ready.submit(step).is_err() {
                    self.overflow.wake();
                }
            }
        }
    }
}
