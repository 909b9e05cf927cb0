//! What limits may hold, as far as is known here: noted until somebody has looked.

use std::collections::{BTreeMap, BTreeSet};

use tasker_domain::{Ordinal, Rank};

use super::{Holding, Inner, Roster};

impl Roster {
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
        inner.any_ended();
        let some = !inner.ended.is_empty();
        drop(inner);
        if some {
            self.claim.wake();
        }
    }

    /// Whether limits may hold steps that this replica was not told of since the last time it asked.
    pub fn take_unsure(&self) -> bool {
        std::mem::take(&mut self.lock().unsure)
    }

    /// Of these callables, those of which limits may hold steps; each with the number of its note.
    pub fn limited(&self, namespace: &str, callables: &[(String, u64)]) -> Vec<(String, u64)> {
        let inner = self.lock();
        let Some(limited) = inner.limited.get(namespace) else { return Vec::new() };
        let noted = callables.iter().filter(|(callable, _)| limited.contains(callable));
        noted.cloned().collect()
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
}

impl Inner {
    /// A delivery is no longer at its worker.
    pub(super) fn ended(&mut self, holding: &Holding) {
        let Some(task) = &holding.task else { return self.any_ended() };
        match task.template.step(Ordinal(holding.held.ordinal)) {
            Some(step) if step.limits.is_empty() => {}
            Some(step) => self.limited_ended(&step.queue),
            // The worker of a batch.
            None => self.any_ended(),
        }
    }

    /// A step has ended of which it is not known whether it had limits.
    fn any_ended(&mut self) {
        let namespaces: Vec<String> = self.limited.keys().cloned().collect();
        namespaces.iter().for_each(|namespace| self.limited_ended(namespace));
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
}
