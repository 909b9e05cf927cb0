//! What must hold in every state that can be reached.

use std::collections::BTreeSet;

use stateright::Property;
use tasker_domain::{StepState, TaskEvent, TaskState};

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
pub(crate) const STANDS: &str = "a task stands where its steps have it stand";
pub(crate) const ORDER: &str = "no step begins before its parents are satisfied";
pub(crate) const ATTEMPTS: &str = "every attempt is counted, and there are no more than allowed";
pub(crate) const OUTBOX: &str = "a state and its message change in one commit";
pub(crate) const LEASES: &str = "a step in progress is held under its delivery, and no other is";
pub(crate) const ONE_HOLDER: &str = "a delivery is at one worker";
pub(crate) const PAUSES: &str = "nothing begins of what is paused";
pub(crate) const LIMITS: &str = "no more steps run than the limit says";
pub(crate) const RATES: &str = "no more steps begin in a time than the rate says";
pub(crate) const YIELDS: &str =
    "what has yielded goes on, and is not cut off as if it had not begun";
pub(crate) const PLACES: &str = "no more workers of a batch have a place than may";
pub(crate) const PLACES_ARE_USED: &str = "no worker of a batch waits while a place is free";
pub(crate) const FAILS_FAST: &str = "of a batch that fails fast, nobody begins after a failure";

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
        Promise::always(STANDS, |_, world| stands_rightly(&world.database)),
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
            // What was held by the pause of a template is sent right after that.
            let may_be_late = world.messages_were_lost || world.lets_go;
            may_be_late || statements::forgotten(&world.database).is_empty()
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
        Promise::always(PAUSES, |_, world| !world.database.began_while_paused),
        Promise::always(LIMITS, |model, world| {
            model.rules.max_concurrent().is_none_or(|most| running(&world.database) <= most)
        }),
        Promise::always(RATES, |model, world| {
            let begun = world.database.begun.map_or(0, usize::from);
            model.rules.rate().is_none_or(|most| begun <= most)
        }),
        Promise::always(YIELDS, |model, world| {
            steps(model).all(|step| {
                let database = &world.database;
                let is_cut_off =
                    database.state(step) == Some(StepState::Error) && spent(database, step) == 0;
                !is_cut_off || of_step(database, step).all(|fate| fate != Fate::Yielded)
            })
        }),
        Promise::always(PLACES, |model, world| {
            parallelism(model).is_none_or(|most| placed(model, &world.database) <= most)
        }),
        Promise::always(PLACES_ARE_USED, |model, world| {
            let database = &world.database;
            let waits = model.rules.graph.workers().any(|it| statements::waits(database, it));
            !waits || parallelism(model) == Some(placed(model, database))
        }),
        Promise::always(FAILS_FAST, |model, world| {
            // An operator may have brought back the one that had failed, or the other.
            world.interventions < model.interventions || fails_fast(model, &world.database)
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

/// That it holds something back, which begins when its time is over.
pub(crate) fn of_a_rate() -> Promise {
    Promise::sometimes("a step waits for nothing but the time of its rate", |model, world| {
        let database = &world.database;
        let by_limit = database.held_by_limit().next().is_some();
        by_limit && running(database) == 0 && !statements::has_room(database, &model.rules)
    })
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
    at_rest
        && database.messages().next().is_none()
        && database.leases.is_empty()
        && database.held.is_empty()
}

fn running(database: &Database) -> usize {
    states(database).filter(|state| *state == StepState::InProgress).count()
}

fn parallelism(model: &LifeCycle) -> Option<usize> {
    let graph = &model.rules.graph;
    graph.workers().find_map(|worker| graph.batch_of(worker)).map(|batch| batch.parallelism)
}

fn placed(model: &LifeCycle, database: &Database) -> usize {
    model.rules.graph.workers().filter(|it| statements::has_place(database, *it)).count()
}

/// Where a worker has failed, no other is about to begin that never was at a worker.
fn fails_fast(model: &LifeCycle, database: &Database) -> bool {
    let graph = &model.rules.graph;
    let mut of_batch =
        graph.workers().filter(|it| graph.batch_of(*it).is_some_and(|b| b.fails_fast));
    let failed = of_batch.clone().any(|it| database.state(it) == Some(StepState::Error));
    !failed
        || of_batch.all(|it| {
            let is_open = database.state(it).is_some_and(StepState::is_open);
            !is_open || database.minted[it] > 0
        })
}

/// By a look at each step. While nothing moves, the finalizer may not have seen it yet.
fn stands_rightly(database: &Database) -> bool {
    let nothing_moves = TaskState::EvaluatingResults;
    let allowed = match TaskEvent::judged(&database.recounted()) {
        TaskEvent::ReadyStepsFound => [TaskState::EnqueuingSteps; 2],
        TaskEvent::StepsStillInProcess => [TaskState::StepsInProcess; 2],
        TaskEvent::RetryPending => [TaskState::WaitingForRetry; 2],
        TaskEvent::NoDependenciesReady => [TaskState::WaitingForDependencies, nothing_moves],
        TaskEvent::PermanentFailure => [TaskState::BlockedByFailures, nothing_moves],
        _ => [nothing_moves; 2],
    };
    database.task.is_end() || allowed.contains(&database.task)
}

fn counts_are_right(model: &LifeCycle, world: &World) -> bool {
    let database = &world.database;
    database.counts == database.recounted()
        && steps(model).all(|step| {
            database.steps[step].as_ref().is_none_or(|row| {
                // Its worker waits for a place, or for nothing: that is promised by itself.
                model.rules.graph.batch_of(step).is_some()
                    || usize::from(row.unmet_dependencies) == unmet(model, database, step)
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
    let spent = |fate: &Fate| matches!(fate, Fate::Held | Fate::Taken | Fate::Lost);
    of_step(database, step).filter(spent).count()
}

/// What became of a step's deliveries.
fn of_step(database: &Database, step: usize) -> impl Iterator<Item = Fate> + '_ {
    let of_it = database.fates.iter().filter(move |(delivery, _)| delivery.step == step);
    of_it.map(|(_, fate)| *fate)
}

fn states(database: &Database) -> impl Iterator<Item = StepState> + '_ {
    database.steps.iter().flatten().map(|step| step.state)
}

fn steps(model: &LifeCycle) -> std::ops::Range<usize> {
    0..model.rules.graph.len()
}
