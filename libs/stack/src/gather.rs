//! Gathers what arrives while a batch commits, and makes it the next batch: group commit.

use std::{
    collections::HashSet, fmt, hash::Hash, panic::AssertUnwindSafe, sync::Arc, time::Duration,
};

use futures::FutureExt as _;
use tokio::{
    sync::{
        Mutex,
        mpsc::{self, error::TrySendError},
        oneshot,
    },
    time::{Instant, sleep},
};

pub use crate::pace::Gap;
use crate::pace::Pace;

/// A verb that takes a batch: one transaction for all of it.
pub trait Stage: Send + Sync + 'static {
    /// What it works on.
    type Item: Send + Sync + 'static;
    /// What it says of each.
    type Answer: Send + 'static;
    /// Why it did nothing.
    type Error: fmt::Display + Send + Sync + 'static;
    /// What no two items of a batch may share.
    type Key: Eq + Hash + Send;

    /// The most that the items of a batch may weigh, unless one alone weighs more.
    const MAX_WEIGHT: usize = usize::MAX;

    /// What each lane leaves between batches where many items come.
    const GAP: Gap = Gap::USUAL;

    /// How much work an item is, where they differ much.
    fn weight(_item: &Self::Item) -> usize {
        1
    }

    /// Two items with one key do not fit in one batch: the later waits for the next.
    fn key(item: &Self::Item) -> Self::Key;

    /// Applies all items in one transaction, and answers each in order; or does nothing.
    fn apply(
        &self,
        items: &[Self::Item],
    ) -> impl Future<Output = Result<Vec<Self::Answer>, Self::Error>> + Send;

    /// Whether the error may be one item's fault, so that the others deserve another try.
    fn may_be_one_items_fault(error: &Self::Error) -> bool;

    /// What a lane leaves to others after a batch that took so long.
    fn rest_after(&self, _took: Duration) -> Duration {
        Duration::ZERO
    }
}

/// Why an item got no answer.
#[derive(Debug)]
pub enum Refused<E> {
    /// Too many wait: try again later.
    Overloaded,
    /// Its batch, or the item alone, failed.
    Failed(Arc<E>),
    /// The verb panicked over this item.
    Panicked,
    /// The stage has ended.
    Closed,
}

impl<E> Clone for Refused<E> {
    fn clone(&self) -> Self {
        match self {
            Self::Overloaded => Self::Overloaded,
            Self::Failed(error) => Self::Failed(error.clone()),
            Self::Panicked => Self::Panicked,
            Self::Closed => Self::Closed,
        }
    }
}

type Answer<S> = Result<<S as Stage>::Answer, Refused<<S as Stage>::Error>>;
type Arrival<S> = (<S as Stage>::Item, oneshot::Sender<Answer<S>>);

/// Where items go in; clones lead to the same stage.
pub struct Gather<S: Stage> {
    arrivals: mpsc::Sender<Arrival<S>>,
}

impl<S: Stage> Clone for Gather<S> {
    fn clone(&self) -> Self {
        Self { arrivals: self.arrivals.clone() }
    }
}

/// How much a stage takes at once.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Items in one batch.
    pub batch: usize,
    /// Items that may wait; more are refused.
    pub waiting: usize,
    /// Batches in work at once.
    pub lanes: usize,
}

impl<S: Stage> Gather<S> {
    /// Starts a stage. Its lanes end when all clones are gone and all is answered.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn spawn(stage: S, bounds: Bounds) -> Self {
        let (arrivals, waiting) = mpsc::channel(bounds.waiting.max(1));
        let (stage, waiting) = (Arc::new(stage), Arc::new(Mutex::new(waiting)));
        for _ in 0..bounds.lanes.max(1) {
            tokio::spawn(run(stage.clone(), waiting.clone(), bounds.batch.max(1)));
        }
        Self { arrivals }
    }

    /// Items that wait for a batch.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.arrivals.max_capacity() - self.arrivals.capacity()
    }

    /// Hands an item in. The answer comes after the commit of its batch.
    ///
    /// # Errors
    /// Too many wait, or the stage has ended.
    pub fn submit(&self, item: S::Item) -> Result<oneshot::Receiver<Answer<S>>, Refused<S::Error>> {
        let (caller, answer) = oneshot::channel();
        match self.arrivals.try_send((item, caller)) {
            Ok(()) => Ok(answer),
            Err(TrySendError::Full(_)) => Err(Refused::Overloaded),
            Err(TrySendError::Closed(_)) => Err(Refused::Closed),
        }
    }

    /// Hands an item in as soon as there is a place.
    ///
    /// # Errors
    /// The stage has ended.
    pub async fn submit_in_turn(
        &self,
        item: S::Item,
    ) -> Result<oneshot::Receiver<Answer<S>>, Refused<S::Error>> {
        let (caller, answer) = oneshot::channel();
        self.arrivals.send((item, caller)).await.map_err(|_| Refused::Closed)?;
        Ok(answer)
    }

    /// Hands items in, each as soon as there is a place, and waits for all their answers, in order.
    pub async fn call_in_turn(&self, items: impl IntoIterator<Item = S::Item>) -> Vec<Answer<S>> {
        let mut submitted = Vec::new();
        for item in items {
            submitted.push(self.submit_in_turn(item).await);
        }
        answers(submitted).await
    }

    /// Hands items in and waits for all their answers, in order. What finds no place is refused.
    pub async fn call(&self, items: impl IntoIterator<Item = S::Item>) -> Vec<Answer<S>> {
        let submitted: Vec<_> = items.into_iter().map(|item| self.submit(item)).collect();
        answers(submitted).await
    }
}

/// A place for an answer, or why there is none.
type Submitted<A, E> = Result<oneshot::Receiver<Result<A, Refused<E>>>, Refused<E>>;

async fn answers<A, E>(submitted: Vec<Submitted<A, E>>) -> Vec<Result<A, Refused<E>>> {
    let mut answers = Vec::with_capacity(submitted.len());
    for item in submitted {
        answers.push(match item {
            Ok(answer) => answer.await.unwrap_or(Err(Refused::Closed)),
            Err(refused) => Err(refused),
        });
    }
    answers
}

/// One lane: takes what has arrived, at most `bound` items, applies it, answers; until every sender is gone.
///
/// An idle stage acts at once, a busy one finds its next batch already here. In between, [`Pace`].
async fn run<S: Stage>(
    stage: Arc<S>,
    arrivals: Arc<Mutex<mpsc::Receiver<Arrival<S>>>>,
    bound: usize,
) {
    let mut arrived = Vec::with_capacity(bound);
    let mut left: Vec<Arrival<S>> = Vec::new();
    let mut pace = Pace::new(S::GAP);
    loop {
        arrived.append(&mut left);
        if arrived.is_empty() {
            pace.next().await;
            let taken = arrivals.lock().await.recv_many(&mut arrived, bound).await;
            if taken == 0 {
                return;
            }
        }
        let (items, callers) = batch::<S>(&mut arrived, &mut left);
        pace.begin(items.len());
        let begun = Instant::now();
        let answers = apply(&*stage, &items).await;
        let rest = stage.rest_after(begun.elapsed());
        // Only now, after the commit: an answer is a promise.
        for (caller, answer) in callers.into_iter().zip(answers) {
            // Committed all the same if nobody waits any more.
            caller.send(answer).ok();
        }
        pace.answer();
        if !rest.is_zero() {
            sleep(rest).await;
        }
    }
}

/// The first batch of what has arrived. `left` is what does not fit in: twins, and all after what would
/// make it too heavy.
fn batch<S: Stage>(
    arrived: &mut Vec<Arrival<S>>,
    left: &mut Vec<Arrival<S>>,
) -> (Vec<S::Item>, Vec<oneshot::Sender<Answer<S>>>) {
    let mut keys = HashSet::with_capacity(arrived.len());
    let (mut items, mut callers) = (Vec::new(), Vec::new());
    let mut weight = 0usize;
    for (item, caller) in arrived.drain(..) {
        weight = weight.saturating_add(S::weight(&item));
        let fits = weight <= S::MAX_WEIGHT || items.is_empty();
        if fits && keys.insert(S::key(&item)) {
            items.push(item);
            callers.push(caller);
        } else {
            left.push((item, caller));
        }
    }
    (items, callers)
}

/// One transaction; if it fails, halves of it, until the bad item fails alone.
async fn apply<S: Stage>(stage: &S, items: &[S::Item]) -> Vec<Answer<S>> {
    let mut answers = Vec::with_capacity(items.len());
    let mut rest = vec![items];
    while let Some(items) = rest.pop() {
        let refused = match AssertUnwindSafe(stage.apply(items)).catch_unwind().await {
            Ok(Ok(applied)) => {
                debug_assert_eq!(applied.len(), items.len(), "a verb answers each item");
                answers.extend(applied.into_iter().map(Ok));
                continue;
            }
            Ok(Err(error)) if !S::may_be_one_items_fault(&error) => {
                let error = Arc::new(error);
                answers.extend(items.iter().map(|_| Err(Refused::Failed(error.clone()))));
                continue;
            }
            Ok(Err(error)) => Refused::Failed(Arc::new(error)),
            Err(_) => Refused::Panicked,
        };
        if items.len() == 1 {
            answers.push(Err(refused));
        } else {
            let (first, second) = items.split_at(items.len() / 2);
            rest.push(second);
            rest.push(first);
        }
    }
    answers
}

#[cfg(test)]
mod tests {
    use std::{sync::Mutex as Record, time::Duration};

    use tokio::{
        sync::Semaphore,
        time::{Instant, sleep},
    };

    use super::*;

    /// Its answers bring the next items, within two milliseconds. Remembers how many each batch had, and when it
    /// began.
    #[derive(Default)]
    struct Echo {
        batches: Arc<Record<Vec<(usize, Instant)>>>,
    }

    const COME_BACK: Duration = Duration::from_millis(2);
    const GAP: Duration = Duration::from_millis(3);
    /// Longer than the gap.
    const WORK: Duration = Duration::from_millis(5);

    impl Stage for Echo {
        type Item = i32;
        type Answer = ();
        type Error = &'static str;
        type Key = i32;

        const GAP: Gap = Gap::FromAnswers(GAP);

        fn key(item: &i32) -> i32 {
            *item
        }

        async fn apply(&self, items: &[i32]) -> Result<Vec<()>, &'static str> {
            self.batches.lock().unwrap().push((items.len(), Instant::now()));
            sleep(WORK).await;
            Ok(vec![(); items.len()])
        }

        fn may_be_one_items_fault(_: &&'static str) -> bool {
            false
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_answers_to_a_crowd_bring_is_one_batch() {
        let echo = Echo::default();
        let batches = Arc::clone(&echo.batches);
        let gather = Gather::spawn(echo, Bounds { batch: 100, waiting: 100, lanes: 1 });
        for caller in 0..60 {
            let gather = gather.clone();
            tokio::spawn(async move {
                loop {
                    gather.submit(caller).unwrap().await.unwrap().unwrap();
                    // Not all of them at the same time.
                    sleep(if caller % 2 == 0 { Duration::ZERO } else { COME_BACK }).await;
                }
            });
        }
        sleep(Duration::from_secs(1)).await;
        let batches = batches.lock().unwrap();
        let (sizes, begun): (Vec<_>, Vec<_>) = batches.iter().copied().rev().take(50).unzip();
        assert_eq!(sizes, [60; 50]);
        assert!(begun.windows(2).all(|pair| pair[0] - pair[1] == WORK + GAP), "{begun:?}");
    }

    /// Leaves three times as long to others as a batch has taken.
    struct Modest;

    impl Stage for Modest {
        type Item = i32;
        type Answer = Instant;
        type Error = &'static str;
        type Key = i32;

        const GAP: Gap = Gap::None;

        fn key(item: &i32) -> i32 {
            *item
        }

        async fn apply(&self, items: &[i32]) -> Result<Vec<Instant>, &'static str> {
            let begun = Instant::now();
            sleep(WORK).await;
            Ok(vec![begun; items.len()])
        }

        fn may_be_one_items_fault(_: &&'static str) -> bool {
            false
        }

        fn rest_after(&self, took: Duration) -> Duration {
            took * 3
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stage_that_gives_way_answers_at_once_and_then_leaves_a_while_to_others() {
        let gather = Gather::spawn(Modest, Bounds { batch: 1, waiting: 100, lanes: 1 });
        let first = gather.submit(1).unwrap();
        let second = gather.submit(2).unwrap();
        assert_eq!(gather.waiting(), 2);
        let first = first.await.unwrap().unwrap();
        assert_eq!(first.elapsed(), WORK);
        assert_eq!(second.await.unwrap().unwrap() - first, WORK * 4);
        assert_eq!(gather.waiting(), 0);
    }

    /// Doubles numbers; 13 fails, 66 panics, 99 is the database's fault. Remembers its batches.
    struct Double {
        batches: Arc<Record<Vec<Vec<i32>>>>,
        gate: Arc<Semaphore>,
    }

    impl Stage for Double {
        type Item = i32;
        type Answer = i32;
        type Error = &'static str;
        type Key = i32;

        const MAX_WEIGHT: usize = 1_000;

        fn weight(item: &i32) -> usize {
            usize::try_from(*item).unwrap()
        }

        fn key(item: &i32) -> i32 {
            *item
        }

        async fn apply(&self, items: &[i32]) -> Result<Vec<i32>, &'static str> {
            self.gate.acquire().await.unwrap().forget();
            self.batches.lock().unwrap().push(items.to_vec());
            assert!(!items.contains(&66), "a bad item");
            match items {
                _ if items.contains(&13) => Err("bad item"),
                _ if items.contains(&99) => Err("database gone"),
                _ => Ok(items.iter().map(|n| n * 2).collect()),
            }
        }

        fn may_be_one_items_fault(error: &&'static str) -> bool {
            *error == "bad item"
        }
    }

    struct Rig {
        gather: Gather<Double>,
        batches: Arc<Record<Vec<Vec<i32>>>>,
        gate: Arc<Semaphore>,
    }

    fn rig(batch: usize, waiting: usize) -> Rig {
        let (batches, gate) = (Arc::default(), Arc::new(Semaphore::new(0)));
        let stage = Double { batches: Arc::clone(&batches), gate: Arc::clone(&gate) };
        let gather = Gather::spawn(stage, Bounds { batch, waiting, lanes: 1 });
        Rig { gather, batches, gate }
    }

    fn plain(answers: Vec<Answer<Double>>) -> Vec<Option<i32>> {
        answers.into_iter().map(Result::ok).collect()
    }

    #[tokio::test]
    async fn what_arrives_while_a_batch_commits_is_the_next_batch() {
        let rig = rig(100, 100);
        let first = rig.gather.submit(1).unwrap();
        tokio::task::yield_now().await;
        let second = rig.gather.call([2, 3, 4]);
        rig.gate.add_permits(2);
        assert_eq!(plain(second.await), [Some(4), Some(6), Some(8)]);
        assert_eq!(first.await.unwrap().ok(), Some(2));
        assert_eq!(*rig.batches.lock().unwrap(), [vec![1], vec![2, 3, 4]]);
    }

    #[tokio::test]
    async fn a_bad_item_fails_alone() {
        let rig = rig(100, 100);
        rig.gate.add_permits(100);
        let answers = plain(rig.gather.call([1, 2, 13, 4, 66, 6]).await);
        assert_eq!(answers, [Some(2), Some(4), None, Some(8), None, Some(12)]);
    }

    #[tokio::test]
    async fn a_lost_database_fails_the_batch_at_once() {
        let rig = rig(100, 100);
        rig.gate.add_permits(100);
        assert_eq!(plain(rig.gather.call([1, 99, 3]).await), [None, None, None]);
        assert_eq!(rig.batches.lock().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn twins_do_not_share_a_batch() {
        let rig = rig(100, 100);
        rig.gate.add_permits(100);
        assert_eq!(plain(rig.gather.call([5, 5, 5]).await), [Some(10), Some(10), Some(10)]);
        assert_eq!(*rig.batches.lock().unwrap(), [vec![5], vec![5], vec![5]]);
    }

    #[tokio::test]
    async fn heavy_items_go_in_smaller_batches_in_their_order_and_the_heaviest_alone() {
        let rig = rig(100, 100);
        rig.gate.add_permits(100);
        let answers = plain(rig.gather.call([600, 300, 200, 5_000, 1, 2, 600]).await);
        assert_eq!(answers.len(), 7);
        assert!(answers.iter().all(Option::is_some));
        let batches = rig.batches.lock().unwrap();
        assert_eq!(*batches, [vec![600, 300], vec![200], vec![5_000], vec![1, 2, 600]]);
    }

    #[tokio::test]
    async fn more_than_may_wait_is_refused_and_the_rest_served() {
        let rig = rig(1, 2);
        let waiting: Vec<_> = (0..4).map(|n| rig.gather.submit(n)).collect();
        assert!(matches!(waiting[2], Err(Refused::Overloaded)));
        rig.gate.add_permits(100);
        for (n, answer) in (0..).zip(waiting.into_iter().flatten()) {
            assert_eq!(answer.await.unwrap().ok(), Some(n * 2));
        }
    }
}
