//! `tasks/end.sql`

use tasker_domain::{StepEvent, StepState, TaskEvent};

use super::Rules;
use crate::{
    database::{Database, Fate},
    flaw::Flaw,
};

/// Ends a task by hand or by a limit, and with it all of its steps that are open.
pub(crate) fn end(database: &mut Database, rules: &Rules, event: TaskEvent) {
    if database.task.after(event).is_err() {
        return;
    }
    database.move_task(event);
    if rules.flaw == Some(Flaw::EndsOnlyTheTask) {
        return;
    }
    for step in 0..database.steps.len() {
        if database.state(step).is_some_and(StepState::is_open) {
            database.move_step(step, StepEvent::Cancel);
            database.end_lease(step, Fate::Lost);
        }
    }
    database.held.clear();
    database.counts.ready = 0;
    database.counts.held = 0;
    database.counts.in_flight = 0;
    database.counts.waiting_for_retry = 0;
}
