//! `steps/release.sql`

use tasker_domain::StepEvent;

use crate::database::{Database, Delivery, Fate, Message};

/// Takes a delivery back that was never begun: it costs no attempt.
pub(crate) fn release(database: &mut Database, delivery: Delivery) {
    let step = delivery.step;
    if database.leases.get(&step).is_none_or(|lease| lease.delivery != delivery) {
        return;
    }
    database.move_step(step, StepEvent::Release).attempt -= 1;
    database.end_lease(step, Fate::Returned);
    database.send(Message::Enqueued(step));
}
