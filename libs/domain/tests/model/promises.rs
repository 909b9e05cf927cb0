//! What must hold in every state that can be reached.

use std::collections::BTreeSet;

use stateright::Property;
use tasker_domain::{StepState, TaskState};

use crate::{
    database::{Database, Fate, Message},
    life_cycle::LifeCycle,
    statements,
    world::World,
};

pub(crate) const NO_STEP_IS_LOST: &str =
    "no step is lost: where nothing is left to do, the task rests";
pub(crate) const TAKEN_ONCE: &str =
    "a result is taken once, and only from the worker that holds the step";
pub(crate) const ENDS_WITH_ITS_STEPS: &str = "no task ends with an open step";
pub(crate) const COMPLETE_IS_SATISFIED: &str = "a complete task has only satisfied steps";
pub(crate) const COUNTS: &str = "a task counts its steps, and a step its unmet dependencies";
pub(crate) const ORDER: &str = "no step begins before its parents are satisfied";
pub(crate) const ATTEMPTS: &str = "every attempt is counted, and there are no more than allowed";
pub(crate) const OUTBOX: &str = "a state and its message change in one commit";
pub(crate) const LEASES: &str = "a step in progress is held under its delivery, and no other is";
pub(crate) const ONE_HOLDER: &str = "a delivery is at one worker";

type Promise = Property<LifeCycle>;

/// All of them, and what must be possible, so that nothing holds only because nothing happens.
pub(crate) fn all() -> Vec<Promise> {
    vec![
        Promise::always(NO_STEP_IS_LOST, |model, world| {
            let mut left = Vec::new();
            model.progress(world, &mut left);
            !left.is_empty() || rests(&world.database)
        }),
        Promise::always(TAKEN_ONCE, |_, world| {
            world.database.fates.values().all(|fate| *fate != Fate::TakenWrongly)
        }),
        Promise::always(ENDS_WITH_ITS_STEPS, |_, world| {
            !world.database.task.is_end() || states(&world.database).all(|state| !state.is_open())
        }),
        Promise::always(COMPLETE_IS_SATISFIED, |_, world| {
            world.database.task != TaskState::Complete
                || states(&world.database).all(StepState::satisfies_dependants)
        }),
        Promise::always(COUNTS, counts_are_right),
        Promise::always(ORDER, |model, world| {
            steps(model).all(|step| {
                let begun = world.database.state(step).is_some_and(|state| {
                    matches!(state, StepState::Enqueued | StepState::InProgress)
                });
                !begun || unmet(model, &world.database, step) == 0
            })
        }),
        Promise::always(ATTEMPTS, |model, world| {
            world.database.steps.iter().enumerate().all(|(step, row)| {
                let spent = spent(&world.database, step);
                let counted = row.as_ref().map_or(0, |row| usize::from(row.attempt));
                spent == counted && spent <= usize::from(model.rules.max_attempts)
            })
        }),
        Promise::always(OUTBOX, |_, world| {
            world.messages_were_lost || statements::forgotten(&world.database).is_empty()
        }),
        Promise::always(LEASES, |_, world| {
            world.database.steps.iter().enumerate().all(|(step, row)| {
                let lease = world.database.leases.get(&step).map(|lease| lease.delivery);
                let held = row.as_ref().and_then(|row| row.delivery);
                let runs = world.database.state(step) == Some(StepState::InProgress);
                lease == held && held.is_some() == runs
            })
        }),
        Promise::always(ONE_HOLDER, |_, world| {
            let deliveries: BTreeSet<_> =
                world.hands.iter().map(|(delivery, _)| delivery).collect();
            deliveries.len() == world.hands.len()
        }),
        Promise::sometimes("a task completes", |_, world| {
            world.database.task == TaskState::Complete
        }),
        Promise::sometimes("a task is blocked by a failure", |_, world| {
            world.database.task == TaskState::BlockedByFailures
        }),
        Promise::sometimes("a step is tried again", |model, world| {
            steps(model).any(|step| spent(&world.database, step) > 1)
        }),
        Promise::sometimes("a step begins by its parent's result", |_, world| {
            let ready = |message: &Message| matches!(message, Message::Ready(_));
            world.database.leases.keys().any(|step| *step > 0)
                && !world.database.messages().any(ready)
        }),
    ]
}

/// Whether nothing is left behind by a task that has ended, or waits for somebody to repair it.
fn rests(database: &Database) -> bool {
    let at_rest = match database.task {
        TaskState::BlockedByFailures => {
            states(database).any(|state| state == StepState::Error)
                && states(database).all(|state| !state.is_open() || state == StepState::Pending)
        }
        task => task.is_end(),
    };
    at_rest && database.messages().next().is_none() && database.leases.is_empty()
}

fn counts_are_right(model: &LifeCycle, world: &World) -> bool {
    let database = &world.database;
    database.counts == database.recounted()
        && steps(model).all(|step| {
            database.steps[step].as_ref().is_none_or(|row| {
                usize::from(row.unmet_dependencies) == unmet(model, database, step)
            })
        })
}

/// Its parents that there are and that are not satisfied.
fn unmet(model: &LifeCycle, database: &Database, step: usize) -> usize {
    let parents = model.rules.graph.parents(step).iter();
    parents
        .filter(|parent| {
            database.state(**parent).is_some_and(|state| !state.satisfies_dependants())
        })
        .count()
}

/// How many attempts its workers have had in this life.
fn spent(database: &Database, step: usize) -> usize {
    let of_it = database.fates.iter().filter(|(delivery, _)| delivery.step == step);
    of_it.filter(|(_, fate)| matches!(fate, Fate::Held | Fate::Taken | Fate::Lost)).count()
}

fn states(database: &Database) -> impl Iterator<Item = StepState> + '_ {
    database.steps.iter().flatten().map(|step| step.state)
}

fn steps(model: &LifeCycle) -> std::ops::Range<usize> {
    0..model.rules.graph.len()
}
