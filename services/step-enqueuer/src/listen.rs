//! Hears what other services and replicas announce.

use std::time::Duration;

use tasker_stack::sweep::Wake;
use tasker_stage::{Announcer, Database};
use tasker_store::{Announcement, StoreError};
use tokio_util::sync::CancellationToken;

use crate::roster::Roster;

/// How long to wait before listening again.
const AGAIN: Duration = Duration::from_secs(1);
/// What workers are told of a cancelled delivery.
const CANCELLED: &str = "the task has ended, or an operator has settled the step";

/// Whom announcements are for.
pub struct Ear {
    pub database: Database,
    /// Whose own announcements are no news.
    pub announcer: Announcer,
    pub roster: Roster,
    pub retries: Wake,
    /// Has the ready queue read.
    pub ready: Wake,
}

impl Ear {
    /// Passes on what it hears, until draining begins.
    pub async fn run(self, drain: CancellationToken) {
        while !drain.is_cancelled() {
            if let Some(Err(error)) = drain.run_until_cancelled(self.hear()).await {
                self.database.noticed(&error);
                drain.run_until_cancelled(tokio::time::sleep(AGAIN)).await;
            }
        }
    }

    async fn hear(&self) -> Result<(), StoreError> {
        let mut listener = self.database.store.listen().await?;
        loop {
            // What was announced while nobody listened is lost.
            self.look_everywhere();
            while let Some(notification) = listener.try_recv().await? {
                match serde_json::from_str::<Announcement>(notification.payload()) {
                    Ok(announcement) => {
                        if !self.announcer.has_said(&announcement) {
                            for (namespace, rank) in &announcement.waiting {
                                self.roster.wait_in(namespace, *rank);
                            }
                            for (namespace, callables) in &announcement.limited {
                                self.roster.may_begin(namespace, callables.iter().cloned());
                            }
                        }
                        if !announcement.cancelled.is_empty() {
                            self.roster.cancel(announcement.cancelled, CANCELLED);
                            // Whoever had them, and wherever: what limits counted them for is free.
                            self.roster.may_begin_anywhere();
                        }
                        if announcement.retries {
                            self.retries.wake();
                        }
                        if announcement.delays {
                            self.roster.delays.wake();
                        }
                        if announcement.everything {
                            self.look_everywhere();
                        }
                    }
                    Err(error) => tracing::warn!("not an announcement: {error}"),
                }
            }
        }
    }

    fn look_everywhere(&self) {
        self.roster.wait_everywhere();
        self.roster.delays.wake();
        self.retries.wake();
        self.ready.wake();
    }
}
