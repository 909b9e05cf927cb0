//! `steps/start.sql`, and `steps/hold.sql`, which is for steps with limits.

use tasker_domain::StepEvent;

use super::Rules;
use crate::{
    database::{Database, Hold, Message, Session},
    flaw::Flaw,
};

/// Gives a step from its worker queue to a worker. What is paused is held; and what has a limit, which was
/// given back: it has no slot any more.
pub(crate) fn start(database: &mut Database, rules: &Rules, step: usize, session: Session) {
    if !database.take(&Message::Enqueued(step)) || !database.allows(step, &[StepEvent::Start]) {
        return;
    }
    if rules.limit.is_some() && rules.flaw != Some(Flaw::BeginsFromItsQueue) {
        database.hold(step, Hold::Limit);
    } else if database.paused {
        database.hold(step, Hold::Pause);
    } else {
        database.let_go(step);
        database.begin(step, session);
    }
}
