//! Wakes other replicas: which tasks moved that somebody watches, which queues have work, when a
//! retry is due.
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

/// PostgreSQL takes 8,000 bytes a payload; a task id takes 39 of them.
const TASKS_IN_ONE: usize = 180;

/// What replicas tell each other.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Announcement {
    /// Who tells it, and need not hear it.
    #[serde(default)]
    pub from: Uuid,
    /// Tasks that moved and are watched.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub tasks: BTreeSet<Uuid>,
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
        for (namespace, rank) in other.waiting {
            let first = self.waiting.entry(namespace).or_insert(rank);
            *first = rank.min(*first);
        }
        self.retries |= other.retries;
        self.everything |= other.everything;
    }

    /// In pieces that fit a payload each.
    fn payloads(self) -> Vec<String> {
        let tasks: Vec<Uuid> = self.tasks.into_iter().collect();
        let mut rest = Some((self.waiting, self.retries, self.everything));
        let mut chunks: Vec<&[Uuid]> = tasks.chunks(TASKS_IN_ONE).collect();
        if chunks.is_empty() {
            chunks.push(&[]);
        }
        let pieces = chunks.into_iter().map(|tasks| {
            let (waiting, retries, everything) = rest.take().unwrap_or_default();
            let tasks = tasks.iter().copied().collect();
            let piece = Self { from: self.from, tasks, waiting, retries, everything };
            serde_json::to_string(&piece).expect("ids and names are JSON")
        });
        pieces.collect()
    }
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
