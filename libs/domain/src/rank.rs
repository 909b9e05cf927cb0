//! Which of two steps goes first.

use std::{cmp::Reverse, time::Duration};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::TaskId;

/// The first bits of an id: when its task was born, in ms (UUID version 7, RFC 9562).
const MS_BITS: u32 = 48;

/// A step's place in the order of dispatch: larger priorities first, then older tasks.
///
/// What is smaller goes first. Ids of tasks are about in the order of their births, so that a task that has
/// begun goes before those that have not, and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Rank(Reverse<i16>, Uuid);

impl Rank {
    /// Before all others: where it is not known what waits.
    pub const FIRST: Self = Self(Reverse(i16::MAX), Uuid::nil());

    /// After all others.
    pub const LAST: Self = Self(Reverse(i16::MIN), Uuid::max());

    /// Of a step of this task.
    #[must_use]
    pub fn of(priority: i16, task: TaskId) -> Self {
        Self(Reverse(priority), task.0)
    }

    /// As if the task had been born so much earlier. [`Rank::FIRST`] and [`Rank::LAST`] are of none.
    #[must_use]
    pub fn earlier(self, by: Duration) -> Self {
        if self.is_of_no_task() {
            return self;
        }
        let Self(priority, task) = self;
        let by = by.as_millis().min((1 << MS_BITS) - 1) << (u128::BITS - MS_BITS);
        Self(priority, Uuid::from_u128(task.as_u128().saturating_sub(by)))
    }

    fn is_of_no_task(self) -> bool {
        self == Self::FIRST || self == Self::LAST
    }
}

/// How waiting raises a step: by a point of priority each time so long has passed; never if that is zero.
///
/// So a stream of urgent steps keeps no other waiting for ever: a step of priority −100 goes before fresh
/// ones of priority 100 once it has waited for 201 points.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ageing(pub Duration);

impl Ageing {
    /// The rank of a step that had this one so long ago, and has waited since.
    #[must_use]
    pub fn rank(self, rank: Rank, waited: Duration) -> Rank {
        // Not among those of which nothing is known, and not before them.
        if rank.is_of_no_task() {
            return rank;
        }
        let Rank(Reverse(priority), task) = rank;
        let points = waited.as_nanos().checked_div(self.0.as_nanos()).unwrap_or(0);
        let points = i16::try_from(points).unwrap_or(i16::MAX);
        Rank(Reverse(priority.saturating_add(points).min(i16::MAX - 1)), task)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn larger_priorities_go_first_then_older_tasks() {
        let (older, younger) = (TaskId::new(), TaskId::new());
        let mut ranks = [Rank::of(0, younger), Rank::of(5, younger), Rank::of(0, older)];
        ranks.sort();
        assert_eq!(ranks, [Rank::of(5, younger), Rank::of(0, older), Rank::of(0, younger)]);
        assert!(ranks.iter().all(|rank| *rank > Rank::FIRST));
    }

    #[test]
    fn a_rank_is_of_a_task_born_earlier_and_of_the_same_priority() {
        let born = |ms| TaskId(uuid::Builder::from_unix_timestamp_millis(ms, &[7; 10]).into_uuid());
        let rank = Rank::of(3, born(5_000));
        assert_eq!(rank.earlier(Duration::from_millis(1_500)), Rank::of(3, born(3_500)));
        assert_eq!(rank.earlier(Duration::MAX), Rank::of(3, TaskId(Uuid::nil())));
        for of_none in [Rank::FIRST, Rank::LAST] {
            assert_eq!(of_none.earlier(MINUTE), of_none);
        }
    }

    #[test]
    fn a_step_gains_a_point_each_time_and_none_before() {
        let task = TaskId::new();
        let aged = |waited| Ageing(MINUTE).rank(Rank::of(-3, task), waited);
        assert_eq!(aged(Duration::ZERO), Rank::of(-3, task));
        assert_eq!(aged(MINUTE - Duration::from_nanos(1)), Rank::of(-3, task));
        assert_eq!(aged(MINUTE), Rank::of(-2, task));
        assert_eq!(aged(MINUTE * 10), Rank::of(7, task));
    }

    #[test]
    fn the_least_goes_before_any_fresh_step_once_it_has_waited_for_201_points() {
        let (old, fresh) = (TaskId::new(), TaskId::new());
        let least = |points| Ageing(MINUTE).rank(Rank::of(-100, old), MINUTE * points);
        let urgent = Ageing(MINUTE).rank(Rank::of(100, fresh), Duration::ZERO);
        assert!(least(199) > urgent);
        // As much, and older.
        assert!(least(200) < urgent);
        assert!(least(201) < urgent);
    }

    #[test]
    fn who_has_waited_longer_is_never_passed_by_one_of_the_same_priority_that_came_later() {
        let task = TaskId::new();
        for priority in [-100, -1, 0, 1, 100] {
            for per_point in [1, 7, 1_000, 60_000].map(Duration::from_millis) {
                let ageing = Ageing(per_point);
                let mut before = ageing.rank(Rank::of(priority, task), Duration::ZERO);
                for waited in (0..2_000).map(|n| Duration::from_millis(n * 37)) {
                    let now = ageing.rank(Rank::of(priority, task), waited);
                    assert!(now <= before, "{priority} {per_point:?} {waited:?}");
                    before = now;
                }
            }
        }
    }

    #[test]
    fn no_time_makes_a_step_the_first_of_all_or_is_too_long() {
        let task = TaskId::new();
        let ages = Ageing(Duration::from_nanos(1)).rank(Rank::of(100, task), Duration::MAX);
        assert!(ages > Rank::FIRST);
        assert_eq!(Ageing::default().rank(Rank::of(0, task), Duration::MAX), Rank::of(0, task));
        assert_eq!(Ageing(MINUTE).rank(Rank::LAST, Duration::MAX), Rank::LAST);
    }
}
