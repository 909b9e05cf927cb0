//! The database and what is around it: workers, what is on its way, and what has not been flushed.

use std::collections::BTreeSet;

use stateright::Representative;

use crate::database::{Database, Delivery, Fate, Lease, Outcome, Session};

/// All that decides what may happen next.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub(crate) database: Database,
    /// What a crash would leave of the database, where that is not all of it.
    pub(crate) flushed: Option<Box<Database>>,
    /// How often each worker has connected.
    pub(crate) sessions: Vec<u8>,
    /// What each worker runs, whether or not it still may.
    pub(crate) hands: BTreeSet<(Delivery, usize)>,
    /// Answers that will come again.
    pub(crate) echoes: BTreeSet<(Delivery, Outcome)>,
    /// What a service still has to do after its commit: only in a twin.
    pub(crate) uncounted: BTreeSet<usize>,
    /// How much more may go wrong.
    pub(crate) faults: u8,
    /// How often operators may still step in.
    pub(crate) interventions: u8,
    /// How often it may still be paused.
    pub(crate) pauses: u8,
    /// How often workers may still yield.
    pub(crate) yields: u8,
    /// Steps that some replica has seen held by their limit, and may still try to begin.
    pub(crate) seen: BTreeSet<usize>,
    /// Whether somebody has resumed the template, and is about to let go what was held.
    pub(crate) lets_go: bool,
    /// Whether somebody has lost a message, so that the reconciler is needed.
    pub(crate) messages_were_lost: bool,
}

/// Whether a commit waits for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Commit {
    Durable,
    Relaxed,
}

impl World {
    /// Runs a statement, and then hands workers what it has given them. The log is flushed in order: a
    /// durable commit makes all before it durable.
    pub(crate) fn commit(&mut self, commit: Commit, statement: impl FnOnce(&mut Database)) {
        let before = self.database.clone();
        statement(&mut self.database);
        if self.database == before {
            return;
        }
        let begun =
            self.database.leases.values().filter(|lease| {
                before.leases.values().all(|other| other.delivery != lease.delivery)
            });
        self.hands.extend(begun.map(|lease| (lease.delivery, lease.session.worker)));
        match commit {
            Commit::Durable => self.flushed = None,
            Commit::Relaxed => {
                self.flushed.get_or_insert_with(|| Box::new(before));
            }
        }
        self.seen.extend(self.database.held_by_limit());
        self.forget_what_no_fault_can_use();
    }

    /// Time passes for all of it: no crash takes that back.
    pub(crate) fn pass_time(&mut self, passes: impl Fn(&mut Database)) {
        let flushed = self.flushed.as_deref_mut();
        flushed.into_iter().chain([&mut self.database]).for_each(passes);
    }

    /// One less may go wrong.
    pub(crate) fn spend_a_fault(&mut self) {
        self.faults -= 1;
        self.forget_what_no_fault_can_use();
    }

    /// With no fault left there is no crash, and nobody late: states that differ only in what these would
    /// find are one.
    fn forget_what_no_fault_can_use(&mut self) {
        if self.faults == 0 {
            self.flushed = None;
            self.seen.clear();
        }
    }

    /// Sets the database back to what was flushed. Workers keep what they have, and may answer for
    /// deliveries that nobody remembers.
    pub(crate) fn crash(&mut self, deliveries_are_counted: bool) {
        let Some(flushed) = self.flushed.take() else { return };
        let crashed = std::mem::replace(&mut self.database, *flushed);
        if deliveries_are_counted {
            return;
        }
        self.database.minted = crashed.minted;
        for delivery in crashed.fates.into_keys() {
            self.database.fates.entry(delivery).or_insert(Fate::Returned);
        }
    }

    /// A worker's newest session.
    pub(crate) fn session(&self, worker: usize) -> Session {
        Session { worker, nth: self.sessions[worker] }
    }

    pub(crate) fn is_alive(&self, session: Session) -> bool {
        session == self.session(session.worker)
    }
}

impl Representative for World {
    /// Two workers are as good as each other the other way round.
    fn representative(&self) -> Self {
        let other = |worker: usize| self.sessions.len() - 1 - worker;
        let mut swapped = self.clone();
        // Asked first: most states need no other.
        if !self.of_workers(other).lt(self.of_workers(|worker| worker)) {
            return swapped;
        }
        swapped.sessions.reverse();
        swapped.hands = self.hands.iter().map(|(held, worker)| (*held, other(*worker))).collect();
        let flushed = swapped.flushed.as_deref_mut();
        for database in flushed.into_iter().chain([&mut swapped.database]) {
            for lease in database.leases.values_mut() {
                lease.session.worker = other(lease.session.worker);
            }
        }
        swapped
    }
}

impl World {
    /// All that names workers, in an order of its own, if each were `named` otherwise.
    fn of_workers(
        &self,
        named: impl Fn(usize) -> usize + Copy,
    ) -> impl Iterator<Item = (usize, Option<Delivery>, u8)> {
        let sessions = 0..self.sessions.len();
        let sessions = sessions.map(move |worker| (worker, None, self.sessions[named(worker)]));
        let hands = self.hands.iter().map(move |(held, worker)| (named(*worker), Some(*held), 0));
        let databases = [Some(&self.database), self.flushed.as_deref()].into_iter().flatten();
        let leases = databases.flat_map(|database| database.leases.values());
        let leases = leases.map(move |Lease { delivery, session }| {
            (named(session.worker), Some(*delivery), session.nth)
        });
        sessions.chain(hands).chain(leases)
    }
}
