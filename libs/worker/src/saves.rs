//! Checkpoints on their way: kept in their order until they are acknowledged, over any number of
//! connections.

use std::{collections::VecDeque, future::pending};

use prost::Message as _;
use tasker_api::v1::{Checkpoint, Progress, ProgressAck, ProgressVerdict};
use tokio::sync::{mpsc, oneshot};

use crate::failure::HandlerError;

/// How many wait for their acknowledgement; handlers of more wait for a place.
const MOST: usize = 256;

/// A handler's way to have a checkpoint saved.
#[derive(Clone)]
pub(crate) struct Saver(mpsc::Sender<Save>);

struct Save {
    progress: Progress,
    saved: oneshot::Sender<Result<(), HandlerError>>,
}

/// What waits to be acknowledged.
pub(crate) struct Saves {
    arriving: mpsc::Receiver<Save>,
    /// In the order of their sequence numbers.
    waiting: VecDeque<Save>,
    last: i64,
}

impl Saver {
    /// Returns when the checkpoint is durable, or will never be.
    pub(crate) async fn save(
        &self,
        delivery_token: String,
        checkpoint: Checkpoint,
    ) -> Result<(), HandlerError> {
        let (saved, answer) = oneshot::channel();
        let checkpoint = Some(checkpoint);
        let progress = Progress { delivery_token, checkpoint, ..Progress::default() };
        let stopped = || HandlerError::retryable("WORKER_STOPPED", "the worker has stopped");
        self.0.send(Save { progress, saved }).await.map_err(|_| stopped())?;
        answer.await.unwrap_or_else(|_| Err(stopped()))
    }
}

impl Saves {
    pub(crate) fn new() -> (Saver, Self) {
        let (sender, arriving) = mpsc::channel(1);
        (Saver(sender), Self { arriving, waiting: VecDeque::new(), last: 0 })
    }

    /// Waits for the next to send. Returns its number.
    pub(crate) async fn arrived(&mut self) -> i64 {
        if self.waiting.len() >= MOST {
            return pending().await;
        }
        match self.arriving.recv().await {
            Some(mut save) => {
                self.last += 1;
                save.progress.sequence = self.last;
                self.waiting.push_back(save);
                self.last
            }
            None => pending().await,
        }
    }

    /// The numbers of all that wait, in their order.
    pub(crate) fn waiting(&self) -> Vec<i64> {
        self.waiting.iter().map(|save| save.progress.sequence).collect()
    }

    /// What to send, unless it is settled.
    pub(crate) fn progress(&self, sequence: i64) -> Option<&Progress> {
        let place = self.place(sequence)?;
        Some(&self.waiting[place].progress)
    }

    /// Refuses what is larger than the mesh takes, which would break the stream each time it is sent.
    pub(crate) fn bound(&mut self, sequence: i64, limit: usize) {
        let Some(progress) = self.progress(sequence) else { return };
        let size = progress.checkpoint.as_ref().map_or(0, Checkpoint::encoded_len);
        if size > limit {
            let reason = format!("the checkpoint has {size} bytes; {limit} are allowed");
            self.end(sequence, Err(refused(reason)));
        }
    }

    /// Acts on the mesh's answer. Says whether the delivery is lost.
    pub(crate) fn settle(&mut self, ack: ProgressAck) -> bool {
        let verdict = ack.verdict();
        let saved = match verdict {
            ProgressVerdict::Committed => Ok(()),
            ProgressVerdict::LeaseLost => Err(lost()),
            ProgressVerdict::Invalid | ProgressVerdict::Unspecified => Err(refused(ack.reason)),
        };
        self.end(ack.sequence, saved);
        verdict == ProgressVerdict::LeaseLost
    }

    /// Lets go of what is of a delivery that is lost.
    pub(crate) fn lose(&mut self, token: &str) {
        for sequence in self.waiting() {
            if self.progress(sequence).is_some_and(|progress| progress.delivery_token == token) {
                self.end(sequence, Err(lost()));
            }
        }
    }

    fn end(&mut self, sequence: i64, saved: Result<(), HandlerError>) {
        if let Some(save) = self.place(sequence).and_then(|place| self.waiting.remove(place)) {
            // A handler that does not wait any more need not know.
            save.saved.send(saved).ok();
        }
    }

    fn place(&self, sequence: i64) -> Option<usize> {
        self.waiting.binary_search_by_key(&sequence, |save| save.progress.sequence).ok()
    }
}

fn lost() -> HandlerError {
    HandlerError::retryable("LEASE_LOST", "the step is not this worker's any more")
}

fn refused(reason: String) -> HandlerError {
    HandlerError::permanent("CHECKPOINT_REFUSED", reason)
}
