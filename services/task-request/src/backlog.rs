//! No more tasks than can be worked off before long. A namespace in which too many steps wait for workers takes
//! no new ones. Where it is not the workers who are late, but the mesh, births give way to the steps that wait.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tasker_api::status;
use tasker_domain::ErrorKind;
use tasker_stage::Database;
use tasker_store::Backlog as Waiting;
use tonic::Status;

/// How old what is known may be. Between two looks a namespace may take a second's worth more.
const FRESH: Duration = Duration::from_secs(1);
/// A look that has not come back for so long, more than a statement may take, is given up and made again.
const LOST: Duration = Duration::from_secs(60);
/// Namespaces that something is known of.
const NAMESPACES: usize = 10_000;
/// Births give way once so many steps wait, about a second of what two cores work off.
const AMPLE: i64 = 5_000;
/// They do until fewer than these wait.
const EASED: i64 = 1_000;
/// Steps a second that are worked off where workers are there and quick enough to matter.
const BUSY: f64 = 500.0;
/// And so much of what comes.
const PART: f64 = 0.1;
/// Looks that are further apart are not compared.
const COMPARABLE: Duration = Duration::from_secs(3);
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

type Known = HashMap<String, Namespace>;

/// The last look into a namespace.
#[derive(Debug, Clone, Copy, Default)]
struct Namespace {
    /// When the last one began.
    looked_at: Option<Instant>,
    is_looking: bool,
    /// What the last one has found, and when.
    found: Option<(Instant, Waiting)>,
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
    pub fn admit(&self, namespace: &str, requests: usize) -> Result<(), Status> {
        let mut known = self.known();
        let now = Instant::now();
        if known.len() >= NAMESPACES && !known.contains_key(namespace) {
            known.retain(|_, seen| !seen.is_old(now));
        }
        let seen = known.entry(namespace.to_owned()).or_default();
        if seen.is_old(now) {
            // Until that look is done, the last one counts.
            (seen.is_looking, seen.looked_at) = (true, Some(now));
            let (backlog, namespace) = (self.clone(), namespace.to_owned());
            tokio::spawn(async move { backlog.look(namespace).await });
        }
        self.bounds.check(*seen, requests).map_err(|why| {
            let advice = "add workers or cores, or try again later";
            status(ErrorKind::Overloaded, format!("{why} in {namespace}: {advice}"))
        })
    }

    /// How long the next births give way after some that took so long: as the latest namespace asks for.
    pub fn way_after(&self, took: Duration) -> Duration {
        let now = Instant::now();
        self.known().values().map(|seen| seen.way_after(took, now)).max().unwrap_or_default()
    }

    async fn look(&self, namespace: String) {
        let limit = i64::from(self.bounds.steps);
        let waiting = self.database.store.waits_for_workers(&namespace, limit).await;
        let mut known = self.known();
        let Some(seen) = known.get_mut(&namespace) else { return };
        seen.is_looking = false;
        match waiting {
            Ok(waiting) => {
                if total(waiting) >= limit && !seen.is_full(limit) {
                    tracing::warn!(namespace, "{namespace} takes no tasks: {waiting:?}");
                }
                seen.found(waiting, Instant::now());
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
        if seen.is_full(self.steps.into()) {
            return Err(format!(
                "{} steps or more, as many as may (task_request.max_backlog), wait for workers",
                self.steps
            ));
        }
        if seen.is_late && requests >= self.requests {
            return Err(format!(
                "more tasks come than are worked off: {} steps wait",
                seen.found.map_or(0, |(_, waiting)| moving(waiting))
            ));
        }
        Ok(())
    }
}

impl Namespace {
    fn is_old(&self, now: Instant) -> bool {
        let age = if self.is_looking { LOST } else { FRESH };
        self.looked_at.is_none_or(|at| now.duration_since(at) >= age)
    }

    fn is_full(&self, limit: i64) -> bool {
        self.found.is_some_and(|(_, waiting)| total(waiting) >= limit)
    }

    /// How long births give way to this namespace's steps.
    fn way_after(&self, took: Duration, now: Instant) -> Duration {
        match self.found {
            // Until the look after the next, in case that takes its time.
            Some((at, waiting)) if self.is_late && now.duration_since(at) < 2 * FRESH => {
                let share = moving(waiting) as f64 / STEPS_A_SHARE;
                took.mul_f64(share.min(MAX_SHARE)).min(LONGEST)
            }
            _ => Duration::ZERO,
        }
    }

    /// Notes what waits now.
    fn found(&mut self, waiting: Waiting, now: Instant) {
        let some = if self.is_late { EASED } else { AMPLE };
        self.is_late = moving(waiting) >= some
            && self.found.is_some_and(|(at, before)| {
                let time = now.duration_since(at);
                time < COMPARABLE && is_busy(before, waiting, time)
            });
        self.found = Some((now, waiting));
    }
}

/// Whether workers have taken so much from a queue in a time that they are not who is late.
fn is_busy(before: Waiting, now: Waiting, time: Duration) -> bool {
    if before.last == 0 || now.last == 0 {
        // An empty queue has no number to compare.
        return false;
    }
    // Whoever has sent it.
    let came = (now.last - before.last).max(0);
    let left = (before.queued + came - now.queued) as f64;
    left >= BUSY * time.as_secs_f64() && left >= PART * came as f64
}

/// Steps that only workers, or the mesh, keep waiting.
fn moving(waiting: Waiting) -> i64 {
    waiting.ready + waiting.queued
}

fn total(waiting: Waiting) -> i64 {
    moving(waiting) + waiting.held
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { steps: 100_000, requests: 125 };

    /// A namespace into whose queue steps came, and in which then so many waited: a look each second.
    fn seen(looks: impl IntoIterator<Item = (i64, i64)>) -> Namespace {
        let mut now = Instant::now();
        let (mut seen, mut last) = (Namespace::default(), 1);
        for (came, queued) in looks {
            now += FRESH;
            last += came;
            seen.found(Waiting { queued, last, ..Waiting::default() }, now);
        }
        seen
    }

    #[test]
    fn one_look_is_made_at_a_time_and_another_if_it_does_not_come_back() {
        let now = Instant::now();
        assert!(Namespace::default().is_old(now), "nobody has looked");
        let seen = Namespace { looked_at: Some(now), ..Namespace::default() };
        assert!(!seen.is_old(now + FRESH / 2));
        assert!(seen.is_old(now + FRESH));
        let looking = Namespace { is_looking: true, ..seen };
        assert!(!looking.is_old(now + FRESH));
        assert!(looking.is_old(now + LOST));
    }

    #[test]
    fn where_little_waits_births_give_no_way() {
        assert!(!seen([(3_000, 1_000), (3_000, 3_000), (3_000, 4_999)]).is_late);
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
        assert!(BOUNDS.check(seen, 124).is_ok());
        let why = BOUNDS.check(seen, 125).unwrap_err();
        assert_eq!(why, "more tasks come than are worked off: 5500 steps wait");
    }

    #[test]
    fn births_give_way_the_longer_the_more_waits() {
        let took = Duration::from_millis(10);
        let after = |waits: i64, time: Duration| {
            let seen = seen([(3_000, waits), (3_000, waits)]);
            seen.way_after(took, seen.found.unwrap().0 + time)
        };
        assert_eq!(after(4_000, Duration::ZERO), Duration::ZERO);
        assert_eq!(after(6_000, Duration::ZERO), 6 * took);
        assert_eq!(after(60_000, Duration::ZERO), 10 * took);
        assert_eq!(after(6_000, 2 * FRESH), Duration::ZERO, "nobody has looked for long");
        let late = seen([(3_000, 60_000), (3_000, 60_000)]);
        assert_eq!(late.way_after(Duration::from_secs(2), late.found.unwrap().0), LONGEST);
    }

    #[test]
    fn where_workers_are_late_or_away_tasks_come_up_to_the_bound() {
        let away = seen([(3_000, 50_000), (3_000, 53_000), (3_000, 56_000)]);
        let slow = seen([(1, 6_000), (1, 5_600)]);
        let late = seen([(9_000, 50_000), (9_000, 58_200)]);
        for seen in [away, slow, late] {
            assert!(!seen.is_late);
            assert!(BOUNDS.check(seen, 5_000).is_ok());
        }
        let why = BOUNDS.check(seen([(0, 100_000)]), 0).unwrap_err();
        assert!(why.contains("task_request.max_backlog"), "{why}");
    }

    #[test]
    fn what_is_held_counts_for_the_bound_alone() {
        let mut seen = seen([(3_000, 1_000)]);
        let now = seen.found.unwrap().0 + FRESH;
        let waiting = Waiting { queued: 1_000, last: 6_001, held: 6_000, ready: 0 };
        seen.found(waiting, now);
        assert!(!seen.is_late);
        seen.found(Waiting { held: 99_000, ..waiting }, now + FRESH);
        assert!(BOUNDS.check(seen, 0).is_err());
    }

    #[test]
    fn one_look_does_not_tell_who_is_late_nor_do_two_that_are_far_apart() {
        let mut seen = seen([(0, 60_000)]);
        assert!(!seen.is_late);
        let (at, waiting) = seen.found.unwrap();
        seen.found(Waiting { queued: 6_000, ..waiting }, at + COMPARABLE);
        assert!(!seen.is_late);
    }
}
