//! `steps/retry.sql`

use tasker_domain::{StepEvent, TaskEvent};

use crate::database::{Database, Message};

/// Makes a step ready again whose back-off is over.
pub(crate) fn retry(database: &mut Database, step: usize) {
    if database.task.is_end() || !database.allows(step, &[StepEvent::Retry]) {
        return;
    }
    database.move_step(step, StepEvent::Retry);
    database.counts.waiting_for_retry -= 1;
    database.counts.ready += 1;
    database.send(Message::Ready(step));
    // A task that enqueues other steps goes on doing so.
    if database.task.after(TaskEvent::RetryReady).is_ok() {
        database.move_task(TaskEvent::RetryReady);
    }
}
