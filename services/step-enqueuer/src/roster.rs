//! The workers that are connected to this replica: what they can run, and how much more they may get.

mod held;
mod limited;
mod member;
mod places;
mod waiting;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tasker_api::v1::{WorkResponse, work_response::Message};
use tasker_domain::{Ageing, Rank, SessionId};
use tasker_stack::sweep::Wake;
use uuid::Uuid;

use self::waiting::Note;
pub use self::{
    member::{Holding, Member, Seat},
    waiting::Claimable,
};

/// The members, behind one short lock. Clones are one.
#[derive(Clone, Default)]
pub struct Roster {
    inner: Arc<Mutex<Inner>>,
    /// Called when a worker may get more, and when more waits.
    pub claim: Wake,
    /// Called when a delivery is held, so that its deadlines are watched.
    pub held: Wake,
    /// Called when workers that poll were given what soon may have taken too long.
    pub polled: Wake,
    /// Called when more waits for a time to pass, or in a namespace that nobody has looked into.
    pub delays: Wake,
    /// How waiting raises a step.
    ageing: Ageing,
}

#[derive(Default)]
struct Inner {
    members: HashMap<SessionId, Member>,
    /// Who can run a callable in a namespace.
    able: HashMap<String, HashMap<String, Vec<SessionId>>>,
    /// What may wait in the worker queues, and the first of its ranks: others do not pass it by, but for a task about
    /// as old that goes on in its own place.
    waiting: HashMap<String, HashMap<String, Note>>,
    /// Callables of which limits hold steps, as far as is known here.
    limited: HashMap<String, HashSet<String>>,
    /// Namespaces in which steps with limits have ended here: other replicas are to be told.
    ended: BTreeSet<String>,
    /// Whether limits may hold steps that nobody has told of.
    unsure: bool,
    /// Namespaces in which steps may wait before the front: the next look is for all.
    come_late: BTreeSet<String>,
    /// How many notes there have been.
    notes: u64,
}

impl Roster {
    /// Without workers yet.
    pub fn new(ageing: Ageing) -> Self {
        Self { ageing, ..Self::default() }
    }

    /// Takes a worker in, at a place of its own. Whatever it can run may wait: nobody has looked.
    pub fn join(&self, session: SessionId, member: Member) {
        let mut inner = self.lock();
        for namespace in &member.namespaces {
            for handler in &member.handlers {
                let able = inner.able.entry(namespace.clone()).or_default();
                able.entry(handler.clone()).or_default().push(session);
            }
            for handler in &member.handlers {
                inner.note(namespace, handler, Rank::FIRST);
            }
        }
        inner.members.insert(session, member);
        drop(inner);
        self.claim.wake();
        self.held.wake();
        self.delays.wake();
    }

    /// Lets a worker go. Returns what it holds.
    pub fn leave(&self, session: SessionId) -> Vec<Holding> {
        let mut inner = self.lock();
        let Some(member) = inner.members.remove(&session) else { return Vec::new() };
        for namespace in &member.namespaces {
            let Some(able) = inner.able.get_mut(namespace) else { continue };
            for handler in &member.handlers {
                if let Some(sessions) = able.get_mut(handler) {
                    sessions.retain(|other| *other != session);
                }
            }
            able.retain(|_, sessions| !sessions.is_empty());
            if able.is_empty() {
                inner.able.remove(namespace);
                inner.waiting.remove(namespace);
            }
        }
        member.holding.into_values().collect()
    }

    /// The sessions that live as long as their streams here.
    pub fn sessions(&self) -> Vec<SessionId> {
        let inner = self.lock();
        inner
            .members
            .values()
            .filter(|member| member.acknowledges)
            .map(|member| member.session)
            .collect()
    }

    /// The namespaces that workers here serve.
    pub fn namespaces(&self) -> Vec<String> {
        self.lock().able.keys().cloned().collect()
    }

    /// What a worker holds, by delivery.
    pub fn holding(&self, session: SessionId) -> HashSet<Uuid> {
        let inner = self.lock();
        let member = inner.members.get(&session);
        member.map(|member| member.holding.keys().copied().collect()).unwrap_or_default()
    }

    /// Sends something to a worker. Says whether it could be sent.
    pub fn send(&self, session: SessionId, message: Message) -> bool {
        self.lock().members.get(&session).is_some_and(|member| member.send(message))
    }

    /// Sets how much a worker may hold.
    pub fn set_credit(&self, session: SessionId, credit: usize) {
        if let Some(member) = self.lock().members.get_mut(&session) {
            member.credit = credit;
        }
        self.claim.wake();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A message for a worker.
pub fn response(message: Message) -> WorkResponse {
    WorkResponse { message: Some(message) }
}

#[cfg(test)]
mod tests;
