//! What the worker has to say, until there is room on the stream.
//!
//! What gathers meanwhile goes out as one message: that is all the batching there is, and no timer.
//! It is bounded, since it names only deliveries that are held, or that were too many to be.

use std::collections::VecDeque;

use prost::Message as _;
use tasker_api::v1::{
    DeliveryAck, Drain, Nack, Ping, Progress, Results, StepResult, WorkRequest,
    work_request::Message,
};

use crate::{delivery::too_large, holdings::Holdings, saves::Saves};

/// For the fields around a result in a message: tags and lengths.
const FRAME: usize = 32;
/// Results of so many bytes go in one message: a gateway takes less than the mesh behind it.
const TOGETHER: usize = 4 << 20;

#[derive(Default)]
pub(crate) struct Outbox {
    pub(crate) acks: Vec<String>,
    pub(crate) nacks: Vec<String>,
    pub(crate) ping: Option<i64>,
    pub(crate) drain: bool,
    /// Checkpoints, by their numbers; some may be settled since.
    pub(crate) progress: VecDeque<i64>,
    /// Deliveries that are done; some may be settled since.
    pub(crate) results: VecDeque<String>,
}

impl Outbox {
    pub(crate) fn is_empty(&self) -> bool {
        !self.drain
            && self.ping.is_none()
            && self.acks.is_empty()
            && self.nacks.is_empty()
            && self.progress.is_empty()
            && self.results.is_empty()
    }

    /// Takes out the next message, of at most `limit` bytes.
    pub(crate) fn next(
        &mut self,
        holdings: &mut Holdings,
        saves: &Saves,
        limit: usize,
    ) -> Option<WorkRequest> {
        let message = if !self.acks.is_empty() {
            // First: what is not acknowledged in time goes to others.
            Message::DeliveryAck(DeliveryAck { delivery_tokens: std::mem::take(&mut self.acks) })
        } else if std::mem::take(&mut self.drain) {
            // Before anything is given back, or it would come again.
            Message::Drain(Drain {})
        } else if !self.nacks.is_empty() {
            let delivery_tokens = std::mem::take(&mut self.nacks);
            Message::Nack(Nack { delivery_tokens, reason: "not begun".to_owned() })
        } else if let Some(sequence) = self.ping.take() {
            Message::Ping(Ping { sequence })
        } else if let Some(progress) = self.next_progress(saves) {
            // Before a result of the same delivery, after which none is taken.
            Message::Progress(progress)
        } else {
            Message::Results(self.next_results(holdings, limit)?)
        };
        Some(WorkRequest { message: Some(message) })
    }

    fn next_progress(&mut self, saves: &Saves) -> Option<Progress> {
        while let Some(sequence) = self.progress.pop_front() {
            if let Some(progress) = saves.progress(sequence) {
                return Some(progress.clone());
            }
        }
        None
    }

    fn next_results(&mut self, holdings: &mut Holdings, limit: usize) -> Option<Results> {
        let mut results: Vec<StepResult> = Vec::new();
        let most = limit.saturating_sub(FRAME);
        let mut room = most.min(TOGETHER);
        while let Some(token) = self.results.front() {
            // None: settled since it was put here.
            if let Some(result) = holdings.result(token) {
                let size = result.encoded_len() + FRAME;
                if size > room && !results.is_empty() {
                    break;
                }
                if size > most {
                    // Alone and still too large: it would break the stream each time it is sent.
                    holdings.replace(token, too_large(size, limit));
                }
                results.extend(holdings.result(token).cloned());
                room = room.saturating_sub(size);
            }
            self.results.pop_front();
        }
        (!results.is_empty()).then_some(Results { results })
    }
}
