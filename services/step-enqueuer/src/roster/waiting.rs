//! What may wait in the worker queues, as far as is known here: noted until somebody has looked.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    time::{Duration, Instant},
};

use tasker_domain::{Ageing, Rank, SessionId, TaskId};
use uuid::Uuid;

use super::{Inner, Roster};

/// That something may wait for a callable.
#[derive(Clone, Copy)]
pub(super) struct Note {
    first: Rank,
    /// When it had that rank: it has waited since.
    at: Instant,
    /// Which note it is: a look that began before it has not seen what it is about.
    pub(super) number: u64,
}

/// What may be claimed from one namespace's queue.
#[derive(Debug, PartialEq, Eq)]
pub struct Claimable {
    pub namespace: String,
    /// Callables of which some may wait, and whose workers may get more; each with the number of its note.
    pub callables: Vec<(String, u64)>,
    /// How much more, in all.
    pub credit: usize,
}

impl Roster {
    /// Notes that steps may wait for these callables, and the first of their ranks; and has them claimed.
    pub fn wait_for(&self, namespace: &str, callables: impl IntoIterator<Item = (String, Rank)>) {
        self.expect(namespace, callables);
        self.claim.wake();
    }

    /// Notes that steps are about to wait.
    pub fn expect(&self, namespace: &str, callables: impl IntoIterator<Item = (String, Rank)>) {
        let mut inner = self.lock();
        for (callable, rank) in callables {
            if inner.able.get(namespace).is_some_and(|able| able.contains_key(&callable)) {
                inner.note(namespace, &callable, rank);
            }
        }
    }

    /// Notes that steps may wait in a namespace, for whatever its workers can run.
    pub fn wait_in(&self, namespace: &str, rank: Rank) {
        let able =
            self.lock().able.get(namespace).map(|able| {
                able.keys().map(|callable| (callable.clone(), rank)).collect::<Vec<_>>()
            });
        self.wait_for(namespace, able.unwrap_or_default());
    }

    /// Notes that steps may wait in a namespace whose time has come, and whose messages are old.
    pub fn come_late(&self, namespace: &str) {
        self.lock().come_late.insert(namespace.to_owned());
        self.wait_in(namespace, Rank::FIRST);
    }

    /// Where steps may have [come late](Self::come_late) since the last time it asked.
    pub fn take_late(&self) -> BTreeSet<String> {
        std::mem::take(&mut self.lock().come_late)
    }

    /// Notes that steps may wait anywhere: an announcement may have got lost.
    pub fn wait_everywhere(&self) {
        self.lock().unsure = true;
        self.claim.wake();
        let namespaces = self.namespaces();
        namespaces.iter().for_each(|namespace| self.wait_in(namespace, Rank::FIRST));
    }

    /// The rank of a step that has waited so long.
    pub fn aged(&self, priority: i16, task: Uuid, waited: Duration) -> Rank {
        self.ageing.rank(Rank::of(priority, TaskId(task)), waited)
    }

    /// What may be claimed now, from each namespace. It waits until somebody has [looked](Self::looked):
    /// meanwhile nothing passes it by but a task about as old that goes on in its own place.
    pub fn claimable(&self) -> Vec<Claimable> {
        let inner = self.lock();
        let mut found = Vec::new();
        for (namespace, waiting) in &inner.waiting {
            let Some(able) = inner.able.get(namespace) else { continue };
            let free = |callable: &String| -> Vec<SessionId> {
                let sessions = able.get(callable).into_iter().flatten().copied();
                sessions.filter(|session| inner.members[session].free() > 0).collect()
            };
            let mut sessions = HashSet::new();
            let mut callables = Vec::new();
            for (callable, note) in waiting {
                let free = free(callable);
                if !free.is_empty() {
                    sessions.extend(free);
                    callables.push((callable.clone(), note.number));
                }
            }
            if !callables.is_empty() {
                let credit = sessions.iter().map(|session| inner.members[session].free()).sum();
                found.push(Claimable { namespace: namespace.clone(), callables, credit });
            }
        }
        found
    }

    /// Notes what a look into a queue has left there: the first rank of each callable. What was noted since
    /// the look began still waits.
    pub fn looked(
        &self,
        namespace: &str,
        callables: &[(String, u64)],
        left: &BTreeMap<String, Rank>,
    ) {
        let mut inner = self.lock();
        let Some(waiting) = inner.waiting.get_mut(namespace) else { return };
        for (callable, number) in callables {
            let Some(note) = waiting.get_mut(callable) else { continue };
            match (left.get(callable), note.number == *number) {
                (Some(first), true) => (note.first, note.at) = (*first, Instant::now()),
                (Some(first), false) => note.go_first(*first),
                (None, true) => {
                    waiting.remove(callable);
                }
                (None, false) => {}
            }
        }
        if waiting.is_empty() {
            inner.waiting.remove(namespace);
        }
    }
}

impl Inner {
    /// For each step that goes before this rank and may wait: the workers that may get it, and so have no
    /// place for one of this rank. Nothing, at no cost, where nothing waits.
    pub(super) fn awaited_before(&self, ageing: Ageing, rank: Rank) -> Vec<&[SessionId]> {
        if self.waiting.is_empty() {
            return Vec::new();
        }
        let now = Instant::now();
        let goes_before = |note: &Note| {
            let waited = now.saturating_duration_since(note.at);
            ageing.rank(note.first, waited) < rank
        };
        let mut awaited = Vec::new();
        for (namespace, waiting) in &self.waiting {
            let Some(able) = self.able.get(namespace) else { continue };
            let before = waiting.iter().filter(|(_, note)| goes_before(note));
            awaited
                .extend(before.filter_map(|(callable, _)| able.get(callable)).map(Vec::as_slice));
        }
        awaited
    }

    pub(super) fn note(&mut self, namespace: &str, callable: &str, rank: Rank) {
        self.notes += 1;
        let number = self.notes;
        let waiting = self.waiting.entry(namespace.to_owned()).or_default();
        let fresh = Note { first: rank, at: Instant::now(), number };
        let note = waiting.entry(callable.to_owned()).or_insert(fresh);
        note.number = number;
        note.go_first(rank);
    }
}

impl Note {
    /// A step of this rank waits, too.
    fn go_first(&mut self, rank: Rank) {
        if rank < self.first {
            (self.first, self.at) = (rank, Instant::now());
        }
    }
}
