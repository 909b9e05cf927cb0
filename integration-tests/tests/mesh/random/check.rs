//! What was: the history of a task, held against what must be.

use std::collections::{BTreeMap, BTreeSet};

use tasker_domain::{StepEvent, StepState, TaskState};
use tasker_integration_tests::{Answer, Move, Record, Row};

use super::{
    plan::{Batch, Hand, Kind, Plan, Step, Strategy},
    reference::{self, Chance, Must},
};

pub(super) mod limits;
pub(super) mod rates;
mod tests;

/// Why a worker of a batch ended that had not begun.
const CUT_OFF: &str = "BATCH_FAILED_FAST";

/// Says all that is wrong in the history of a plan's task.
pub(super) fn wrong(plan: &Plan, record: &Record) -> Vec<String> {
    let mut wrong = Vec::new();
    let chance = chance(plan, record);
    let may_be_cancelled = match plan.hand {
        Hand::Cancels => true,
        // What nobody can settle by hand has failed.
        Hand::Resolves => stands_expanding(plan, record, StepState::Error),
        Hand::Off | Hand::PausesTask | Hand::PausesTemplate => false,
    };
    let must = if record.state == TaskState::Cancelled && may_be_cancelled {
        may_be(plan, record, &mut wrong)
    } else {
        must_be(plan, record, &chance, &mut wrong)
    };
    order(plan, record, &must, &mut wrong);
    endings(record, &mut wrong);
    attempts(record, &mut wrong);
    for step in &plan.steps {
        if let Kind::BatchWorker(batch) = step.kind {
            let rows: BTreeSet<String> = step.rows().into_iter().collect();
            places(record, &rows, batch, &mut wrong);
            failing_fast(record, &rows, batch, &mut wrong);
        }
    }
    wrong
}

/// Whether a step whose result says what comes into being stands so.
fn stands_expanding(plan: &Plan, record: &Record, state: StepState) -> bool {
    let expanding = plan.steps.iter().filter(|step| step.expands());
    expanding.filter_map(|step| record.rows.get(&step.name)).any(|row| row.state == state)
}

/// What chance has decided in a task.
fn chance(plan: &Plan, record: &Record) -> Chance {
    let expired = |it: &&Move| it.events.contains(&StepEvent::LeaseExpired);
    let lost = record.moves.iter().filter(expired).map(|it| (it.step.clone(), it.attempt));
    let cut_off = record.moves.iter().filter(|it| it.reason.as_deref() == Some(CUT_OFF));
    Chance {
        lost: lost.collect(),
        cut_off: cut_off.map(|it| it.step.clone()).collect(),
        resolved: plan.hand == Hand::Resolves,
        well: false,
    }
}

/// Of a task that has come to rest: it has these steps and no others, and each has come to its end.
fn must_be(
    plan: &Plan,
    record: &Record,
    chance: &Chance,
    wrong: &mut Vec<String>,
) -> BTreeMap<String, Must> {
    let must = reference::steps(plan, chance);
    if record.state != reference::task(&must) {
        wrong.push(format!("the task is {}, not {}", record.state, reference::task(&must)));
    }
    let (are, must_be): (BTreeSet<_>, BTreeSet<_>) =
        (record.rows.keys().collect(), must.keys().collect());
    if are != must_be {
        wrong.push(format!("its steps are {are:?}, not {must_be:?}"));
    }
    for (name, row) in &record.rows {
        let Some(must) = must.get(name) else { continue };
        if (row.state, row.attempt) != (must.state, must.attempts) {
            let stands = format!("{name} is {} after {}", row.state, row.attempt);
            wrong.push(format!("{stands} attempts, not {} after {}", must.state, must.attempts));
        }
        if row.state == StepState::Complete {
            result(name, row, must, wrong);
        }
    }
    must
}

/// Of a task that was cancelled: it has no steps but those that it may come to have, and all have ended.
fn may_be(plan: &Plan, record: &Record, wrong: &mut Vec<String>) -> BTreeMap<String, Must> {
    let mut may = reference::steps(plan, &Chance { well: true, ..Chance::default() });
    for (name, row) in &record.rows {
        if !may.contains_key(name) {
            wrong.push(format!("{name} has come into being, which nobody has chosen"));
        }
        if row.state.is_open() {
            wrong.push(format!("{name} is {} in a cancelled task", row.state));
        }
    }
    may.retain(|name, _| record.rows.contains_key(name));
    for step in may.values_mut() {
        step.parents.retain(|parent| record.rows.contains_key(parent));
    }
    may
}

fn result(name: &str, row: &Row, must: &Must, wrong: &mut Vec<String>) {
    let data = row.result.as_deref().unwrap_or_default();
    let Ok(answer) = serde_json::from_str::<Answer>(data) else {
        wrong.push(format!("{name} is complete with the result {data:?}"));
        return;
    };
    if answer.attempt.abs() != row.attempt {
        wrong.push(format!("{name} keeps the result of attempt {}", answer.attempt));
    }
    if !must.pages.contains(&answer.pages) {
        wrong.push(format!("{name} has done {} pages, not {:?}", answer.pages, must.pages));
    }
    if (&answer.given, &answer.failures) != (&must.given, &must.failures) {
        let was = format!("{:?} and the failures {:?}", answer.given, answer.failures);
        wrong.push(format!("{name} was given {was}, not {:?} and {:?}", must.given, must.failures));
    }
}

/// No step begins before all that it waits for has ended.
fn order(plan: &Plan, record: &Record, must: &BTreeMap<String, Must>, wrong: &mut Vec<String>) {
    let mut settled: BTreeSet<&str> = BTreeSet::new();
    for it in &record.moves {
        if begins(it) {
            let parents = must.get(&it.step).map(|must| &must.parents);
            for parent in parents.into_iter().flatten() {
                if !settled.contains(parent.as_str()) {
                    wrong.push(format!("{} begins before {parent} has ended", it.step));
                }
            }
        }
        if it.events.iter().any(|event| ENDS.contains(event)) {
            settled.insert(&it.step);
        }
    }
    let begun = record.rows.iter().filter(|(_, row)| row.attempt > 0);
    for name in begun.map(|(name, _)| name) {
        let parents = must.get(name).map(|must| &must.parents);
        for parent in parents.into_iter().flatten() {
            let failed = record.rows.get(parent).is_some_and(|it| it.state == StepState::Error);
            let counts_as_done = plan.step_of(parent).is_some_and(Step::is_passed_over);
            if failed && !counts_as_done {
                wrong.push(format!("{name} has begun though {parent} has failed"));
            }
        }
    }
}

/// A result is taken once: each step ends once, and by the event that leads to where it stands.
fn endings(record: &Record, wrong: &mut Vec<String>) {
    for (name, row) in &record.rows {
        let times = |event| {
            let of_it = record.moves.iter().filter(|it| it.step == *name);
            of_it.flat_map(|it| &it.events).filter(|it| **it == event).count()
        };
        let completed = times(StepEvent::Complete);
        if completed != usize::from(row.state == StepState::Complete) {
            wrong.push(format!("{name} is {} and was completed {completed} times", row.state));
        }
        let failed = times(StepEvent::Fail);
        let has_failed = matches!(row.state, StepState::Error | StepState::ResolvedManually);
        if failed > 1 || failed == 1 && !has_failed {
            wrong.push(format!("{name} is {} and failed {failed} times", row.state));
        }
    }
}

/// An attempt is a beginning that was not given back.
fn attempts(record: &Record, wrong: &mut Vec<String>) {
    for (name, row) in &record.rows {
        let moves = || record.moves.iter().filter(|it| it.step == *name);
        let begun = moves().filter(|it| begins(it)).count();
        let given_back = moves().filter(|it| it.events.contains(&StepEvent::Release)).count();
        if begun.checked_sub(given_back) != usize::try_from(row.attempt).ok() {
            let what = format!("{name} has begun {begun} times and was given back {given_back}");
            wrong.push(format!("{what} times, which makes no {} attempts", row.attempt));
        }
    }
}

/// No more workers of a batch have a place than may: from their first queue to their end.
fn places(record: &Record, rows: &BTreeSet<String>, batch: Batch, wrong: &mut Vec<String>) {
    let mut placed: BTreeSet<&str> = BTreeSet::new();
    for it in record.moves.iter().filter(|it| rows.contains(&it.step)) {
        if it.events.contains(&StepEvent::Enqueue) {
            placed.insert(&it.step);
        }
        if it.events.iter().any(|event| ENDS.contains(event)) {
            placed.remove(it.step.as_str());
        }
        if placed.len() > batch.parallelism as usize {
            wrong.push(format!("{placed:?} have places: {} may", batch.parallelism));
        }
    }
}

/// Where a batch fails fast, no worker begins after one has failed, and none is cut off before.
fn failing_fast(record: &Record, rows: &BTreeSet<String>, batch: Batch, wrong: &mut Vec<String>) {
    let mut begun: BTreeSet<&str> = BTreeSet::new();
    let mut failed = false;
    // A failure is written after what it cuts off, in the same commit.
    let fails = |it: &&Move| it.events.contains(&StepEvent::Fail);
    let own = record.moves.iter().filter(fails).filter(|it| it.reason.as_deref() != Some(CUT_OFF));
    let has_own = own.filter(|it| rows.contains(&it.step)).count() > 0;
    for it in record.moves.iter().filter(|it| rows.contains(&it.step)) {
        let is_cut_off = it.reason.as_deref() == Some(CUT_OFF);
        if is_cut_off && (batch.strategy != Strategy::FailFast || !has_own) {
            wrong.push(format!("{} is cut off though no other has failed", it.step));
        }
        if begins(it) {
            let is_first = begun.insert(&it.step);
            if failed && is_first && batch.strategy == Strategy::FailFast {
                wrong.push(format!("{} begins though its batch has failed", it.step));
            }
        }
        failed |= it.events.contains(&StepEvent::Fail);
    }
}

/// What ends a step, well or not.
const ENDS: [StepEvent; 5] = [
    StepEvent::Complete,
    StepEvent::Fail,
    StepEvent::Cancel,
    StepEvent::CompleteManually,
    StepEvent::ResolveManually,
];

fn begins(it: &Move) -> bool {
    it.events.contains(&StepEvent::Start)
}
