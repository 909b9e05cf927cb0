//! When a stage's next batch begins: at once where items come one by one, later where many come that nobody has
//! gathered before.
//!
//! A statement costs about the same for one item as for ten. At a part of the load that a stage can bear,
//! batches that begin as soon as they can are small, and their statements take the processor from whoever
//! would make the next ones larger. Where answers bring the next items, what comes back while a batch commits is
//! gathered enough, until there is so much that most of a statement's cost is that of its items.

use std::{ops::Range, time::Duration};

use tokio::time::{Instant, sleep_until};

/// Items in a batch, on average, up to which the next does not wait, and from which on it does in full: a few steps
/// of one task are no crowd.
const CROWD: Range<f64> = 2.0..3.0;
/// The same where answers bring the next items.
const CROWD_THAT_COMES_BACK: Range<f64> = 16.0..24.0;
/// How much a batch counts among those before it: a single large one makes no crowd.
const WEIGHT: f64 = 1.0 / 16.0;

/// How long a lane waits with its next batch, where batches hold many items on average.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gap {
    /// Nothing: what comes has been gathered before.
    None,
    /// From one's beginning to the next's: items come independently of each other.
    FromBegin(Duration),
    /// From one's answers to the next's beginning: they bring about the next items, which then come together.
    /// Only where they are many more.
    FromAnswers(Duration),
}

impl Gap {
    /// Of a stage that does not say otherwise.
    pub const USUAL: Self = Self::FromBegin(Duration::from_millis(5));
}

/// The pace of one lane.
#[derive(Debug)]
pub struct Pace {
    gap: Gap,
    /// Items in a batch, on average over the last ones.
    items: f64,
    /// When the gap begins.
    since: Instant,
}

impl Pace {
    /// Of a lane that has had no batch yet.
    pub fn new(gap: Gap) -> Self {
        Self { gap, items: 1.0, since: Instant::now() }
    }

    /// Notes a batch that begins now.
    pub fn begin(&mut self, items: usize) {
        let items = u32::try_from(items).unwrap_or(u32::MAX);
        self.items += WEIGHT * (f64::from(items) - self.items);
        self.since = Instant::now();
    }

    /// Notes that its items have their answers now.
    pub fn answer(&mut self) {
        if let Gap::FromAnswers(_) = self.gap {
            self.since = Instant::now();
        }
    }

    /// Waits until the next may begin. In between, nothing is waited for.
    pub async fn next(&self) {
        let (gap, crowd) = match self.gap {
            Gap::None => return,
            Gap::FromBegin(gap) => (gap, CROWD),
            Gap::FromAnswers(gap) => (gap, CROWD_THAT_COMES_BACK),
        };
        let share = (self.items - crowd.start) / (crowd.end - crowd.start);
        let next = self.since + gap.mul_f64(share.clamp(0.0, 1.0));
        // A timer rounds up to the next millisecond, also one that is over.
        if Instant::now() < next {
            sleep_until(next).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CROWDED: Duration = Duration::from_millis(5);

    /// How long a lane waits that has just begun the last of these batches.
    async fn wait_after(batches: impl IntoIterator<Item = usize>) -> Duration {
        let mut pace = Pace::new(Gap::FromBegin(CROWDED));
        for items in batches {
            pace.next().await;
            pace.begin(items);
        }
        let begun = Instant::now();
        pace.next().await;
        begun.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn items_that_come_one_by_one_do_not_wait() {
        assert_eq!(wait_after([]).await, Duration::ZERO);
        assert_eq!(wait_after([1; 1_000]).await, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_with_a_few_steps_side_by_side_does_not_wait() {
        assert_eq!(wait_after([2; 1_000]).await, Duration::ZERO);
        let lone_then_many = [1; 100].into_iter().chain([16]);
        assert_eq!(wait_after(lone_then_many).await, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_crowd_waits_for_its_next_batch_until_it_has_gone() {
        assert_eq!(wait_after([8; 100]).await, CROWDED);
        let crowd_then_lone = [8; 100].into_iter().chain([1; 100]);
        assert_eq!(wait_after(crowd_then_lone).await, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_that_took_longer_is_followed_at_once() {
        assert_eq!(wait_after_slow_ones(Gap::FromBegin(CROWDED), 32).await, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn where_answers_bring_the_next_items_they_are_waited_for_however_long_a_batch_took() {
        assert_eq!(wait_after_slow_ones(Gap::FromAnswers(CROWDED), 32).await, CROWDED);
    }

    #[tokio::test(start_paused = true)]
    async fn what_answers_bring_is_waited_for_only_where_it_is_much() {
        let gap = Gap::FromAnswers(CROWDED);
        assert_eq!(wait_after_slow_ones(gap, 1).await, Duration::ZERO);
        assert_eq!(wait_after_slow_ones(gap, 16).await, Duration::ZERO);
        let between = wait_after_slow_ones(gap, 20).await;
        assert!(between > Duration::ZERO && between < CROWDED, "{between:?}");
        assert_eq!(wait_after_slow_ones(gap, 25).await, CROWDED);
    }

    #[tokio::test(start_paused = true)]
    async fn a_crowd_that_was_gathered_before_does_not_wait() {
        assert_eq!(wait_after_slow_ones(Gap::None, 32).await, Duration::ZERO);
    }

    /// How long a lane waits after batches of so many items, each of which has taken as long as a gap.
    async fn wait_after_slow_ones(gap: Gap, items: usize) -> Duration {
        let mut pace = Pace::new(gap);
        for _ in 0..100 {
            pace.begin(items);
            tokio::time::sleep(CROWDED).await;
            pace.answer();
        }
        let answered = Instant::now();
        pace.next().await;
        answered.elapsed()
    }
}
