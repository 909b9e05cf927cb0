//! `tasks/create.sql`

use tasker_domain::{StepEvent, StepState, TaskEvent};

use super::Rules;
use crate::database::{Database, Message, Session, Step};

/// Gives birth to the task with the steps that need no decision. The first of those that wait for nothing
/// begins at once if a place is kept for it.
pub(crate) fn create(rules: &Rules, place: Option<Session>) -> Database {
    let mut database = Database::before_birth(rules.graph.len());
    database.begun = rules.rate().map(|_| 0);
    database.move_task(TaskEvent::Start);
    let with_it = (0..rules.graph.len()).filter(|step| rules.graph.is_born_with_the_task(*step));
    for step in with_it {
        lay_out(&mut database, rules, step);
    }
    database.move_task(TaskEvent::ReadyStepsFound);
    if let Some(session) = place {
        begin_the_first(&mut database, session);
    }
    database
}

fn begin_the_first(database: &mut Database, session: Session) {
    let waits_for_nothing = |step: &usize| database.has(&Message::Ready(*step));
    let Some(first) = (0..database.steps.len()).find(waits_for_nothing) else { return };
    database.take(&Message::Ready(first));
    database.move_step(first, StepEvent::Enqueue);
    database.begin(first, session);
    database.counts.ready -= 1;
    database.counts.in_flight += 1;
    if database.counts.ready == 0 {
        database.move_task(TaskEvent::StepsEnqueued);
    }
}

/// Gives birth to a step, which waits for those of its parents that there are and that are not satisfied.
pub(super) fn lay_out(database: &mut Database, rules: &Rules, step: usize) {
    let parents = rules.graph.parents(step).iter();
    let unmet = parents.filter(|parent| {
        database.state(**parent).is_some_and(|state| !state.satisfies_dependants())
    });
    let unmet = match rules.graph.batch_of(step) {
        // Its plan is being taken. It waits for a place, if the others before it have all there are.
        Some(batch) => usize::from(step > batch.parallelism),
        None => unmet.count(),
    };
    let unmet_dependencies = u8::try_from(unmet).expect("the graphs are small");
    database.steps[step] = Some(Step {
        state: StepState::Pending,
        unmet_dependencies,
        attempt: 0,
        delivery: None,
        accepted: None,
        result: None,
    });
    database.counts.total += 1;
    if unmet_dependencies == 0 {
        database.counts.ready += 1;
        database.send(Message::Ready(step));
    }
}
