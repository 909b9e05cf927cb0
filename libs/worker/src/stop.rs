//! The wish to stop, and until when to tidy up.

use tokio::{
    sync::watch,
    time::{Duration, Instant, sleep_until},
};

/// For the last results to be acknowledged, after no more handlers run.
const FLUSH: Duration = Duration::from_secs(5);

/// Tells whether the worker was asked to stop.
#[derive(Clone)]
pub(crate) struct Stop(watch::Receiver<Option<Instant>>);

/// Asks the worker to stop.
pub(crate) struct StopAsked(watch::Sender<Option<Instant>>);

impl Stop {
    pub(crate) fn new() -> (StopAsked, Self) {
        let (ask, asked) = watch::channel(None);
        (StopAsked(ask), Self(asked))
    }

    pub(crate) fn is_asked(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// Waits until the worker is asked to stop. Returns until when handlers may go on.
    pub(crate) async fn asked(&mut self) -> Instant {
        match self.0.wait_for(Option::is_some).await.map(|deadline| *deadline) {
            Ok(deadline) => deadline.expect("waited for"),
            // Whoever could ask is gone.
            Err(_) => std::future::pending().await,
        }
    }

    /// Waits until the worker must have stopped.
    pub(crate) async fn overdue(&mut self) {
        sleep_until(self.asked().await + FLUSH).await;
    }
}

impl StopAsked {
    /// Handlers may go on for `time`.
    pub(crate) fn stop_within(&self, time: Duration) {
        self.0.send_replace(Some(Instant::now() + time));
    }
}
