//! What is in use of the limit, as `held_steps.rs` counts it and `Usage::take` judges it.

use tasker_domain::StepState;

use super::Rules;
use crate::{
    database::{Database, Step},
    flaw::Flaw,
};

/// Whether the limit has a slot, and its rate time.
pub(crate) fn has_room(database: &Database, rules: &Rules) -> bool {
    let has_time = rules.rate().is_none_or(|most| counted(database, rules) < most);
    rules.limit.is_some() && has_slot(database, rules) && has_time
}

/// Whether the limit has a slot, be there time or not.
pub(crate) fn has_slot(database: &Database, rules: &Rules) -> bool {
    rules.max_concurrent().is_none_or(|most| in_use(database, rules) < most)
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

/// How many have begun in the time of the rate, wherever they stand now.
fn counted(database: &Database, rules: &Rules) -> usize {
    match rules.flaw {
        Some(Flaw::RatesCountWhatRuns) => in_use(database, rules),
        _ => database.counted.into(),
    }
}

/// Notes that an attempt has begun under the limit.
pub(super) fn grant(database: &mut Database, rules: &Rules, step: usize) {
    let attempt = database.steps[step].as_ref().map_or(0, |row| row.attempt);
    if rules.flaw == Some(Flaw::SlotsAreGivenBack) {
        *database.grants.entry((step, attempt)).or_default() += 1;
    } else {
        // One of an attempt with the same number before the step was reset is outdated.
        database.grants.insert((step, attempt), 1);
    }
    database.counted += u8::from(rules.rate().is_some());
}

/// The time of the rate is over for the first that it counts.
pub(crate) fn time_passes(database: &mut Database, rules: &Rules) {
    database.begun = database.begun.map(|begun| begun.saturating_sub(1));
    match rules.flaw {
        Some(Flaw::RatesCountForEver) => {}
        Some(Flaw::RatesAreRefilled) => database.counted = 0,
        _ => database.counted = database.counted.saturating_sub(1),
    }
}

/// What the twin with [`Flaw::SlotsAreGivenBack`] does where a worker's result is taken.
pub(super) fn give_back(database: &mut Database, rules: &Rules, step: usize) {
    if rules.flaw == Some(Flaw::SlotsAreGivenBack) {
        database.grants.retain(|(of, _), _| *of != step);
    }
}
