//! `pauses/pause_task.sql`, `pauses/resume_task.sql` and `held_steps/let_go.sql`, which is one commit with it.

use tasker_domain::StepState;

use super::Rules;
use crate::{
    database::{Database, Hold, Message},
    flaw::Flaw,
};

/// Has nothing new begin.
pub(crate) fn pause(database: &mut Database) {
    database.paused |= !database.task.is_end();
}

/// Lets the task go on, and sends what the pause held. What has moved on meanwhile is forgotten.
pub(crate) fn resume(database: &mut Database, rules: &Rules) {
    database.paused = false;
    if rules.flaw == Some(Flaw::ResumesAlone) {
        return;
    }
    let by_pause = database.held.iter().filter(|(_, hold)| **hold == Hold::Pause);
    let freed: Vec<usize> = by_pause.map(|(step, _)| *step).collect();
    for step in freed {
        database.held.remove(&step);
        let Some(row) = &database.steps[step] else { continue };
        match row.state {
            StepState::Pending if row.unmet_dependencies == 0 => {
                database.send(Message::Ready(step));
            }
            StepState::Enqueued => database.send(Message::Enqueued(step)),
            _ => {}
        }
    }
}
