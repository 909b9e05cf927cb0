//! What workers hold: deliveries, from their way out to their result, and their deadlines.

use std::time::Instant;

use tasker_api::v1::{Cancel, Deliver, Delivery, work_response::Message};
use tasker_domain::SessionId;
use tasker_store::Held;
use uuid::Uuid;

use super::{Holding, Roster, Seat};

/// Deliveries in one message: as many as fit this many bytes, at least one.
const MESSAGE_BYTES: usize = 1 << 20;

/// What a look at the deadlines has found.
#[derive(Default)]
pub struct Overdue {
    pub unacknowledged: Vec<(SessionId, Holding)>,
    pub timed_out: Vec<(SessionId, Holding)>,
    /// Whether anything is held at all.
    pub holding: bool,
}

impl Roster {
    /// Fills reserved places. Returns what belongs to workers that have left meanwhile.
    pub fn hold(&self, started: Vec<(Seat, Holding)>) -> Vec<(SessionId, Held)> {
        let mut inner = self.lock();
        let mut orphaned = Vec::new();
        for (seat, holding) in started {
            match inner.members.get_mut(&seat.place) {
                Some(member) => {
                    member.reserved -= 1;
                    member.holding.insert(holding.held.delivery_id, holding);
                }
                None => orphaned.push((seat.session, holding.held)),
            }
        }
        drop(inner);
        self.held.wake();
        orphaned
    }

    /// Sends deliveries to the worker that holds them. What cannot be sent is not acknowledged, and so comes back.
    pub fn deliver(&self, seat: Seat, deliveries: Vec<Delivery>) {
        let inner = self.lock();
        let Some(member) = inner.members.get(&seat.place) else { return };
        let mut message = Vec::new();
        let mut bytes = 0;
        for delivery in deliveries {
            let size = size(&delivery);
            if bytes + size > MESSAGE_BYTES && !message.is_empty() {
                member.send(Message::Deliver(Deliver { deliveries: std::mem::take(&mut message) }));
                bytes = 0;
            }
            bytes += size;
            message.push(delivery);
        }
        member.send(Message::Deliver(Deliver { deliveries: message }));
    }

    /// Notes what a worker has acknowledged.
    pub fn acknowledge(&self, session: SessionId, deliveries: impl IntoIterator<Item = Uuid>) {
        let mut inner = self.lock();
        let Some(member) = inner.members.get_mut(&session) else { return };
        for delivery in deliveries {
            if let Some(holding) = member.holding.get_mut(&delivery) {
                holding.acknowledged = true;
            }
        }
    }

    /// Takes off a worker what it is done with, or has lost.
    pub fn release(&self, session: SessionId, deliveries: impl IntoIterator<Item = Uuid>) {
        let mut inner = self.lock();
        if let Some(member) = inner.members.get_mut(&session) {
            let gone: Vec<Holding> =
                deliveries.into_iter().filter_map(|delivery| member.let_go(delivery)).collect();
            gone.iter().for_each(|holding| inner.ended(holding));
        }
        drop(inner);
        self.claim.wake();
    }

    /// Leaves a worker what it had a result for that cannot be taken.
    pub fn keep(&self, session: SessionId, delivery: Uuid) {
        if let Some(member) = self.lock().members.get_mut(&session) {
            member.keep(delivery);
        }
    }

    /// Takes off a worker what it has lost, and tells it to stop.
    pub fn cancel(&self, lost: impl IntoIterator<Item = Uuid>, reason: &str) {
        let mut inner = self.lock();
        let mut gone = Vec::new();
        for delivery in lost {
            for member in inner.members.values_mut() {
                if let Some(holding) = member.let_go(delivery) {
                    let delivery_tokens = vec![holding.token()];
                    member.send(Message::Cancel(Cancel {
                        delivery_tokens,
                        reason: reason.to_owned(),
                    }));
                    gone.push(holding);
                } else if let Some(token) = member.named.get(&delivery) {
                    let delivery_tokens = vec![token.clone()];
                    member.send(Message::Cancel(Cancel {
                        delivery_tokens,
                        reason: reason.to_owned(),
                    }));
                }
            }
        }
        gone.iter().for_each(|holding| inner.ended(holding));
        drop(inner);
        self.claim.wake();
    }

    /// What has not been acknowledged in time, and what has taken too long.
    pub fn overdue(&self, now: Instant) -> Overdue {
        let inner = self.lock();
        let mut overdue = Overdue::default();
        for (session, member) in &inner.members {
            for holding in member.holding.values() {
                if holding.times_out <= now {
                    overdue.timed_out.push((*session, holding.clone()));
                } else if !holding.acknowledged
                    && member.acknowledges
                    && holding.unacknowledged_since(now)
                {
                    overdue.unacknowledged.push((*session, holding.clone()));
                }
            }
            overdue.holding |= !member.holding.is_empty();
        }
        overdue
    }
}

/// About how many bytes a delivery takes.
fn size(delivery: &Delivery) -> usize {
    let of = |payload: &tasker_api::v1::Payload| payload.data.len() + 200;
    delivery.context.as_ref().map_or(0, of)
        + delivery.dependency_results.values().map(of).sum::<usize>()
        + delivery.checkpoint.as_ref().map_or(0, prost::Message::encoded_len)
        + 600
}
