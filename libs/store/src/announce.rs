//! Wakes other replicas: which tasks moved that somebody watches, which deliveries are cancelled, which
//! queues have work, when a retry is due.
//!
//! Sent after the commit that caused it, in a transaction of its own: a NOTIFY inside it would take a
//! database-wide lock until the commit is flushed. May get lost; whoever listens also looks by itself.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sqlx::postgres::PgListener;
use tasker_domain::Rank;
use uuid::Uuid;

use crate::{Store, StoreError};

/// Where announcements are sent.
pub const CHANNEL: &str = "tasker_mesh";

/// PostgreSQL takes 8,000 bytes a payload; an id takes 39 of them.
const IDS_IN_ONE: usize = 180;

/// What replicas tell each other.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Announcement {
    /// Who tells it, and need not hear it.
    #[serde(default)]
    pub from: Uuid,
    /// Tasks that moved and are watched.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub tasks: BTreeSet<Uuid>,
    /// Deliveries that their workers have lost, and should stop.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub cancelled: BTreeSet<Uuid>,
    /// Namespaces whose worker queue has got messages, and the first of their ranks.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub waiting: BTreeMap<String, Rank>,
    /// Whether steps have begun to wait for a retry.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub retries: bool,
    /// Whether queues have got messages that nobody was told of: all look.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub everything: bool,
}

impl Announcement {
    /// Whether there is nothing to tell.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self { from: self.from, ..Self::default() }
    }

    /// Adds what another has to tell.
    pub fn merge(&mut self, other: Self) {
        self.tasks.extend(other.tasks);
        self.cancelled.extend(other.cancelled);
        for (namespace, rank) in other.waiting {
            let first = self.waiting.entry(namespace).or_insert(rank);
            *first = rank.min(*first);
        }
        self.retries |= other.retries;
        self.everything |= other.everything;
    }

    /// In pieces that fit a payload each.
    fn payloads(self) -> Vec<String> {
        let Self { from, tasks, cancelled, .. } = &self;
        let piece = || Self { from: *from, ..Self::default() };
        let mut pieces: Vec<Self> =
            chunks(tasks).into_iter().map(|tasks| Self { tasks, ..piece() }).collect();
        let cancelled = chunks(cancelled).into_iter();
        pieces.extend(cancelled.map(|cancelled| Self { cancelled, ..piece() }));
        if pieces.is_empty() {
            pieces.push(piece());
        }
        // The rest is small, and goes with the first.
        let first = &mut pieces[0];
        first.waiting = self.waiting;
        first.retries = self.retries;
        first.everything = self.everything;
        pieces
            .iter()
            .map(|piece| serde_json::to_string(piece).expect("ids and names are JSON"))
            .collect()
    }
}

/// As many ids as fit a payload each.
fn chunks(ids: &BTreeSet<Uuid>) -> Vec<BTreeSet<Uuid>> {
    let ids: Vec<Uuid> = ids.iter().copied().collect();
    ids.chunks(IDS_IN_ONE).map(|ids| ids.iter().copied().collect()).collect()
}

impl Store {
    /// Tells all replicas.
    ///
    /// # Errors
    /// The database is not available: whoever listens looks by itself before long.
    pub async fn announce(&self, announcement: Announcement) -> Result<(), StoreError> {
        let mut line = self.relaxed_lines.take().await?;
        let told = sqlx::query("SELECT pg_notify($1, payload) FROM unnest($2::text[]) AS payload")
            .bind(CHANNEL)
            .bind(announcement.payloads())
            .execute(&mut *line)
            .await;
        line.done(told)?;
        Ok(())
    }

    /// Listens to what replicas announce, on a connection of its own.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn listen(&self) -> Result<PgListener, StoreError> {
        let mut listener = PgListener::connect_with(&self.relaxed).await?;
        listener.listen(CHANNEL).await?;
        Ok(listener)
    }
}
