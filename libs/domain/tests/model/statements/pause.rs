//! `pauses/pause_task.sql` and `pauses/pause_template.sql`, `pauses/resume_task.sql` and
//! `pauses/resume_template.sql`, and `held_steps/let_go.sql`.
//!
//! Who pauses or resumes a template has the lock that all who begin steps share. So these, too, are judged
//! by the pauses that there are when they commit, as a task's lock has it for its own.

use tasker_domain::StepState;

use super::{Pauses, Rules};
use crate::{
    database::{Database, Hold, Message},
    flaw::Flaw,
};

/// Has nothing new begin.
pub(crate) fn pause(database: &mut Database) {
    database.paused |= !database.task.is_end();
}

/// Lets the task go on. That of a task lets go what it held in the same commit, that of a template later.
pub(crate) fn resume(database: &mut Database, rules: &Rules) {
    database.paused = false;
    if rules.pauses == Pauses::Task && rules.flaw != Some(Flaw::ResumesAlone) {
        let_go(database);
    }
}

/// Sends what the pause held. What has moved on meanwhile is forgotten.
pub(crate) fn let_go(database: &mut Database) {
    if database.paused {
        return;
    }
    let by_pause = database.held.iter().filter(|(_, hold)| **hold == Hold::Pause);
    let freed: Vec<usize> = by_pause.map(|(step, _)| *step).collect();
    for step in freed {
        send_again(database, step);
    }
}

/// Sends a step that was held, if it has not moved on; where it is ready, its task enqueues again.
pub(super) fn send_again(database: &mut Database, step: usize) {
    database.let_go(step);
    let Some(row) = &database.steps[step] else { return };
    match row.state {
        StepState::Pending if row.unmet_dependencies == 0 => {
            database.send(Message::Ready(step));
            database.task = database.enqueues_again();
        }
        StepState::Enqueued => database.send(Message::Enqueued(step)),
        _ => {}
    }
}
