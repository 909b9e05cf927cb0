//! Announces fast events to all replicas, after the commit: what comes while one announcement is out
//! goes into the next.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tasker_stage::Database;
use tasker_store::DomainEvent;
use tokio::sync::mpsc;

/// Events that may wait, of 8 KB each at most.
const WAITING: usize = 2_000;
/// Events in one announcement.
const BATCH: usize = 500;

/// Where fast events go in; clones lead to the same place.
#[derive(Debug, Clone)]
pub struct EventAnnouncer {
    waiting: mpsc::Sender<String>,
    /// Those that found no place, or of which nobody could be told.
    missed: Arc<AtomicU64>,
}

impl EventAnnouncer {
    /// Announces for as long as clones of it live.
    pub fn new(database: Database) -> Self {
        let (waiting, events) = mpsc::channel(WAITING);
        let missed = Arc::default();
        tokio::spawn(run(database, events, Arc::clone(&missed)));
        Self { waiting, missed }
    }

    /// Tells all replicas, soon. Never waits: what finds no place is only counted.
    pub fn tell(&self, events: impl IntoIterator<Item = DomainEvent>) {
        for event in events {
            if self.waiting.try_send(event.announcement()).is_err() {
                self.missed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

async fn run(database: Database, mut events: mpsc::Receiver<String>, missed: Arc<AtomicU64>) {
    let mut batch = Vec::with_capacity(BATCH);
    while events.recv_many(&mut batch, BATCH).await > 0 {
        let before = missed.swap(0, Ordering::Relaxed);
        if let Err(error) = database.store.announce_events(&batch, before).await {
            database.noticed(&error);
            let lost = u64::try_from(batch.len()).expect("a batch is small");
            missed.fetch_add(before + lost, Ordering::Relaxed);
            tracing::warn!("{lost} fast events could not be announced: {error}");
        }
        batch.clear();
    }
}
