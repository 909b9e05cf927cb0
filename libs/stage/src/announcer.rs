//! Announces what moved, after the commit: what comes while one announcement is out goes into the next.

use std::sync::{Arc, Mutex, PoisonError};

use tasker_store::{Announcement, Store};
use tokio::sync::Notify;
use uuid::Uuid;

/// Where announcements go in; clones lead to the same place.
#[derive(Debug, Clone)]
pub struct Announcer {
    waiting: Arc<Mutex<Announcement>>,
    wake: Arc<Notify>,
}

impl Announcer {
    /// Announces through `store` for as long as the process lives.
    #[must_use]
    pub fn new(store: Store) -> Self {
        let announcer = Self { waiting: Arc::default(), wake: Arc::default() };
        tokio::spawn(announcer.clone().run(store));
        announcer
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
            self.waiting.lock().unwrap_or_else(PoisonError::into_inner).merge(announcement);
            self.wake.notify_one();
        }
    }

    async fn run(self, store: Store) {
        loop {
            self.wake.notified().await;
            let all =
                std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
            if !all.is_empty()
                && let Err(error) = store.announce(all).await
            {
                // Whoever listens also looks by itself.
                tracing::debug!("an announcement got lost: {error}");
            }
        }
    }
}
