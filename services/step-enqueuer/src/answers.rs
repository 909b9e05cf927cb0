//! Results of a worker's stream are answered when they are durable.

use std::collections::HashSet;

use tasker_api::v1::{ResultVerdict, ResultsAck, work_response::Message};
use tasker_domain::SessionId;
use tokio_util::sync::CancellationToken;

use crate::{
    forward::Forwarded,
    next::{Next, Submission},
    report::{Reported, Reports},
    roster::{Roster, response},
    session::Outbox,
};

/// Where the answers to results go.
#[derive(Clone)]
pub struct Answers {
    pub out: Outbox,
    pub roster: Roster,
    pub id: SessionId,
    pub reports: Reports,
    /// Cancelled if results could not be kept: the worker connects again, and sends them again.
    pub failed: CancellationToken,
}

impl Answers {
    /// Hands results in, each as soon as what its delivery had to save before is saved; then answers them.
    pub async fn submit_and_give(self, behind: Vec<(CancellationToken, Submission)>) {
        let mut waiting = Vec::with_capacity(behind.len());
        for (saved, submission) in behind {
            tokio::select! {
                () = saved.cancelled() => {}
                // Not acknowledged, like the progress: the worker sends both again.
                () = self.failed.cancelled() => return,
            }
            match self.reports.submit_in_turn(submission).await {
                Ok(reported) => waiting.push(reported),
                Err(_) => self.failed.cancel(),
            }
        }
        self.give(waiting).await;
    }

    /// Answers results when they are durable, and delivers what they have unlocked.
    pub async fn give(self, waiting: Vec<Reported>) {
        let Self { out, roster, id, reports, failed } = self;
        let mut verdicts = Vec::with_capacity(waiting.len());
        let mut done = HashSet::new();
        let mut unlocked: Option<Next> = None;
        for reported in waiting {
            match reports.verdict(reported).await {
                Ok(Forwarded { verdict, next }) => {
                    match &mut unlocked {
                        Some(unlocked) => unlocked.join(next),
                        None => unlocked = Some(next),
                    }
                    let token = verdict.delivery_token.parse::<tasker_api::DeliveryToken>();
                    match token.map(|token| token.delivery_id) {
                        // Still the worker's: it may send a better one.
                        Ok(delivery) if verdict.verdict() == ResultVerdict::Invalid => {
                            roster.keep(id, delivery);
                        }
                        Ok(delivery) => {
                            done.insert(delivery);
                        }
                        Err(_) => {}
                    }
                    verdicts.push(verdict);
                }
                // Not acknowledged: the worker keeps it.
                Err(_) => failed.cancel(),
            }
        }
        // Other workers do not wait for this one to read its answers.
        let own = unlocked.as_mut().map(|unlocked| unlocked.split_off(id));
        if let Some(others) = unlocked {
            others.deliver().await;
        }
        if !verdicts.is_empty() {
            let ack = Message::ResultsAck(ResultsAck { verdicts });
            // Whoever has gone sends them again.
            out.send(Ok(response(ack))).await.ok();
        }
        // After the answer: no delivery overtakes what made room for it.
        roster.release(id, done);
        if let Some(own) = own {
            own.deliver().await;
        }
    }
}
