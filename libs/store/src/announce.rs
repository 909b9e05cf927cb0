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

/// PostgreSQL takes less than 8,000 bytes a payload; this is what its lists may have of them.
const ROOM: usize = 7_500;

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
    /// Namespaces in which limits may let held steps begin, and handlers of which steps are held there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub limited: BTreeMap<String, BTreeSet<String>>,
    /// Whether steps have begun to wait for a retry.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub retries: bool,
    /// Whether worker queues have got messages that may not be claimed yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub delays: bool,
    /// Whether results have been queued.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub results: bool,
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

    /// Whether nobody has anything to do with it but to look at tasks.
    #[must_use]
    pub fn is_only_for_watchers(&self) -> bool {
        Self { tasks: BTreeSet::new(), ..self.clone() }.is_empty()
    }

    /// Adds what another has to tell.
    pub fn merge(&mut self, other: Self) {
        self.tasks.extend(other.tasks);
        self.cancelled.extend(other.cancelled);
        for (namespace, rank) in other.waiting {
            let first = self.waiting.entry(namespace).or_insert(rank);
            *first = rank.min(*first);
        }
        for (namespace, handlers) in other.limited {
            self.limited.entry(namespace).or_default().extend(handlers);
        }
        self.retries |= other.retries;
        self.delays |= other.delays;
        self.results |= other.results;
        self.everything |= other.everything;
    }

    /// In pieces that fit a payload each.
    fn payloads(self) -> Vec<String> {
        let Self { from, retries, delays, results, everything, .. } = self;
        // What takes no room goes with the first piece.
        let first = Self { from, retries, delays, results, everything, ..Self::default() };
        let mut pieces = Pieces { from, full: Vec::new(), open: first, room: ROOM };
        for (namespace, rank) in self.waiting {
            let size = length(&namespace) + length(&rank) + 2;
            pieces.with_room_for(size).waiting.insert(namespace, rank);
        }
        for (namespace, handlers) in self.limited {
            for handler in handlers {
                // Where a piece has the namespace already, this takes less.
                let size = length(&namespace) + length(&handler) + 4;
                let piece = pieces.with_room_for(size);
                piece.limited.entry(namespace.clone()).or_default().insert(handler);
            }
        }
        for task in self.tasks {
            pieces.with_room_for(length(&task) + 1).tasks.insert(task);
        }
        for delivery in self.cancelled {
            pieces.with_room_for(length(&delivery) + 1).cancelled.insert(delivery);
        }
        pieces.full.push(pieces.open);
        pieces.full.iter().map(text).collect()
    }
}

/// An announcement that is cut to pieces.
struct Pieces {
    from: Uuid,
    full: Vec<Announcement>,
    open: Announcement,
    /// What the open one can still take, in bytes.
    room: usize,
}

impl Pieces {
    /// The piece that something of this size goes into.
    fn with_room_for(&mut self, size: usize) -> &mut Announcement {
        if size > self.room {
            let next = Announcement { from: self.from, ..Announcement::default() };
            self.full.push(std::mem::replace(&mut self.open, next));
            self.room = ROOM;
        }
        self.room = self.room.saturating_sub(size);
        &mut self.open
    }
}

fn text(part: &impl Serialize) -> String {
    serde_json::to_string(part).expect("ids and names are JSON")
}

fn length(part: &impl Serialize) -> usize {
    text(part).len()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn said(payloads: &[String]) -> Announcement {
        let mut all = Announcement::default();
        for payload in payloads {
            assert!(payload.len() < 8_000, "{} bytes", payload.len());
            let piece: Announcement = serde_json::from_str(payload).unwrap();
            all.from = piece.from;
            all.merge(piece);
        }
        all
    }

    #[test]
    fn an_announcement_of_any_size_is_told_in_payloads_that_postgresql_takes() {
        let from = Uuid::now_v7();
        let namespace = |n: i32| (format!("{n:03}-{}", "\"\u{1f980}".repeat(20)), Rank::FIRST);
        let handlers = |n: i32| {
            let of_namespace = [format!("first_{n}"), format!("second_{n}")];
            (namespace(n).0, of_namespace.into_iter().collect())
        };
        let ids = |n: i32| (0..n).map(|_| Uuid::now_v7()).collect();
        for (tasks, namespaces) in [(0, 0), (1, 1), (1_000, 0), (0, 300), (500, 100)] {
            let all = Announcement {
                from,
                tasks: ids(tasks),
                cancelled: ids(tasks / 2),
                waiting: (0..namespaces).map(namespace).collect(),
                limited: (0..namespaces).map(handlers).collect(),
                retries: true,
                delays: true,
                results: true,
                everything: true,
            };
            assert_eq!(said(&all.clone().payloads()), all);
        }
    }

    #[test]
    fn a_small_announcement_is_one_payload() {
        let tasks = (0..100).map(|_| Uuid::now_v7()).collect();
        let all = Announcement { tasks, retries: true, ..Announcement::default() };
        assert_eq!(all.payloads().len(), 1);
    }
}
