//! Repairs by hand.

use tasker_domain::{StepEvent, StepState, TaskEvent, TaskState};

use super::{Rules, complete::unlock};
use crate::database::{Database, Fate, Message};

/// What an operator does to a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repair {
    /// Gives it another life.
    Reset,
    /// Gives its result.
    Complete,
    /// Settles it without one.
    Resolve,
}

/// Repairs a step. If its task has failed for good it lives again, and what was cancelled with it too.
pub(crate) fn repair(database: &mut Database, rules: &Rules, step: usize, repair: Repair) {
    let event = match repair {
        Repair::Reset => StepEvent::ResetForRetry,
        Repair::Complete => StepEvent::CompleteManually,
        Repair::Resolve => StepEvent::ResolveManually,
    };
    let of_task = match database.task {
        TaskState::Error => TaskEvent::Reset,
        _ => TaskEvent::StepResolved,
    };
    if database.task.after(of_task).is_err() || !database.allows(step, &[event]) {
        return;
    }
    leave(database, step);
    database.move_step(step, event);
    database.end_lease(step, Fate::Lost);
    if repair == Repair::Reset {
        begin_anew(database, step);
    } else {
        database.counts.satisfied += 1;
    }
    database.move_task(of_task);
    if of_task == TaskEvent::Reset {
        reopen(database);
    }
    if repair != Repair::Reset {
        unlock(database, rules, step, None);
    }
    database.evaluate();
}

/// Takes a step out of the count that it is in.
fn leave(database: &mut Database, step: usize) {
    let unlocked = database.steps[step].as_ref().is_some_and(|step| step.unmet_dependencies == 0);
    let counts = &mut database.counts;
    match database.steps[step].as_ref().map(|step| step.state) {
        Some(StepState::Pending) if unlocked => counts.ready -= 1,
        Some(StepState::WaitingForRetry) => counts.waiting_for_retry -= 1,
        Some(StepState::Error) => counts.failed -= 1,
        Some(state) if state.is_open() && state != StepState::Pending => counts.in_flight -= 1,
        _ => {}
    }
}

/// Makes a step that is pending as it was at its birth; what its deliveries have cost is past.
fn begin_anew(database: &mut Database, step: usize) {
    for (_, fate) in database.fates.iter_mut().filter(|(delivery, _)| delivery.step == step) {
        *fate = Fate::Past;
    }
    let Some(row) = &mut database.steps[step] else { return };
    row.attempt = 0;
    if row.unmet_dependencies == 0 {
        database.counts.ready += 1;
        database.send(Message::Ready(step));
    }
}

/// Reopens the steps that were cancelled with their task.
fn reopen(database: &mut Database) {
    for step in 0..database.steps.len() {
        if database.allows(step, &[StepEvent::Reopen]) {
            database.move_step(step, StepEvent::Reopen);
            begin_anew(database, step);
        }
    }
}
