//! No more tasks than can be worked off before long. A namespace in which too many steps wait for workers takes
//! no new ones. Where it is not the workers who are late, but the mesh, births give way to the steps that wait.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tasker_api::status;
use tasker_domain::{ErrorKind, Template};
use tasker_stage::Database;
use tonic::Status;

/// How old what is known may be. Between two looks a namespace may take a second's worth more.
const FRESH: Duration = Duration::from_secs(1);
/// Namespaces that something is known of.
const NAMESPACES: usize = 10_000;
/// Births give way once so many steps wait, about a second of what two cores work off.
const AMPLE: i64 = 5_000;
/// They do until fewer than these wait.
const EASED: i64 = 1_000;
/// A tenth of what comes, or more, is worked off where workers are there and quick enough to matter.
const WORKED_OFF: i64 = 10;
/// For each of so many steps that wait, births leave their own time once more to others.
const STEPS_A_SHARE: f64 = 1_000.0;
/// The most of that.
const MAX_SHARE: f64 = 10.0;
/// The longest that births give way at once.
const LONGEST: Duration = Duration::from_millis(500);

/// What waits in each namespace, as far as somebody has asked. Clones are one.
#[derive(Clone)]
pub struct Backlog {
    database: Database,
    bounds: Bounds,
    known: Arc<Mutex<Known>>,
}

/// What may wait.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Steps, in each namespace.
    pub steps: u32,
    /// Requests, while births give way to other steps of their namespace.
    pub requests: usize,
}

#[derive(Default)]
struct Known {
    namespaces: HashMap<String, Namespace>,
    /// Until when births give way, and how many times their own time.
    gives_way: Option<(Instant, f64)>,
}

/// The last look into a namespace, and what has come since.
#[derive(Debug, Clone, Copy)]
struct Namespace {
    looked_at: Instant,
    /// Steps, at most as many as may. None before the first look.
    waiting: Option<i64>,
    /// First steps of tasks that have been let in since.
    came: i64,
    /// Whether the mesh is late with what waits, and not the workers.
    is_late: bool,
}

impl Backlog {
    pub fn new(database: Database, bounds: Bounds) -> Self {
        Self { database, bounds, known: Arc::default() }
    }

    /// Whether a task may be born while so many requests wait to be, by a look that is at most about a second
    /// old. The look is not in the caller's way: who asks first has the next one made.
    ///
    /// # Errors
    /// Too much waits: try again later.
    pub fn admit(&self, template: &Template, requests: usize) -> Result<(), Status> {
        let namespace = &template.namespace;
        let mut known = self.known();
        let now = Instant::now();
        let seen = known.namespaces.get(namespace).copied();
        if seen.is_none_or(|seen| seen.is_old(now)) {
            if known.namespaces.len() >= NAMESPACES {
                known.namespaces.retain(|_, seen| !seen.is_old(now));
            }
            // Until that look is done, the last one counts.
            let seen = Namespace { looked_at: now, ..seen.unwrap_or(Namespace::unseen(now)) };
            known.namespaces.insert(namespace.clone(), seen);
            let (backlog, namespace) = (self.clone(), namespace.clone());
            tokio::spawn(async move { backlog.look(namespace).await });
        }
        let Some(seen) = known.namespaces.get_mut(namespace) else { return Ok(()) };
        self.bounds.check(*seen, requests).map_err(|why| {
            status(ErrorKind::Overloaded, format!("{why} in {namespace}: try again later"))
        })?;
        seen.came += first_steps(template);
        Ok(())
    }

    /// How long the next births give way after some that took so long.
    pub fn way_after(&self, took: Duration) -> Duration {
        match self.known().gives_way {
            Some((until, share)) if Instant::now() < until => took.mul_f64(share).min(LONGEST),
            _ => Duration::ZERO,
        }
    }

    async fn look(&self, namespace: String) {
        let limit = i64::from(self.bounds.steps);
        match self.database.store.waits_for_workers(&namespace, limit).await {
            Ok(waiting) => {
                let mut known = self.known();
                let Some(seen) = known.namespaces.get_mut(&namespace) else { return };
                if waiting >= limit && seen.waiting.is_none_or(|before| before < limit) {
                    tracing::warn!(namespace, "{namespace} takes no tasks: {waiting} steps wait");
                }
                seen.found(waiting);
                if seen.is_late {
                    let share = (waiting as f64 / STEPS_A_SHARE).min(MAX_SHARE);
                    // Until the look after the next, in case that takes its time.
                    known.gives_way = Some((Instant::now() + 2 * FRESH, share));
                }
            }
            // What was known counts until the next look.
            Err(error) => {
                self.database.noticed(&error);
                tracing::warn!(namespace, "the backlog could not be looked at: {error}");
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bounds {
    /// Why nothing more may come, if so.
    fn check(&self, seen: Namespace, requests: usize) -> Result<(), String> {
        if seen.waiting.is_some_and(|waiting| waiting >= i64::from(self.steps)) {
            return Err(format!(
                "{} steps or more, as many as may (task_request.max_backlog), wait for workers",
                self.steps
            ));
        }
        if seen.is_late && requests >= self.requests {
            return Err(format!(
                "more tasks come than are worked off: {} steps wait",
                seen.waiting.unwrap_or_default()
            ));
        }
        Ok(())
    }
}

impl Namespace {
    fn unseen(now: Instant) -> Self {
        Self { looked_at: now, waiting: None, came: 0, is_late: false }
    }

    fn is_old(&self, now: Instant) -> bool {
        now.duration_since(self.looked_at) >= FRESH
    }

    /// Notes how many steps wait now.
    fn found(&mut self, waiting: i64) {
        let left = self.waiting.map_or(0, |before| before + self.came - waiting);
        let some = if self.is_late { EASED } else { AMPLE };
        self.is_late = waiting >= some && left > 0 && left * WORKED_OFF >= self.came;
        self.waiting = Some(waiting);
        self.came = 0;
    }
}

/// How many steps wait for workers once a task of this template is born.
fn first_steps(template: &Template) -> i64 {
    let first = template.steps.iter().filter(|step| step.dependencies.is_empty());
    i64::try_from(first.count()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { steps: 100_000, requests: 500 };

    /// A namespace in which steps came and waited, look by look.
    fn seen(looks: impl IntoIterator<Item = (i64, i64)>) -> Namespace {
        let mut seen = Namespace::unseen(Instant::now());
        for (came, waiting) in looks {
            seen.came += came;
            seen.found(waiting);
        }
        seen
    }

    #[test]
    fn where_little_waits_births_give_no_way() {
        assert!(!seen([(3_000, 1_000), (3_000, 4_999)]).is_late);
    }

    #[test]
    fn births_give_way_until_little_waits() {
        assert!(seen([(0, 6_000), (0, 5_000), (0, 1_000)]).is_late);
        assert!(!seen([(0, 6_000), (0, 5_000), (0, 999)]).is_late);
    }

    #[test]
    fn births_give_way_where_more_comes_than_is_worked_off() {
        let seen = seen([(3_000, 4_000), (3_000, 5_500)]);
        assert!(seen.is_late);
        assert!(BOUNDS.check(seen, 499).is_ok());
        let why = BOUNDS.check(seen, 500).unwrap_err();
        assert_eq!(why, "more tasks come than are worked off: 5500 steps wait");
    }

    #[test]
    fn what_is_already_worked_off_while_nothing_comes_is_given_way_to() {
        assert!(seen([(0, 60_000), (0, 58_000)]).is_late);
    }

    #[test]
    fn where_workers_are_late_or_away_tasks_come_up_to_the_bound() {
        let away = seen([(3_000, 50_000), (3_000, 53_000), (3_000, 56_000)]);
        let late = seen([(3_000, 50_000), (3_000, 52_800)]);
        for seen in [away, late] {
            assert!(!seen.is_late);
            assert!(BOUNDS.check(seen, 5_000).is_ok());
        }
        let why = BOUNDS.check(seen([(0, 100_000)]), 0).unwrap_err();
        assert!(why.contains("task_request.max_backlog"), "{why}");
    }

    #[test]
    fn one_look_does_not_tell_who_is_late() {
        assert!(!seen([(0, 60_000)]).is_late);
    }
}
