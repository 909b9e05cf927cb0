//! Places at workers: reserved for steps that are about to begin, or that a result may unlock.

use std::{collections::HashSet, sync::Arc, time::Duration};

use tasker_domain::{Ageing, Ordinal, Rank, SessionId, TaskId, template::Kind};
use tasker_store::Held;
use uuid::Uuid;

use super::{Inner, Roster, Seat};
use crate::at_hand::TaskAtHand;

/// How much older the task of a waiting step may be and still not take the place of one that goes on. Which of two such
/// tasks has the smaller id depends on the clocks of replicas, and which begins first on when births were gathered. If
/// the younger gave way it would wait in turn, and hold up all that are younger still, each of them by the longer way
/// through the queue.
pub(super) const ABOUT_AS_OLD: Duration = Duration::from_secs(1);

/// A place for a step that a result may unlock.
pub struct Kept {
    pub ordinal: Ordinal,
    pub seat: Seat,
    /// The delivery that is there now, if its result frees the place.
    pub freed_by: Option<Uuid>,
    pub task: Arc<TaskAtHand>,
}

impl Roster {
    /// Reserves a place for a fresh step, at a worker for which none waits that goes before it.
    pub fn reserve_fresh(&self, namespace: &str, callable: &str, rank: Rank) -> Option<Seat> {
        let mut inner = self.lock();
        let place = inner.place_for(self.ageing, namespace, callable, rank)?;
        inner.reserve_at(place)
    }

    /// Keeps places for the steps that a result may unlock, but for those in `wanted`, at workers for which
    /// none waits that goes before them. The result's own place, free once it is answered, is for a
    /// step that waits for this result alone; whether others are unlocked is not known. It is kept even where what
    /// waits goes before, if that has the same priority and its task is [about as old](ABOUT_AS_OLD).
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
            if !next.limits.is_empty() || wanted.contains(&(held.task_id, *ordinal)) {
                continue;
            }
            let awaited = inner.awaited_before(self.ageing, rank.earlier(ABOUT_AS_OLD));
            let passed_on = next.dependencies.len() == 1 && !is_among(&awaited, session);
            let freed =
                if passed_on { inner.pass_on(session, own, namespace, callable) } else { None };
            let seat = freed.or_else(|| {
                let place = inner.place_for(self.ageing, namespace, callable, rank)?;
                inner.reserve_at(place)
            });
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
}

impl Inner {
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
        let roomiest = self.roomiest(namespace, callable, |_| true)?;
        self.reserve_at(roomiest)
    }

    /// Where a step of this rank may begin: a place belongs to its worker, so to whatever goes first of all
    /// that the worker can run, of whichever handler and namespace.
    fn place_for(
        &self,
        ageing: Ageing,
        namespace: &str,
        callable: &str,
        rank: Rank,
    ) -> Option<SessionId> {
        let awaited = self.awaited_before(ageing, rank);
        self.roomiest(namespace, callable, |worker| !is_among(&awaited, worker))
    }

    /// Of the workers that can run it, have room and are suitable: the one with the most.
    fn roomiest(
        &self,
        namespace: &str,
        callable: &str,
        suitable: impl Fn(SessionId) -> bool,
    ) -> Option<SessionId> {
        let able = self.able.get(namespace)?.get(callable)?;
        let room = |worker: &SessionId| self.members[worker].free();
        let with_room = able.iter().filter(|worker| room(worker) > 0 && suitable(**worker));
        with_room.max_by_key(|worker| room(worker)).copied()
    }
}

fn is_among(workers: &[&[SessionId]], worker: SessionId) -> bool {
    workers.iter().any(|workers| workers.contains(&worker))
}
