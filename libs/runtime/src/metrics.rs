//! Numbers that this process exports, where telemetry goes anywhere.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use opentelemetry::{KeyValue, global};

/// Labels of one metric that are told apart.
const LABELS: usize = 100;
/// What the labels beyond are told as.
const OTHER: &str = "(other)";

static EXPORTED: AtomicBool = AtomicBool::new(false);

/// Notes that this process exports metrics.
pub(crate) fn are_exported() {
    EXPORTED.store(true, Ordering::Relaxed);
}

/// A gauge: a level for each label, as it was set last. Clones are one.
#[derive(Clone, Debug, Default)]
pub struct Levels {
    levels: Arc<Mutex<BTreeMap<String, u64>>>,
}

impl Levels {
    /// A gauge whose label is called `label`. `None`: nobody is sent metrics, so nobody need count.
    #[must_use]
    pub fn exported(
        name: &'static str,
        unit: &'static str,
        description: &'static str,
        label: &'static str,
    ) -> Option<Self> {
        if !EXPORTED.load(Ordering::Relaxed) {
            return None;
        }
        let levels = Self::default();
        let observed = levels.clone();
        let _registered = global::meter("tasker")
            .u64_observable_gauge(name)
            .with_unit(unit)
            .with_description(description)
            .with_callback(move |observer| {
                for (value, level) in observed.lock().iter() {
                    observer.observe(*level, &[KeyValue::new(label, value.clone())]);
                }
            })
            .build();
        Some(levels)
    }

    /// Sets all levels. A label that is missing, and was there before, is at 0: so a reader sees it fall. Of
    /// more labels than a metric should have, the largest are told apart.
    pub fn set(&self, levels: impl IntoIterator<Item = (String, u64)>) {
        let mut levels: Vec<(String, u64)> = levels.into_iter().collect();
        levels.sort_by(|(one, few), (other, many)| many.cmp(few).then_with(|| one.cmp(other)));
        let rest: u64 = levels.iter().skip(LABELS).map(|(_, level)| level).sum();
        levels.truncate(LABELS);
        levels.extend((rest > 0).then(|| (OTHER.to_owned(), rest)));
        let mut before = self.lock();
        before.values_mut().for_each(|level| *level = 0);
        before.extend(levels);
        // What is at 0 has been told, and makes room.
        while before.len() > 2 * LABELS {
            let Some(idle) = before.iter().find(|(_, level)| **level == 0) else { break };
            let idle = idle.0.clone();
            before.remove(&idle);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        self.levels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(levels: &Levels) -> Vec<(String, u64)> {
        levels.lock().iter().map(|(label, level)| (label.clone(), *level)).collect()
    }

    #[test]
    fn what_is_not_there_any_more_falls_to_zero() {
        let levels = Levels::default();
        levels.set([("a".to_owned(), 3), ("b".to_owned(), 1)]);
        levels.set([("b".to_owned(), 2)]);
        assert_eq!(of(&levels), [("a".to_owned(), 0), ("b".to_owned(), 2)]);
    }

    #[test]
    fn labels_are_bounded_and_nothing_is_left_out_of_the_sum() {
        let levels = Levels::default();
        for round in 0..5 {
            levels.set((0..1_000).map(|n| (format!("{round}/{n}"), n + 1)));
            let now = of(&levels);
            assert!(now.len() <= 2 * LABELS, "{}", now.len());
            assert_eq!(now.iter().map(|(_, level)| level).sum::<u64>(), 1_000 * 1_001 / 2);
        }
    }
}
