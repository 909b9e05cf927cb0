//! Announces what moved, after the commit: what comes while one announcement is out goes into the next.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tasker_store::{Announcement, Store};
use tokio::{sync::Notify, time::sleep};
use uuid::Uuid;

/// The least time between two announcements that only watchers want.
const PACE: Duration = Duration::from_millis(10);
/// The least time between two others: a lone one goes out at once.
const URGENT: Duration = Duration::from_millis(2);

/// Where announcements go in; clones lead to the same place.
#[derive(Debug, Clone)]
pub struct Announcer {
    id: Uuid,
    waiting: Arc<Mutex<Announcement>>,
    wake: Arc<Notify>,
}

impl Announcer {
    /// Announces through `store` for as long as the process lives.
    #[must_use]
    pub fn new(store: Store) -> Self {
        let announcer = Self { id: Uuid::new_v4(), waiting: Arc::default(), wake: Arc::default() };
        tokio::spawn(announcer.clone().run(store));
        announcer
    }

    /// Whether an announcement is one of these.
    #[must_use]
    pub fn has_said(&self, announcement: &Announcement) -> bool {
        announcement.from == self.id
    }

    /// Tells who watches these tasks that they moved.
    pub fn moved(&self, tasks: impl IntoIterator<Item = Uuid>) {
        self.announce(Announcement {
            tasks: tasks.into_iter().collect(),
            ..Announcement::default()
        });
    }

    /// Tells all replicas.
    pub fn announce(&self, announcement: Announcement) {
        if !announcement.is_empty() {
            self.waiting().merge(announcement);
            self.wake.notify_one();
        }
    }

    async fn run(self, store: Store) {
        let mut last = Instant::now();
        loop {
            self.wake.notified().await;
            // Whoever watches does not mind; whoever waits for work does.
            while let Some(rest) =
                self.pace().checked_sub(last.elapsed()).filter(|rest| !rest.is_zero())
            {
                tokio::select! {
                    () = sleep(rest) => {}
                    () = self.wake.notified() => {}
                }
            }
            let mut all = std::mem::take(&mut *self.waiting());
            all.from = self.id;
            if all.is_empty() {
                continue;
            }
            if let Err(error) = store.announce(all).await {
                // Whoever listens also looks by itself.
                tracing::debug!("an announcement got lost: {error}");
            }
            last = Instant::now();
        }
    }

    /// How long to wait after the announcement before: less if some replica may have work to do, or to stop.
    fn pace(&self) -> Duration {
        let waiting = self.waiting();
        let urgent = waiting.retries
            || !waiting.waiting.is_empty()
            || !waiting.limited.is_empty()
            || !waiting.cancelled.is_empty();
        if urgent { URGENT } else { PACE }
    }

    fn waiting(&self) -> MutexGuard<'_, Announcement> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
