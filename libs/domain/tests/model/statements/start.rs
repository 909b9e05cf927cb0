//! `steps/start.sql`

use tasker_domain::StepEvent;

use crate::database::{Database, Hold, Message, Session};

/// Gives a step from its worker queue to a worker. What is paused is held; what has a limit has its slot.
pub(crate) fn start(database: &mut Database, step: usize, session: Session) {
    if !database.take(&Message::Enqueued(step)) || !database.allows(step, &[StepEvent::Start]) {
        return;
    }
    if database.paused {
        database.held.insert(step, Hold::Pause);
    } else {
        database.begin(step, session);
    }
}
