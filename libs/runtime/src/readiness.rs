//! Whether a service can do its work now, as named conditions that must all be met.

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::{Notify, watch};
use tracing::{info, warn};

/// The conditions of one service; ready if all are met. Clones are one.
#[derive(Clone, Debug)]
pub struct Readiness {
    service: &'static str,
    conditions: Arc<watch::Sender<Conditions>>,
}

type Conditions = BTreeMap<&'static str, State>;

#[derive(Debug)]
struct State {
    /// Why it is not met, if it is not.
    why: Option<String>,
    doubt: Arc<Notify>,
}

impl Default for State {
    fn default() -> Self {
        Self { why: Some("not checked yet".to_owned()), doubt: Arc::default() }
    }
}

impl Readiness {
    /// Without conditions, so ready.
    #[must_use]
    pub fn new(service: &'static str) -> Self {
        Self { service, conditions: Arc::default() }
    }

    /// Adds a condition, not met until someone says so; or finds it, if it was added before.
    #[must_use]
    pub fn condition(&self, name: &'static str) -> Condition {
        let mut doubt = None;
        self.conditions.send_if_modified(|conditions| {
            let before = conditions.len();
            doubt = Some(conditions.entry(name).or_default().doubt.clone());
            conditions.len() > before
        });
        let doubt = doubt.expect("send_if_modified calls what it is given");
        Condition { name, readiness: self.clone(), doubt }
    }

    /// Whether all conditions are met.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.conditions.borrow().values().all(|state| state.why.is_none())
    }

    /// The conditions that are not met, each with the reason.
    #[must_use]
    pub fn reasons(&self) -> BTreeMap<&'static str, String> {
        let conditions = self.conditions.borrow();
        conditions.iter().filter_map(|(name, state)| Some((*name, state.why.clone()?))).collect()
    }

    /// Wakes whenever a condition changes. [`is_ready`](Self::is_ready) then says what it came to.
    #[must_use]
    pub fn watch(&self) -> Changes {
        Changes(self.conditions.subscribe())
    }

    fn set(&self, name: &'static str, why: Option<String>) {
        let mut before = None;
        self.conditions.send_if_modified(|conditions| {
            let state = conditions.entry(name).or_default();
            before = std::mem::replace(&mut state.why, why.clone());
            before != why
        });
        match (before, why) {
            (None, Some(why)) => {
                warn!(condition = name, "{} is not ready: {name}: {why}", self.service);
            }
            (Some(_), None) => info!(condition = name, "{}: {name} is ready", self.service),
            _ => {}
        }
    }
}

/// See [`Readiness::watch`].
#[derive(Debug)]
pub struct Changes(watch::Receiver<Conditions>);

impl Changes {
    /// Returns once something has changed; never, once the readiness is gone.
    pub async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// One condition of a [`Readiness`]. Clones are one.
#[derive(Clone, Debug)]
pub struct Condition {
    name: &'static str,
    readiness: Readiness,
    doubt: Arc<Notify>,
}

impl Condition {
    /// The condition is met.
    pub fn ready(&self) {
        self.readiness.set(self.name, None);
    }

    /// The condition is not met, for this reason.
    pub fn not_ready(&self, reason: impl Into<String>) {
        self.readiness.set(self.name, Some(reason.into()));
    }

    /// Something failed that the condition may explain: whoever checks it checks at once.
    pub fn doubt(&self) {
        self.doubt.notify_one();
    }

    /// Returns once somebody doubts.
    pub(crate) async fn doubted(&self) {
        self.doubt.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_service_is_ready_when_every_condition_is_met() {
        let readiness = Readiness::new("test");
        assert!(readiness.is_ready());
        let (one, two) = (readiness.condition("one"), readiness.condition("two"));
        assert!(!readiness.is_ready());
        one.ready();
        assert_eq!(readiness.reasons(), BTreeMap::from([("two", "not checked yet".to_owned())]));
        let mut changes = readiness.watch();
        two.ready();
        changes.changed().await;
        assert!(readiness.is_ready());
        one.not_ready("broken");
        changes.changed().await;
        assert_eq!(readiness.reasons()["one"], "broken");
    }

    #[tokio::test]
    async fn a_condition_that_is_asked_for_again_is_the_same() {
        let readiness = Readiness::new("test");
        let one = readiness.condition("one");
        one.ready();
        readiness.condition("one").doubt();
        assert!(readiness.is_ready());
        one.doubted().await;
    }
}
