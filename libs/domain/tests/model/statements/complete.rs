//! `steps/complete.sql`

use tasker_domain::{StepEvent, StepState, TaskEvent};

use super::{
    Rules, Source, admit_workers::admit_workers, create::lay_out, is_fenced, usage::give_back,
};
use crate::{
    database::{Database, Delivery, Message, Outcome, Session},
    flaw::Flaw,
};

/// Ends a step well, gives birth to what it has chosen, and unlocks its children. The first that it
/// unlocks begins at once if a place came with the result.
pub(crate) fn complete(
    database: &mut Database,
    rules: &Rules,
    (delivery, chosen): (Delivery, &[usize]),
    source: Source,
    place: Option<Session>,
) {
    let step = delivery.step;
    let events: &[StepEvent] = match source {
        Source::Worker => &[StepEvent::EnqueueForOrchestration, StepEvent::Complete],
        Source::Queue => &[StepEvent::Complete],
    };
    let message = Message::Result(delivery, Outcome::Success { chosen: chosen.to_vec() });
    let taken = source == Source::Worker || database.take(&message);
    let fenced = is_fenced(database, rules, delivery, source);
    let task = database.task.after(TaskEvent::StepCompleted);
    if !taken || !fenced || task.is_err() || !database.allows(step, events) {
        return;
    }
    // Before the step is taken, which then unlocks them like its other children.
    for born in rules.graph.births(step, chosen) {
        lay_out(database, rules, born);
    }
    if rules.graph.batch_of(step).is_some() {
        admit_workers(database, rules, 1);
    }
    for event in events {
        database.move_step(step, *event);
    }
    if source == Source::Worker {
        database.accept(delivery);
    }
    give_back(database, rules, step);
    database.counts.in_flight -= 1;
    database.counts.satisfied += 1;
    database.move_task(TaskEvent::StepCompleted);
    let counts = rules.flaw != Some(Flaw::CountsAfterTheCommit);
    let began = counts && unlock(database, rules, step, place);
    move_on(database, rules, began);
}

/// Counts a satisfied step off its children. Says whether one of them has begun.
fn unlock(
    database: &mut Database,
    rules: &Rules,
    parent: usize,
    mut place: Option<Session>,
) -> bool {
    let mut began = false;
    // Steps that have a limit take no places.
    let passes = !database.paused || rules.flaw == Some(Flaw::PlacesPassThePause);
    place = place.filter(|_| passes && rules.limit.is_none());
    for child in rules.graph.unlocked_by(parent) {
        let Some(step) = &mut database.steps[child] else { continue };
        step.unmet_dependencies -= 1;
        if step.unmet_dependencies > 0 || step.state != StepState::Pending {
            continue;
        }
        if let Some(session) = place.take() {
            database.move_step(child, StepEvent::Enqueue);
            database.begin(child, session);
            database.counts.in_flight += 1;
            began = true;
        } else {
            database.counts.ready += 1;
            database.send(Message::Ready(child));
        }
    }
    began
}

/// Where a child has begun, the task passes where it would have been enqueued. With its last step it ends.
fn move_on(database: &mut Database, rules: &Rules, began: bool) {
    let counts = &database.counts;
    let is_over = match rules.flaw {
        Some(Flaw::EndsWithWhatMovesLast) => {
            counts.ready + counts.in_flight + counts.waiting_for_retry == 0
        }
        _ => counts.satisfied == counts.total,
    };
    if is_over {
        database.move_task(TaskEvent::AllStepsSuccessful);
    } else if began && counts.to_enqueue() == 0 {
        database.move_task(TaskEvent::ReadyStepsFound);
        database.move_task(TaskEvent::StepsEnqueued);
    } else {
        database.evaluate();
    }
}

/// What the twin with [`Flaw::CountsAfterTheCommit`] does later, in a commit of its own.
pub(crate) fn count_down(database: &mut Database, rules: &Rules, parent: usize) {
    if database.task.after(TaskEvent::DependenciesReady).is_ok() {
        database.move_task(TaskEvent::DependenciesReady);
        unlock(database, rules, parent, None);
        database.evaluate();
    }
}
