//! How long a task may take, and what comes of it if it takes longer.

use std::{collections::BTreeMap, fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use super::Violation;

/// The longest limit, in seconds: ten years.
const MAX_SECONDS: u64 = 10 * 366 * 24 * 60 * 60;
/// From this part of a limit on, a task is warned of.
const WARNING: f64 = 0.8;
/// The longest time between two looks at a task: soon after its end, nothing remembers its limits.
const LONGEST: Duration = Duration::from_secs(60 * 60);
/// Until an end is tried again that was refused, or that could not be written.
const END_AGAIN: Duration = Duration::from_secs(5);

/// What a template limits, and what is done when a limit is passed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lifecycle {
    /// How long each may last; what is not here, for ever.
    pub limits: BTreeMap<Limit, Duration>,
    /// Done with a task that has passed one of them.
    pub when_stale: WhenStale,
}

/// What may be limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Limit {
    /// The whole task, from its birth, or from when an operator reopened it.
    Duration,
    /// Its stay in `waiting_for_dependencies`, without the time in which an operator has it or its template paused.
    WaitingForDependencies,
    /// Its stay in `waiting_for_retry`.
    WaitingForRetry,
    /// A step's stay in its worker queue, while no connected worker has its handler.
    WaitingForWorker,
    /// Its stay in `blocked_by_failures`.
    Blocked,
}

/// What is done with a stale task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum WhenStale {
    /// It is reported, and goes on.
    #[default]
    None,
    /// It ends in `error`, and its open steps are cancelled.
    Error,
    /// It is put among the dead letters, and goes on.
    Dlq,
}

/// How a task stands towards its limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Health {
    /// Far from all of them.
    Healthy,
    /// Beyond 80 % of one.
    Warning,
    /// Beyond one.
    Stale,
}

/// How long something that may be limited has lasted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stay {
    /// What.
    pub limit: Limit,
    /// Until now.
    pub lasted: Duration,
}

/// Of all limits that count now, the one that is nearest to being passed, or furthest beyond.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// What has lasted, and how long.
    pub stay: Stay,
    /// How long it may.
    pub allowed: Duration,
    /// What that makes of the task.
    pub health: Health,
}

impl Standing {
    /// For how long its health has been what it is.
    #[must_use]
    pub fn unchanged_for(&self) -> Duration {
        let from = match self.health {
            Health::Healthy => Duration::ZERO,
            Health::Warning => warned_of(self.allowed),
            Health::Stale => self.allowed,
        };
        self.stay.lasted.saturating_sub(from)
    }
}

impl Lifecycle {
    /// When to look at a new task: before that, none of its limits can be near. `None`: it has none.
    #[must_use]
    pub fn first_look(&self) -> Option<Duration> {
        self.limits.values().copied().map(warned_of).min().map(|wait| wait.min(LONGEST))
    }

    /// How a task stands of which these are true now. `None`: nothing that lasts is limited.
    #[must_use]
    pub fn judge(&self, stays: &[Stay]) -> Option<Standing> {
        let used = |standing: &Standing| {
            standing.stay.lasted.as_secs_f64() / standing.allowed.as_secs_f64()
        };
        let standings = stays.iter().filter_map(|stay| self.standing(*stay));
        standings.max_by(|one, other| used(one).total_cmp(&used(other)))
    }

    /// After how long to look at the task again: before that, nothing can be otherwise than it is now,
    /// or the task has ended. One that is looked at again though it was to end is tried again soon.
    #[must_use]
    pub fn next_look(&self, stays: &[Stay]) -> Duration {
        let next = |(limit, allowed): (&Limit, &Duration)| {
            let stay = stays.iter().find(|stay| stay.limit == *limit);
            match stay.map(|stay| stay.lasted) {
                Some(lasted) if lasted < warned_of(*allowed) => warned_of(*allowed) - lasted,
                Some(lasted) if lasted < *allowed => *allowed - lasted,
                Some(_) if self.when_stale == WhenStale::Error => END_AGAIN,
                Some(_) if *limit == Limit::Duration => LONGEST,
                // It may end now, and begin again.
                Some(_) | None => warned_of(*allowed),
            }
        };
        self.limits.iter().map(next).min().unwrap_or(LONGEST).min(LONGEST)
    }

    fn standing(&self, stay: Stay) -> Option<Standing> {
        let allowed = *self.limits.get(&stay.limit)?;
        let health = match stay.lasted {
            lasted if lasted >= allowed => Health::Stale,
            lasted if lasted >= warned_of(allowed) => Health::Warning,
            _ => Health::Healthy,
        };
        Some(Standing { stay, allowed, health })
    }
}

fn warned_of(allowed: Duration) -> Duration {
    allowed.mul_f64(WARNING)
}

impl Limit {
    /// For people: what has lasted too long.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Duration => "the task",
            Self::WaitingForDependencies => "waiting for dependencies",
            Self::WaitingForRetry => "waiting for a retry",
            Self::WaitingForWorker => "waiting for a worker that has the handler",
            Self::Blocked => "being blocked by failures",
        }
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = self.stay.limit.as_str();
        let (lasted, allowed) = (self.stay.lasted.as_secs(), self.allowed.as_secs());
        write!(f, "{what} has lasted {lasted} s, and may last {allowed} s")
    }
}

impl Health {
    /// Every health.
    pub const ALL: [Self; 3] = [Self::Healthy, Self::Warning, Self::Stale];

    /// As the database and people write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Warning => "warning",
            Self::Stale => "stale",
        }
    }
}

/// Text that names no health.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a health: give healthy, warning or stale")]
pub struct UnknownHealth(String);

impl FromStr for Health {
    type Err = UnknownHealth;

    fn from_str(text: &str) -> Result<Self, UnknownHealth> {
        let found = Self::ALL.into_iter().find(|health| health.as_str() == text);
        found.ok_or_else(|| UnknownHealth(text.to_owned()))
    }
}

/// As people write it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Definition {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_duration_seconds: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_waiting_for_dependencies_seconds: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_waiting_for_retry_seconds: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_waiting_for_worker_seconds: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_blocked_seconds: Option<u64>,
    #[serde(default)]
    when_stale: WhenStale,
}

impl Definition {
    /// What is wrong with it.
    pub(super) fn violations(&self) -> Vec<Violation> {
        let mut found = Vec::new();
        for (name, _, seconds) in self.fields() {
            if seconds.is_some_and(|seconds| !(1..=MAX_SECONDS).contains(&seconds)) {
                let path = format!("lifecycle.{name}");
                found.push(Violation { path, description: format!("give 1 to {MAX_SECONDS}") });
            }
        }
        let limited = self.fields().iter().any(|(_, _, seconds)| seconds.is_some());
        if self.when_stale != WhenStale::None && !limited {
            let description = "nothing is limited: no task can become stale".to_owned();
            found.push(Violation { path: "lifecycle.when_stale".to_owned(), description });
        }
        found
    }

    pub(super) fn compile(&self) -> Lifecycle {
        let limit =
            |(_, limit, seconds): (_, _, Option<u64>)| Some((limit, Duration::from_secs(seconds?)));
        Lifecycle {
            limits: self.fields().into_iter().filter_map(limit).collect(),
            when_stale: self.when_stale,
        }
    }

    fn fields(&self) -> [(&'static str, Limit, Option<u64>); 5] {
        [
            ("max_duration_seconds", Limit::Duration, self.max_duration_seconds),
            (
                "max_waiting_for_dependencies_seconds",
                Limit::WaitingForDependencies,
                self.max_waiting_for_dependencies_seconds,
            ),
            (
                "max_waiting_for_retry_seconds",
                Limit::WaitingForRetry,
                self.max_waiting_for_retry_seconds,
            ),
            (
                "max_waiting_for_worker_seconds",
                Limit::WaitingForWorker,
                self.max_waiting_for_worker_seconds,
            ),
            ("max_blocked_seconds", Limit::Blocked, self.max_blocked_seconds),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Template;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn template(lifecycle: &str) -> Result<Template, Vec<Violation>> {
        Template::parse(&format!(
            "{{namespace: n, name: t, version: 1.0.0, steps: [], lifecycle: {lifecycle}}}"
        ))
    }

    fn stay(limit: Limit, seconds: u64) -> Stay {
        Stay { limit, lasted: Duration::from_secs(seconds) }
    }

    #[test]
    fn a_task_is_warned_of_at_four_fifths_and_stale_at_its_limit() {
        let lifecycle = template("{max_waiting_for_retry_seconds: 100}").unwrap().lifecycle;
        let health =
            |seconds| lifecycle.judge(&[stay(Limit::WaitingForRetry, seconds)]).unwrap().health;
        assert_eq!([79, 80, 99].map(health), [Health::Healthy, Health::Warning, Health::Warning]);
        assert_eq!([100, 1_000].map(health), [Health::Stale, Health::Stale]);
        // What is not limited may last.
        assert_eq!(lifecycle.judge(&[stay(Limit::Blocked, 1_000)]), None);
    }

    #[test]
    fn the_limit_that_is_nearest_to_its_end_decides() {
        let lifecycle = template("{max_duration_seconds: 1000, max_blocked_seconds: 10}");
        let lifecycle = lifecycle.unwrap().lifecycle;
        let stays = [stay(Limit::Duration, 500), stay(Limit::Blocked, 9)];
        assert_eq!(lifecycle.judge(&stays).unwrap().stay, stays[1]);
    }

    #[test]
    fn a_look_comes_before_anything_can_have_changed_for_the_worse() {
        let lifecycle = template("{max_duration_seconds: 1000, max_blocked_seconds: 100}");
        let lifecycle = lifecycle.unwrap().lifecycle;
        assert_eq!(lifecycle.first_look(), Some(Duration::from_secs(80)));
        let next = |stays: &[Stay]| lifecycle.next_look(stays).as_secs();
        // It may be blocked from now on.
        assert_eq!(next(&[stay(Limit::Duration, 100)]), 80);
        assert_eq!(next(&[stay(Limit::Duration, 790)]), 10);
        assert_eq!(next(&[stay(Limit::Duration, 800)]), 80);
        assert_eq!(next(&[stay(Limit::Duration, 990)]), 10);
        assert_eq!(next(&[stay(Limit::Duration, 100), stay(Limit::Blocked, 95)]), 5);
        assert_eq!(next(&[stay(Limit::Duration, 2_000), stay(Limit::Blocked, 100)]), 80);
    }

    #[test]
    fn a_task_that_was_to_end_and_has_not_is_looked_at_again_soon_and_not_at_once() {
        for limit in ["max_duration_seconds", "max_blocked_seconds"] {
            let next = |when_stale: &str, stays: &[Stay]| {
                let lifecycle = format!("{{{limit}: 100000, when_stale: {when_stale}}}");
                template(&lifecycle).unwrap().lifecycle.next_look(stays)
            };
            let passed = [stay(Limit::Duration, 200_000), stay(Limit::Blocked, 100_000)];
            assert_eq!(next("error", &passed), END_AGAIN);
            // What was reported, or put among the dead letters, was dealt with.
            assert_eq!([next("none", &passed), next("dlq", &passed)], [HOUR, HOUR]);
            assert_eq!(next("error", &[stay(Limit::Duration, 0)]), HOUR);
        }
    }

    #[test]
    fn a_long_limit_is_looked_at_every_hour_and_no_limit_never() {
        let lifecycle = template("{max_duration_seconds: 1000000}").unwrap().lifecycle;
        assert_eq!(lifecycle.first_look(), Some(HOUR));
        assert_eq!(lifecycle.next_look(&[stay(Limit::Duration, 0)]), HOUR);
        assert_eq!(template("{}").unwrap().lifecycle.first_look(), None);
    }

    #[test]
    fn a_bad_limit_is_refused_by_its_name() {
        let found = template("{max_duration_seconds: 0, max_blocked_seconds: 99999999999}");
        let paths: Vec<_> = found.unwrap_err().into_iter().map(|found| found.path).collect();
        assert_eq!(paths, ["lifecycle.max_duration_seconds", "lifecycle.max_blocked_seconds"]);
        let found = template("{when_stale: error}").unwrap_err();
        assert_eq!(found[0].path, "lifecycle.when_stale");
        let found = template("{max_seconds: 1}").unwrap_err();
        assert_eq!(found[0].path, "lifecycle.max_seconds");
    }

    #[test]
    fn a_template_without_limits_has_the_digest_that_it_had_before_there_were_any() {
        let digest = Template::parse("{namespace: n, name: t, version: 1.0.0, steps: []}");
        let digest = digest.unwrap().digest;
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "a3d9efc28326679c0621d26037fc0bb161a930a0d13c357d7902cac25b5d0251");
        assert_ne!(digest, template("{max_duration_seconds: 1}").unwrap().digest);
    }
}
