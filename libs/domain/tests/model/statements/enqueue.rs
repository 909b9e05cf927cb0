//! `steps/enqueue.sql`

use tasker_domain::{StepEvent, TaskEvent};

use super::Rules;
use crate::{
    database::{Database, Hold, Message, Session},
    flaw::Flaw,
};

/// Puts a ready step into its worker queue, or gives it to a connected worker at once. What is paused, as far
/// as the statement has seen, or has a limit, is held.
pub(crate) fn enqueue(
    database: &mut Database,
    rules: &Rules,
    (step, place): (usize, Option<Session>),
    paused: bool,
) {
    let taken = database.take(&Message::Ready(step));
    let limited = rules.limit.map(|_| Hold::Limit);
    let hold = if paused { Some(Hold::Pause) } else { limited };
    let unlocked = database.steps[step].as_ref().is_some_and(|step| step.unmet_dependencies == 0);
    let task = database.task.after(TaskEvent::StepsEnqueued);
    if !taken || !unlocked || task.is_err() || !database.allows(step, &[StepEvent::Enqueue]) {
        return;
    }
    if let Some(hold) = hold {
        if rules.flaw == Some(Flaw::HoldsUncounted) {
            database.held.insert(step, hold);
        } else {
            database.hold(step, hold);
        }
        database.has_enqueued();
        return;
    }
    // A twin comes between the end of a pause and what lets go of what it held.
    database.let_go(step);
    database.move_step(step, StepEvent::Enqueue);
    match place {
        Some(session) => database.begin(step, session),
        None => database.send(Message::Enqueued(step)),
    }
    database.counts.ready -= 1;
    database.counts.in_flight += 1;
    database.has_enqueued();
}
