//! Which of two steps goes first.

use std::cmp::Reverse;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::TaskId;

/// A step's place in the order of dispatch: larger priorities first, then older tasks.
///
/// What is smaller goes first. Ids of tasks are in the order of their births, so that a task that has
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn larger_priorities_go_first_then_older_tasks() {
        let (older, younger) = (TaskId::new(), TaskId::new());
        let mut ranks = [Rank::of(0, younger), Rank::of(5, younger), Rank::of(0, older)];
        ranks.sort();
        assert_eq!(ranks, [Rank::of(5, younger), Rank::of(0, older), Rank::of(0, younger)]);
        assert!(ranks.iter().all(|rank| *rank > Rank::FIRST));
    }
}
