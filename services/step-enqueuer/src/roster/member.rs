//! One connected worker.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use tasker_api::v1::{WorkResponse, work_response::Message};
use tasker_domain::SessionId;
use tasker_store::Held;
use tokio::sync::mpsc;
use tonic::Status;
use uuid::Uuid;

use super::response;
use crate::at_hand::TaskAtHand;

/// How long a worker may take to acknowledge a delivery.
const ACKNOWLEDGE: Duration = Duration::from_secs(2);

/// A place in the roster, and the session that leases there belong to. A stream has one of each; a
/// session that polls has a place for each call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Seat {
    pub place: SessionId,
    pub session: SessionId,
}

/// A worker with what it holds.
pub struct Member {
    pub session: SessionId,
    pub namespaces: Vec<String>,
    pub handlers: Vec<String>,
    /// How many deliveries it may hold.
    pub credit: usize,
    /// Places that are promised to steps on their way.
    pub reserved: usize,
    /// Of those, how many are of deliveries that it still holds.
    pub passed_on: usize,
    /// What it holds, by delivery.
    pub holding: HashMap<Uuid, Holding>,
    /// What it has of earlier calls, if it polls, as it knows it: it is told when it loses any of that.
    pub named: HashMap<Uuid, String>,
    /// Whether it acknowledges deliveries one by one.
    pub acknowledges: bool,
    /// Its stream.
    pub out: mpsc::Sender<Result<WorkResponse, Status>>,
}

/// A delivery at a worker.
#[derive(Debug, Clone)]
pub struct Holding {
    pub held: Held,
    /// Not known of a lease that came with its worker from elsewhere.
    pub task: Option<Arc<TaskAtHand>>,
    pub attempt: i32,
    pub acknowledged: bool,
    pub since: Instant,
    /// When the attempt has taken too long.
    pub times_out: Instant,
    /// Whether its place is promised to a step that its result may unlock.
    pub passed_on: bool,
}

impl Member {
    /// How many more deliveries it may get.
    pub fn free(&self) -> usize {
        self.credit.saturating_sub(self.holding.len() + self.reserved)
    }

    /// Promises the place of a delivery to a step that its result may unlock, unless the worker has been
    /// told to hold less.
    pub fn pass_on(&mut self, delivery: Uuid) -> bool {
        let will_hold = self.holding.len() + self.reserved - self.passed_on;
        match self.holding.get_mut(&delivery) {
            Some(holding) if !holding.passed_on && will_hold <= self.credit => {
                holding.passed_on = true;
                self.passed_on += 1;
                self.reserved += 1;
                true
            }
            _ => false,
        }
    }

    /// Keeps a delivery although its result came: it was none.
    pub fn keep(&mut self, delivery: Uuid) {
        if let Some(holding) = self.holding.get_mut(&delivery)
            && std::mem::take(&mut holding.passed_on)
        {
            self.passed_on -= 1;
        }
    }

    /// Takes a delivery off it.
    pub fn let_go(&mut self, delivery: Uuid) -> Option<Holding> {
        self.keep(delivery);
        self.holding.remove(&delivery)
    }

    /// Sends it something. Says whether that could be done: a worker that does not read has no room.
    pub fn send(&self, message: Message) -> bool {
        self.out.try_send(Ok(response(message))).is_ok()
    }
}

impl Holding {
    pub fn unacknowledged_since(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= ACKNOWLEDGE
    }

    /// As the worker knows it.
    pub fn token(&self) -> String {
        let Held { task_id, ordinal, delivery_id } = self.held;
        tasker_api::DeliveryToken { task_id, ordinal, delivery_id, attempt: self.attempt }
            .to_string()
    }
}
