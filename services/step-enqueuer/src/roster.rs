//! The workers that are connected to this replica: what they can run, and how much more they may get.

mod member;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tasker_api::v1::{Cancel, Deliver, Delivery, WorkResponse, work_response::Message};
use tasker_domain::{Ageing, Ordinal, Rank, SessionId, TaskId, template::Kind};
use tasker_stack::sweep::Wake;
use tasker_store::Held;
use uuid::Uuid;

use crate::at_hand::TaskAtHand;
pub use member::{Holding, Member, Seat};

/// Deliveries in one message: as many as fit this many bytes, at least one.
const MESSAGE_BYTES: usize = 1 << 20;

/// The members, behind one short lock. Clones are one.
#[derive(Clone, Default)]
pub struct Roster {
    inner: Arc<Mutex<Inner>>,
    /// Called when a worker may get more, and when more waits.
    pub claim: Wake,
    /// Called when a delivery is held, so that its deadlines are watched.
    pub held: Wake,
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
    /// What may wait in the worker queues, and the first of its ranks: others do not pass it by.
    waiting: HashMap<String, HashMap<String, Note>>,
    /// Callables of which limits hold steps, as far as is known here.
    limited: HashMap<String, HashSet<String>>,
    /// Namespaces in which steps with limits have ended here: other replicas are to be told.
    ended: BTreeSet<String>,
    /// How many notes there have been.
    notes: u64,
}

/// That something may wait for a callable.
#[derive(Clone, Copy)]
struct Note {
    first: Rank,
    /// When it had that rank: it has waited since.
    at: Instant,
    /// Which note it is: a look that began before it has not seen what it is about.
    number: u64,
}

/// A place for a step that a result may unlock.
pub struct Kept {
    pub ordinal: Ordinal,
    pub seat: Seat,
    /// The delivery that is there now, if its result frees the place.
    pub freed_by: Option<Uuid>,
    pub task: Arc<TaskAtHand>,
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

    /// Reserves a place for a fresh step, unless one that goes before it waits for such a place.
    pub fn reserve_fresh(&self, namespace: &str, callable: &str, rank: Rank) -> Option<Seat> {
        let mut inner = self.lock();
        if inner.waits_before(self.ageing, namespace, callable, rank) {
            None
        } else {
            inner.reserve(namespace, callable)
        }
    }

    /// Keeps places for the steps that a result may unlock, but for those in `wanted`, and unless steps
    /// that go before them wait for such places. The result's own place, free once it is answered, is for a
    /// step that waits for this result alone; whether others are unlocked is not known.
    pub fn reserve_next(
        &self,
        session: SessionId,
        held: &Held,
        wanted: &mut HashSet<(Uuid, Ordinal)>,
    ) -> Vec<Kept> {
        let mut inner = self.lock();
        let holding = inner.members.get(&session).and_then(|it| it.holding.get(&held.delivery_id));
        let Some(task) = holding.and_then(|holding| holding.task.clone()) else {
            return Vec::new();
        };
        let template = task.template.clone();
        let Some(step) = template.step(Ordinal(held.ordinal)) else { return Vec::new() };
        let rank = Rank::of(task.priority, TaskId(held.task_id));
        let own = held.delivery_id;
        let mut kept = Vec::new();
        for ordinal in &step.dependants {
            let Some(next) = template.step(*ordinal) else { continue };
            let (namespace, callable) = (&next.queue, &next.callable);
            if next.kind == Kind::BatchWorker {
                // Its runs have places of their own, which are not known yet.
                continue;
            }
            // What has limits is judged by them before it begins.
            if !next.limits.is_empty()
                || wanted.contains(&(held.task_id, *ordinal))
                || inner.waits_before(self.ageing, namespace, callable, rank)
            {
                continue;
            }
            let alone = next.dependencies.len() == 1;
            let freed = (alone.then(|| inner.pass_on(session, own, namespace, callable))).flatten();
            let seat = freed.or_else(|| inner.reserve(namespace, callable));
            if let Some(seat) = seat {
                wanted.insert((held.task_id, *ordinal));
                let freed_by = freed.map(|_| own);
                kept.push(Kept { ordinal: *ordinal, seat, freed_by, task: task.clone() });
            }
        }
        kept
    }

    /// Reserves a place for a step that waits.
    pub fn reserve(&self, namespace: &str, callable: &str) -> Option<Seat> {
        self.lock().reserve(namespace, callable)
    }

    /// Gives a reserved place back.
    pub fn unreserve(&self, seat: Seat) {
        if let Some(member) = self.lock().members.get_mut(&seat.place) {
            member.reserved -= 1;
        }
        self.claim.wake();
    }

    /// Fills reserved places. Returns what belongs to workers that have left meanwhile.
    pub fn hold(&self, started: Vec<(Seat, Holding)>) -> Vec<(SessionId, Held)> {
        let mut inner = self.lock();
        let mut orphaned = Vec::new();
        for (seat, holding) in started {
            match inner.members.get_mut(&seat.place) {
                Some(member) => {
                    member.reserved -= 1;
                    member.holding.insert(holding.held.delivery_id, holding);
                }
                None => orphaned.push((seat.session, holding.held)),
            }
        }
        drop(inner);
        self.held.wake();
        orphaned
    }

    /// Sends deliveries to the worker that holds them. What cannot be sent is not acknowledged, and so comes back.
    pub fn deliver(&self, seat: Seat, deliveries: Vec<Delivery>) {
        let inner = self.lock();
        let Some(member) = inner.members.get(&seat.place) else { return };
        let mut message = Vec::new();
        let mut bytes = 0;
        for delivery in deliveries {
            let size = size(&delivery);
            if bytes + size > MESSAGE_BYTES && !message.is_empty() {
                member.send(Message::Deliver(Deliver { deliveries: std::mem::take(&mut message) }));
                bytes = 0;
            }
            bytes += size;
            message.push(delivery);
        }
        member.send(Message::Deliver(Deliver { deliveries: message }));
    }

    /// Sends something to a worker. Says whether it could be sent.
    pub fn send(&self, session: SessionId, message: Message) -> bool {
        self.lock().members.get(&session).is_some_and(|member| member.send(message))
    }

    /// Notes what a worker has acknowledged.
    pub fn acknowledge(&self, session: SessionId, deliveries: impl IntoIterator<Item = Uuid>) {
        let mut inner = self.lock();
        let Some(member) = inner.members.get_mut(&session) else { return };
        for delivery in deliveries {
            if let Some(holding) = member.holding.get_mut(&delivery) {
                holding.acknowledged = true;
            }
        }
    }

    /// Takes off a worker what it is done with, or has lost.
    pub fn release(&self, session: SessionId, deliveries: impl IntoIterator<Item = Uuid>) {
        let mut inner = self.lock();
        if let Some(member) = inner.members.get_mut(&session) {
            let gone: Vec<Holding> =
                deliveries.into_iter().filter_map(|delivery| member.let_go(delivery)).collect();
            gone.iter().filter_map(Holding::limited_in).for_each(|it| inner.limited_ended(it));
        }
        drop(inner);
        self.claim.wake();
    }

    /// Leaves a worker what it had a result for that cannot be taken.
    pub fn keep(&self, session: SessionId, delivery: Uuid) {
        if let Some(member) = self.lock().members.get_mut(&session) {
            member.keep(delivery);
        }
    }

    /// Takes off a worker what it has lost, and tells it to stop.
    pub fn cancel(&self, lost: impl IntoIterator<Item = Uuid>, reason: &str) {
        let mut inner = self.lock();
        let mut limited: Vec<String> = Vec::new();
        for delivery in lost {
            for member in inner.members.values_mut() {
                if let Some(holding) = member.let_go(delivery) {
                    limited.extend(holding.limited_in().map(str::to_owned));
                    let delivery_tokens = vec![holding.token()];
                    member.send(Message::Cancel(Cancel {
                        delivery_tokens,
                        reason: reason.to_owned(),
                    }));
                }
            }
        }
        limited.iter().for_each(|namespace| inner.limited_ended(namespace));
        drop(inner);
        self.claim.wake();
    }

    /// Sets how much a worker may hold.
    pub fn set_credit(&self, session: SessionId, credit: usize) {
        if let Some(member) = self.lock().members.get_mut(&session) {
            member.credit = credit;
        }
        self.claim.wake();
    }

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

    /// Notes that steps may wait anywhere: an announcement may have got lost.
    pub fn wait_everywhere(&self) {
        let namespaces = self.namespaces();
        namespaces.iter().for_each(|namespace| self.wait_in(namespace, Rank::FIRST));
    }

    /// Notes that limits may let steps begin that they hold for these callables, and for all that are known
    /// in the namespace.
    pub fn may_begin(&self, namespace: &str, callables: impl IntoIterator<Item = String>) {
        let mut inner = self.lock();
        inner.limited.entry(namespace.to_owned()).or_default().extend(callables);
        inner.note_limited(namespace);
        drop(inner);
        self.claim.wake();
    }

    /// Notes that limits may let steps begin anywhere: a rate's time has passed.
    pub fn may_begin_anywhere(&self) {
        let mut inner = self.lock();
        let namespaces: Vec<String> = inner.limited.keys().cloned().collect();
        namespaces.iter().for_each(|namespace| inner.note_limited(namespace));
        drop(inner);
        self.claim.wake();
    }

    /// Notes that steps have ended of which it is not known here whether they had limits.
    pub fn may_have_ended(&self) {
        let mut inner = self.lock();
        let namespaces: Vec<String> = inner.limited.keys().cloned().collect();
        namespaces.iter().for_each(|namespace| inner.limited_ended(namespace));
        drop(inner);
        if !namespaces.is_empty() {
            self.claim.wake();
        }
    }

    /// Of these callables, those of which limits may hold steps.
    pub fn limited(&self, namespace: &str, callables: &[(String, u64)]) -> Vec<String> {
        let inner = self.lock();
        let Some(limited) = inner.limited.get(namespace) else { return Vec::new() };
        let callables = callables.iter().map(|(callable, _)| callable);
        callables.filter(|callable| limited.contains(*callable)).cloned().collect()
    }

    /// Notes that a look has found no steps of these callables that limits hold. Where something was noted
    /// since the look began, there may be some.
    pub fn none_limited(&self, namespace: &str, callables: &[(String, u64)], none: &[String]) {
        let mut inner = self.lock();
        let Inner { limited, waiting, .. } = &mut *inner;
        let Some(limited) = limited.get_mut(namespace) else { return };
        for (callable, number) in callables.iter().filter(|(callable, _)| none.contains(callable)) {
            let note = waiting.get(namespace).and_then(|waiting| waiting.get(callable));
            if note.is_none_or(|note| note.number == *number) {
                limited.remove(callable);
            }
        }
    }

    /// Where steps with limits have ended here since the last time, and of which callables limits hold steps
    /// there.
    pub fn take_ended(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut inner = self.lock();
        let ended = std::mem::take(&mut inner.ended);
        let known = |namespace: &String| -> BTreeSet<String> {
            inner.limited.get(namespace).into_iter().flatten().cloned().collect()
        };
        ended.into_iter().map(|namespace| (namespace.clone(), known(&namespace))).collect()
    }

    /// The rank of a step that has waited so long.
    pub fn aged(&self, priority: i16, task: Uuid, waited: Duration) -> Rank {
        self.ageing.rank(Rank::of(priority, TaskId(task)), waited)
    }

    /// What may be claimed now, from each namespace. It waits until somebody has [looked](Self::looked):
    /// nothing passes it by meanwhile.
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
    }

    /// What has not been acknowledged in time, and what has taken too long.
    pub fn overdue(&self, now: Instant) -> Overdue {
        let inner = self.lock();
        let mut overdue = Overdue::default();
        for (session, member) in &inner.members {
            for holding in member.holding.values() {
                if holding.times_out <= now {
                    overdue.timed_out.push((*session, holding.clone()));
                } else if !holding.acknowledged
                    && member.acknowledges
                    && holding.unacknowledged_since(now)
                {
                    overdue.unacknowledged.push((*session, holding.clone()));
                }
            }
            overdue.holding |= !member.holding.is_empty();
        }
        overdue
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a look at the deadlines has found.
#[derive(Default)]
pub struct Overdue {
    pub unacknowledged: Vec<(SessionId, Holding)>,
    pub timed_out: Vec<(SessionId, Holding)>,
    /// Whether anything is held at all.
    pub holding: bool,
}

impl Inner {
    /// Whether a step that goes before this rank may wait for a place.
    fn waits_before(&self, ageing: Ageing, namespace: &str, callable: &str, rank: Rank) -> bool {
        let first = self.waiting.get(namespace).and_then(|waiting| waiting.get(callable));
        first.is_some_and(|note| ageing.rank(note.first, note.at.elapsed()) < rank)
    }

    fn note(&mut self, namespace: &str, callable: &str, rank: Rank) {
        self.notes += 1;
        let number = self.notes;
        let waiting = self.waiting.entry(namespace.to_owned()).or_default();
        let fresh = Note { first: rank, at: Instant::now(), number };
        let note = waiting.entry(callable.to_owned()).or_insert(fresh);
        note.number = number;
        note.go_first(rank);
    }

    /// A step with limits has ended: others may begin, here and elsewhere.
    fn limited_ended(&mut self, namespace: &str) {
        self.ended.insert(namespace.to_owned());
        self.note_limited(namespace);
    }

    /// Notes that whatever limits hold in a namespace may go.
    fn note_limited(&mut self, namespace: &str) {
        let Some(able) = self.able.get(namespace) else { return };
        let limited = self.limited.get(namespace).into_iter().flatten();
        let callables: Vec<String> =
            limited.filter(|callable| able.contains_key(*callable)).cloned().collect();
        for callable in callables {
            self.note(namespace, &callable, Rank::FIRST);
        }
    }

    /// Promises the place of a delivery to another step, if the same worker can run it.
    fn pass_on(
        &mut self,
        place: SessionId,
        delivery: Uuid,
        namespace: &str,
        callable: &str,
    ) -> Option<Seat> {
        if !self.able.get(namespace)?.get(callable)?.contains(&place) {
            return None;
        }
        let member = self.members.get_mut(&place)?;
        let session = member.session;
        member.pass_on(delivery).then_some(Seat { place, session })
    }

    fn reserve_at(&mut self, place: SessionId) -> Option<Seat> {
        let member = self.members.get_mut(&place)?;
        member.reserved += 1;
        Some(Seat { place, session: member.session })
    }

    /// The worker with the most room gets it.
    fn reserve(&mut self, namespace: &str, callable: &str) -> Option<Seat> {
        let able = self.able.get(namespace)?.get(callable)?;
        let roomiest = *able.iter().max_by_key(|session| self.members[session].free())?;
        if self.members[&roomiest].free() == 0 { None } else { self.reserve_at(roomiest) }
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

/// About how many bytes a delivery takes.
fn size(delivery: &Delivery) -> usize {
    let of = |payload: &tasker_api::v1::Payload| payload.data.len() + 200;
    delivery.context.as_ref().map_or(0, of)
        + delivery.dependency_results.values().map(of).sum::<usize>()
        + delivery.checkpoint.as_ref().map_or(0, prost::Message::encoded_len)
        + 600
}

/// A message for a worker.
pub fn response(message: Message) -> WorkResponse {
    WorkResponse { message: Some(message) }
}

#[cfg(test)]
mod tests;
