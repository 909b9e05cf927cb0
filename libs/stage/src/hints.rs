//! Tells the next stage what waits for it. A hint: the queue is the promise, or whoever waits looks by itself.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Semaphore, mpsc},
    time::{sleep, timeout},
};
use tonic::Status;

/// Items that may wait to be told.
const WAITING: usize = 10_000;
/// Items in one call.
const BATCH: usize = 1_000;
/// Calls at once.
const CALLS: usize = 4;
/// How long a call may take.
const ANSWER: Duration = Duration::from_secs(2);
/// How long to wait before each further try.
const AGAIN: [Duration; 3] =
    [Duration::from_millis(10), Duration::from_millis(100), Duration::from_millis(500)];

/// Where hints go in; clones lead to the same stage.
#[derive(Debug)]
pub struct Hints<T> {
    waiting: mpsc::Sender<T>,
    /// Whether some could not wait: then the next stage is told to look at its queue.
    missed: Arc<AtomicBool>,
}

impl<T> Clone for Hints<T> {
    fn clone(&self) -> Self {
        Self { waiting: self.waiting.clone(), missed: self.missed.clone() }
    }
}

impl<T: Clone + Send + 'static> Hints<T> {
    /// Hints that are told by `call`, which gets no items where it should say "look at the queue".
    pub fn new<F>(call: impl Fn(Vec<T>) -> F + Clone + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), Status>> + Send + 'static,
    {
        let (waiting, items) = mpsc::channel(WAITING);
        let missed = Arc::new(AtomicBool::new(false));
        tokio::spawn(tell_all(items, missed.clone(), call));
        Self { waiting, missed }
    }

    /// Hints that nobody wants: the next stage reads its queue.
    #[must_use]
    pub fn silent() -> Self {
        Self { waiting: mpsc::channel(1).0, missed: Arc::default() }
    }

    /// Tells the next stage, soon. What cannot wait is not told one by one.
    pub fn tell(&self, items: impl IntoIterator<Item = T>) {
        for item in items {
            if self.waiting.try_send(item).is_err() {
                self.missed.store(true, Ordering::Relaxed);
            }
        }
    }
}

/// What arrives while calls are out goes into the next one.
async fn tell_all<T: Clone + Send + 'static, F>(
    mut items: mpsc::Receiver<T>,
    missed: Arc<AtomicBool>,
    call: impl Fn(Vec<T>) -> F + Clone + Send + Sync + 'static,
) where
    F: Future<Output = Result<(), Status>> + Send + 'static,
{
    let calls = Arc::new(Semaphore::new(CALLS));
    loop {
        let permit = calls.clone().acquire_owned().await.expect("nobody closes it");
        let mut batch = Vec::new();
        if items.recv_many(&mut batch, BATCH).await == 0 {
            return;
        }
        let (call, missed) = (call.clone(), missed.clone());
        tokio::spawn(async move {
            if !tell(&call, batch).await || missed.swap(false, Ordering::Relaxed) {
                tell(&call, Vec::new()).await;
            }
            drop(permit);
        });
    }
}

async fn tell<T: Clone, F>(call: &impl Fn(Vec<T>) -> F, batch: Vec<T>) -> bool
where
    F: Future<Output = Result<(), Status>>,
{
    let mut pauses = AGAIN.into_iter();
    loop {
        let error = match timeout(ANSWER, call(batch.clone())).await {
            Ok(Ok(())) => return true,
            Ok(Err(status)) => status.message().to_owned(),
            Err(_) => "no answer in time".to_owned(),
        };
        let Some(pause) = pauses.next() else {
            tracing::debug!("the next stage was not told: {error}");
            return false;
        };
        sleep(pause).await;
    }
}
