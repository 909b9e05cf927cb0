//! `steps/start.sql`

use tasker_domain::StepEvent;

use crate::database::{Database, Message, Session};

/// Gives a step from its worker queue to a worker.
pub(crate) fn start(database: &mut Database, step: usize, session: Session) {
    if database.take(&Message::Enqueued(step)) && database.allows(step, &[StepEvent::Start]) {
        database.begin(step, session);
    }
}
