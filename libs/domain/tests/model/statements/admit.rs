//! `steps/admit.sql`, under the lock of the limit.

use tasker_domain::{StepEvent, TaskEvent};

use super::{Rules, usage::grant};
use crate::database::{Database, Hold, Session};

/// Begins a step that the limit held when somebody looked, perhaps once more. What has moved on is forgotten;
/// what is held by then for another reason, or not at all, begins like the rest.
pub(crate) fn admit(
    database: &mut Database,
    rules: &Rules,
    step: usize,
    session: Session,
    has_room: bool,
) {
    if !has_room {
        return;
    }
    if database.paused {
        if let Some(hold) = database.held.get_mut(&step) {
            *hold = Hold::Pause;
        }
        return;
    }
    database.let_go(step);
    let unlocked = database.steps[step].as_ref().is_some_and(|row| row.unmet_dependencies == 0);
    let fresh = database.allows(step, &[StepEvent::Enqueue]);
    let given_back = database.allows(step, &[StepEvent::Start]);
    let task = match fresh {
        true => database.enqueues_again().after(TaskEvent::StepsEnqueued).is_ok(),
        false => !database.task.is_end(),
    };
    if !unlocked || !task || !(fresh || given_back) {
        return;
    }
    if fresh {
        database.move_step(step, StepEvent::Enqueue);
    }
    database.begin(step, session);
    grant(database, rules, step);
    if !fresh {
        return;
    }
    database.counts.ready -= 1;
    database.counts.in_flight += 1;
    if database.counts.to_enqueue() == 0 {
        database.task = database.enqueues_again();
        database.move_task(TaskEvent::StepsEnqueued);
    }
}
