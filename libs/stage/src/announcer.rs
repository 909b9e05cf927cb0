//! Announces what moved, after the commit: what comes while one announcement is out goes into the next.
//!
//! A task on its way is announced a little later than it moves: whoever watches it does not mind, and each
//! announcement has them all look. A task that has come to rest is announced like work that waits.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tasker_store::{Announcement, Store};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};
use uuid::Uuid;

/// How long the moves of tasks on their way are gathered.
const GATHERED: Duration = Duration::from_millis(10);
/// The least time between two announcements: one that is alone and that somebody waits for goes out at once.
const APART: Duration = Duration::from_millis(2);

/// Where announcements go in; clones lead to the same place.
#[derive(Debug, Clone)]
pub struct Announcer {
    id: Uuid,
    waiting: Arc<Mutex<Waiting>>,
    wake: Arc<Notify>,
}

/// What is to be told.
#[derive(Debug, Default)]
struct Waiting {
    announcement: Announcement,
    /// When the first of it came in.
    since: Option<Instant>,
    /// Whether somebody waits for it.
    urgent: bool,
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

    /// Tells who watches these tasks that they have come to rest.
    pub fn rest(&self, tasks: impl IntoIterator<Item = Uuid>) {
        let tasks = tasks.into_iter().collect();
        self.add(Announcement { tasks, ..Announcement::default() }, true);
    }

    /// Tells all replicas.
    pub fn announce(&self, announcement: Announcement) {
        let urgent = !announcement.is_only_for_watchers();
        self.add(announcement, urgent);
    }

    fn add(&self, announcement: Announcement, urgent: bool) {
        if !announcement.is_empty() {
            let mut waiting = self.waiting();
            waiting.announcement.merge(announcement);
            waiting.since.get_or_insert_with(Instant::now);
            waiting.urgent |= urgent;
            drop(waiting);
            self.wake.notify_one();
        }
    }

    async fn run(self, store: Store) {
        let mut last = None;
        loop {
            self.wake.notified().await;
            while let Some(due) = self.due(last).filter(|due| *due > Instant::now()) {
                tokio::select! {
                    () = sleep_until(due) => {}
                    () = self.wake.notified() => {}
                }
            }
            let mut all = std::mem::take(&mut *self.waiting()).announcement;
            all.from = self.id;
            if all.is_empty() {
                continue;
            }
            if let Err(error) = store.announce(all).await {
                // Whoever listens also looks by itself.
                tracing::debug!("an announcement got lost: {error}");
            }
            last = Some(Instant::now());
        }
    }

    /// When to tell what waits, after the announcement before.
    fn due(&self, last: Option<Instant>) -> Option<Instant> {
        let waiting = self.waiting();
        if waiting.urgent { Some(last? + APART) } else { Some(waiting.since? + GATHERED) }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Announcer {
        /// One that nobody runs.
        pub fn unheard() -> Self {
            Self { id: Uuid::new_v4(), waiting: Arc::default(), wake: Arc::default() }
        }

        /// What it has to tell next.
        pub async fn next(&self) -> Announcement {
            self.wake.notified().await;
            std::mem::take(&mut *self.waiting()).announcement
        }
    }

    #[tokio::test(start_paused = true)]
    async fn moves_of_tasks_on_their_way_are_gathered_from_the_first_on() {
        let (announcer, now) = (Announcer::unheard(), Instant::now());
        announcer.moved([Uuid::now_v7()]);
        tokio::time::sleep(GATHERED / 2).await;
        announcer.moved([Uuid::now_v7()]);
        assert_eq!(announcer.due(None), Some(now + GATHERED));
        assert_eq!(announcer.waiting().announcement.tasks.len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_at_rest_is_told_at_once_and_so_is_what_moved_before_it() {
        let (announcer, now) = (Announcer::unheard(), Instant::now());
        announcer.moved([Uuid::now_v7()]);
        announcer.rest([Uuid::now_v7()]);
        assert_eq!(announcer.due(None), None);
        assert_eq!(announcer.due(Some(now)), Some(now + APART));
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_waits_is_told_at_once() {
        let announcer = Announcer::unheard();
        announcer.announce(Announcement { retries: true, ..Announcement::default() });
        assert_eq!(announcer.due(None), None);
    }
}
