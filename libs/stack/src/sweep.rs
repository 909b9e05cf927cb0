//! Reads a queue when woken, and now and then: the promise behind every call between stages.

use std::{fmt::Display, sync::Arc, time::Duration};

use tokio::{sync::Notify, time::sleep};
use tokio_util::sync::CancellationToken;

/// Wakes a [`Sweep`]; clones wake the same one.
#[derive(Debug, Clone, Default)]
pub struct Wake(Arc<Notify>);

impl Wake {
    /// Has the queue read soon. Calls that come before it is are one.
    pub fn wake(&self) {
        self.0.notify_one();
    }

    /// Waits for a call, or takes one that came before.
    pub async fn woken(&self) {
        self.0.notified().await;
    }
}

/// A queue's reader.
#[derive(Debug, Clone)]
pub struct Sweep {
    /// What is read, for the log.
    pub queue: &'static str,
    /// Reads it at once.
    pub wake: Wake,
    /// How often it is read though nobody has called; `None`: never.
    pub every: Option<Duration>,
    /// How long to wait after an error.
    pub after_error: Duration,
}

impl Sweep {
    /// Reads at the start, when woken and now and then, until draining begins.
    ///
    /// `read` works off one batch, and says whether there may be more.
    pub async fn run<F, E>(self, drain: CancellationToken, mut read: impl FnMut() -> F)
    where
        F: Future<Output = Result<bool, E>>,
        E: Display,
    {
        while !drain.is_cancelled() {
            let pause = match read().await {
                Ok(true) => continue,
                Ok(false) => self.every,
                Err(error) => {
                    tracing::warn!(
                        queue.name = self.queue,
                        "reading {} failed: {error}",
                        self.queue
                    );
                    Some(self.after_error)
                }
            };
            let pause = async {
                match pause {
                    Some(pause) => sleep(pause).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = drain.cancelled() => return,
                () = self.wake.woken() => {}
                () = pause => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_queue_is_read_at_start_until_empty_when_woken_and_now_and_then() {
        let (reads, seen) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let (wake, drain) = (Wake::default(), CancellationToken::new());
        let every = Some(Duration::from_secs(5));
        let sweep =
            Sweep { queue: "q", wake: wake.clone(), every, after_error: Duration::from_secs(1) };
        let (counted, told) = (reads.clone(), seen.clone());
        let task = tokio::spawn(sweep.run(drain.clone(), move || {
            let n = counted.fetch_add(1, Ordering::SeqCst);
            told.notify_one();
            // The first read finds more.
            async move { Ok::<_, String>(n == 0) }
        }));
        let begun = tokio::time::Instant::now();
        while reads.load(Ordering::SeqCst) < 2 {
            seen.notified().await;
        }
        assert_eq!(begun.elapsed(), Duration::ZERO);
        wake.wake();
        while reads.load(Ordering::SeqCst) < 3 {
            seen.notified().await;
        }
        assert_eq!(begun.elapsed(), Duration::ZERO);
        while reads.load(Ordering::SeqCst) < 4 {
            seen.notified().await;
        }
        assert!(begun.elapsed() >= Duration::from_secs(5));
        drain.cancel();
        task.await.unwrap();
    }
}
