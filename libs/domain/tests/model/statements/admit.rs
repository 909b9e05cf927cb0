//! `steps/admit.sql`, under the lock of the limit.

use tasker_domain::{StepEvent, StepState, TaskEvent};

use super::Rules;
use crate::{
    database::{Database, Hold, Session, Step},
    flaw::Flaw,
};

/// Whether the limit has a slot.
pub(crate) fn has_room(database: &Database, rules: &Rules) -> bool {
    rules.limit.is_some_and(|most| in_use(database, rules) < most)
}

/// How many slots are in use: of attempts that run.
fn in_use(database: &Database, rules: &Rules) -> usize {
    match rules.flaw {
        Some(Flaw::SlotsAreGivenBack) => count(database, |_, _| true),
        _ => count(database, |step, granted| is_in_use(database, step, granted)),
    }
}

fn count(database: &Database, is_in_use: impl Fn(usize, u8) -> bool) -> usize {
    let used = database.grants.iter().filter(|((step, granted), _)| is_in_use(*step, *granted));
    used.map(|(_, times)| usize::from(*times)).sum()
}

fn is_in_use(database: &Database, step: usize, granted: u8) -> bool {
    let runs = |row: &Step| row.state == StepState::InProgress && row.attempt == granted;
    database.steps[step].as_ref().is_some_and(runs)
}

/// Begins a step that the limit held, perhaps once more. What has moved on is forgotten.
pub(crate) fn admit(
    database: &mut Database,
    rules: &Rules,
    step: usize,
    session: Session,
    has_room: bool,
) {
    if database.held.get(&step) != Some(&Hold::Limit) || !has_room {
        return;
    }
    if database.paused {
        database.held.insert(step, Hold::Pause);
        return;
    }
    database.held.remove(&step);
    let unlocked = database.steps[step].as_ref().is_some_and(|row| row.unmet_dependencies == 0);
    let fresh = database.allows(step, &[StepEvent::Enqueue]);
    let given_back = database.allows(step, &[StepEvent::Start]);
    let task = match fresh {
        true => database.task.after(TaskEvent::StepsEnqueued).is_ok(),
        false => !database.task.is_end(),
    };
    if !unlocked || !task || !(fresh || given_back) {
        return;
    }
    if fresh {
        database.move_step(step, StepEvent::Enqueue);
    }
    database.begin(step, session);
    let attempt = database.steps[step].as_ref().map_or(0, |row| row.attempt);
    if rules.flaw == Some(Flaw::SlotsAreGivenBack) {
        *database.grants.entry((step, attempt)).or_default() += 1;
    } else {
        // One of an attempt with the same number before the step was reset is outdated.
        database.grants.insert((step, attempt), 1);
    }
    if !fresh {
        return;
    }
    database.counts.ready -= 1;
    database.counts.in_flight += 1;
    if database.counts.ready == 0 {
        database.move_task(TaskEvent::StepsEnqueued);
    }
}

/// What the twin with [`Flaw::SlotsAreGivenBack`] does where a worker's result is taken.
pub(super) fn give_back(database: &mut Database, rules: &Rules, step: usize) {
    if rules.flaw == Some(Flaw::SlotsAreGivenBack) {
        database.grants.retain(|(of, _), _| *of != step);
    }
}
