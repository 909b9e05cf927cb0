//! `steps/expire.sql`

use tasker_domain::StepEvent;

use super::Rules;
use crate::{
    database::{Database, Delivery, Fate, Outcome},
    flaw::Flaw,
};

/// Ends a lease that its worker has lost. That is a failure like any other, but not under the worker's
/// delivery: if its own result comes late, it was not taken before.
pub(crate) fn expire(database: &mut Database, rules: &Rules, delivery: Delivery) {
    let step = delivery.step;
    if database.leases.get(&step).is_none_or(|lease| lease.delivery != delivery) {
        return;
    }
    let loss = database.mint(step);
    let moved = database.move_step(step, StepEvent::LeaseExpired);
    if rules.flaw == Some(Flaw::LostLeasesAreFree) {
        moved.attempt -= 1;
    }
    database.end_lease(step, Fate::Lost);
    database.queue_result(loss, Outcome::Failure { retryable: true });
}
