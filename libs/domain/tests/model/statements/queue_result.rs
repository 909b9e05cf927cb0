//! `steps/queue_result.sql`

use tasker_domain::StepEvent;

use super::{Rules, Source, is_fenced};
use crate::database::{Database, Delivery, Outcome};

/// Takes a result while nobody is there to judge it, behind the same fence.
pub(crate) fn queue_result(
    database: &mut Database,
    rules: &Rules,
    delivery: Delivery,
    outcome: &Outcome,
) {
    let event = match outcome {
        Outcome::Success { .. } => StepEvent::EnqueueForOrchestration,
        Outcome::Failure { .. } => StepEvent::EnqueueAsErrorForOrchestration,
    };
    let fenced = is_fenced(database, rules, delivery, Source::Worker);
    if fenced && database.allows(delivery.step, &[event]) {
        database.move_step(delivery.step, event);
        database.accept(delivery);
        database.queue_result(delivery, outcome.clone());
    }
}
