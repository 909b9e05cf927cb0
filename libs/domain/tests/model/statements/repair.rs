//! `steps/repair.sql`, `steps/expand.sql`, `steps/unlock.sql` and `tasks/resume.sql`, which are one commit.

use tasker_domain::{StepEvent, StepState, TaskEvent, TaskState};

use super::{Rules, admit_workers::admit_workers, create::lay_out};
use crate::{
    database::{Database, Fate, Message},
    flaw::Flaw,
};

/// Repairs a step by hand. If its task has failed, what its end has cancelled is reopened. A step that decides
/// is settled only by who says what it chooses.
pub(crate) fn repair(
    database: &mut Database,
    rules: &Rules,
    step: usize,
    (event, chosen): (StepEvent, Option<&[usize]>),
) {
    let has_failed = database.task == TaskState::Error;
    let of_task = match database.task {
        TaskState::Error => Some(TaskEvent::Reset),
        // The finalizer's turn: it finds what is repaired before it comes.
        TaskState::EvaluatingResults => None,
        _ => Some(TaskEvent::StepResolved),
    };
    let goes_on = of_task.is_none_or(|event| database.task.after(event).is_ok());
    let reopened = has_failed && database.allows(step, &[StepEvent::Reopen]);
    let path = path(reopened, event);
    // What would be born by it nobody has said.
    let undecided =
        event != StepEvent::ResetForRetry && chosen.is_none() && rules.graph.expands(step);
    // Others wait for its place.
    let of_batch = rules.graph.batch_of(step).is_some();
    let is_in_its_place = of_batch && !reopened && database.state(step) != Some(StepState::Error);
    if undecided || is_in_its_place {
        return;
    }
    if !goes_on || !database.allows(step, &path) {
        return;
    }
    for born in rules.graph.births(step, chosen.unwrap_or_default()) {
        lay_out(database, rules, born);
    }
    pass(database, step, &path);
    if event == StepEvent::ResetForRetry {
        begin_anew(database, step);
        let asks = rules.flaw != Some(Flaw::RepairsAskForNoPlace);
        if let Some(row) = database.steps[step].as_mut().filter(|_| of_batch && asks) {
            row.unmet_dependencies = 1;
        }
    }
    let mut moved = vec![step];
    if has_failed {
        moved.extend(reopen(database, rules));
    }
    if event != StepEvent::ResetForRetry {
        moved.extend(unlock(database, rules, step));
    }
    if moved.iter().any(|step| rules.graph.batch_of(*step).is_some()) {
        // Their messages are sent with them.
        let admitted = admit_workers(database, rules, 0);
        moved.retain(|step| !admitted.contains(step));
    }
    resume(database, of_task, moved);
}

/// What a step passes that was cancelled with its task, or not. Reopened, it need not be reset.
fn path(was_cancelled: bool, event: StepEvent) -> Vec<StepEvent> {
    match (was_cancelled, event) {
        (true, StepEvent::ResetForRetry) => vec![StepEvent::Reopen],
        (true, event) => vec![StepEvent::Reopen, event],
        (false, event) => vec![event],
    }
}

fn pass(database: &mut Database, step: usize, path: &[StepEvent]) {
    database.let_go(step);
    for event in path {
        database.move_step(step, *event);
    }
    database.end_lease(step, Fate::Lost);
}

/// Gives a step all its attempts; what its deliveries have cost is past.
fn begin_anew(database: &mut Database, step: usize) {
    for (_, fate) in database.fates.iter_mut().filter(|(delivery, _)| delivery.step == step) {
        *fate = Fate::Past;
    }
    if let Some(row) = &mut database.steps[step] {
        row.attempt = 0;
    }
}

/// Reopens what was cancelled, with the attempts that are left. What was cut off in its last has failed.
fn reopen(database: &mut Database, rules: &Rules) -> Vec<usize> {
    let steps = 0..database.steps.len();
    let cancelled: Vec<usize> =
        steps.filter(|step| database.allows(*step, &[StepEvent::Reopen])).collect();
    for step in &cancelled {
        let attempt = database.steps[*step].as_ref().map_or(0, |row| row.attempt);
        let spent = attempt >= rules.max_attempts && rules.flaw != Some(Flaw::ReopensWhatIsSpent);
        let path = [StepEvent::Reopen, StepEvent::Fail];
        pass(database, *step, &path[..if spent { 2 } else { 1 }]);
    }
    cancelled
}

/// Counts a settled step off its children, and returns them.
fn unlock(database: &mut Database, rules: &Rules, parent: usize) -> Vec<usize> {
    let children: Vec<usize> = rules.graph.unlocked_by(parent).collect();
    for child in &children {
        if let Some(row) = &mut database.steps[*child] {
            row.unmet_dependencies -= 1;
        }
    }
    children
}

/// Has the task go on: its steps are counted anew, and those that were touched and are ready are sent.
fn resume(database: &mut Database, event: Option<TaskEvent>, touched: Vec<usize>) {
    database.counts = database.recounted();
    for step in touched {
        let row = database.steps[step].as_ref();
        if row.is_some_and(|row| row.state == StepState::Pending && row.unmet_dependencies == 0) {
            database.send(Message::Ready(step));
        }
    }
    if let Some(event) = event {
        database.move_task(event);
    }
    database.evaluate();
}
