//! `steps/yield.sql`

use tasker_domain::StepEvent;

use super::{Rules, Source, is_fenced};
use crate::database::{Database, Delivery, Fate, Message};

/// Takes a step back that its worker has begun, to go on later: it costs no attempt, and no slot.
pub(crate) fn yield_step(database: &mut Database, rules: &Rules, delivery: Delivery) {
    let step = delivery.step;
    let fenced = is_fenced(database, rules, delivery, Source::Worker);
    if !fenced || !database.allows(step, &[StepEvent::Release]) {
        return;
    }
    let moved = database.move_step(step, StepEvent::Release);
    moved.attempt -= 1;
    moved.accepted = Some(delivery);
    database.end_lease(step, Fate::Yielded);
    database.send(Message::Enqueued(step));
}
