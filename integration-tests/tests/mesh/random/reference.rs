//! What must be: which steps of a plan come into being, and how each ends.
//!
//! Little is left to chance, and that is told: which attempts were lost with their workers, and which
//! workers of a batch that fails fast had not begun when another failed.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
};

use tasker_domain::{StepState, TaskState};
use tasker_integration_tests::End;

use super::plan::{Kind, Plan, Step};

/// What chance has decided.
#[derive(Debug, Default)]
pub(super) struct Chance {
    /// Attempts that were lost with their workers, by step and attempt.
    pub(super) lost: BTreeSet<(String, i32)>,
    /// Workers that another's failure has cut off.
    pub(super) cut_off: BTreeSet<String>,
    /// Whether what fails is resolved by hand.
    pub(super) resolved: bool,
    /// Whether every attempt goes well, whatever its handler is told.
    pub(super) well: bool,
}

/// What must be of a step that comes into being.
#[derive(Debug, Clone)]
pub(super) struct Must {
    pub(super) state: StepState,
    pub(super) attempts: i32,
    /// The steps that it waits for, as rows of the task.
    pub(super) parents: BTreeSet<String>,
    /// Whose results and whose failures it is given.
    pub(super) given: BTreeSet<String>,
    pub(super) failures: BTreeSet<String>,
    /// How many pages are done in the end.
    pub(super) pages: RangeInclusive<u32>,
    /// Its failure counts as done.
    passed_over: bool,
}

/// Whether a step of the template comes into being.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Comes {
    /// As these rows.
    Here(Vec<String>),
    Never,
    /// That was not settled when all came to rest.
    Unsettled,
}

/// All steps that there must be when nothing moves any more, by name.
pub(super) fn steps(plan: &Plan, chance: &Chance) -> BTreeMap<String, Must> {
    let mut steps: BTreeMap<String, Must> = BTreeMap::new();
    let mut come: Vec<Comes> = Vec::new();
    for (place, step) in plan.steps.iter().enumerate() {
        let gates: Vec<Comes> =
            step.parents.iter().map(|parent| gate(plan, (place, *parent), &come, &steps)).collect();
        let comes = comes(plan, place, &gates);
        if let Comes::Here(rows) = &comes {
            let parents = rows_of(&gates);
            for row in rows {
                let must = stands(plan, (step, row), &parents, chance, &steps);
                steps.insert(row.clone(), must);
            }
        }
        come.push(comes);
    }
    steps
}

/// How a task rests whose steps stand so.
pub(super) fn task(steps: &BTreeMap<String, Must>) -> TaskState {
    let complete = steps.values().all(Must::is_satisfied);
    if complete { TaskState::Complete } else { TaskState::BlockedByFailures }
}

/// What a parent is to a step.
fn gate(
    plan: &Plan,
    (place, parent): (usize, usize),
    come: &[Comes],
    steps: &BTreeMap<String, Must>,
) -> Comes {
    let (step, here) = (&plan.steps[place], come[parent].clone());
    let is_complete =
        || steps.get(&plan.steps[parent].name).is_some_and(|it| it.state == StepState::Complete);
    match &plan.steps[parent].kind {
        _ if here == Comes::Never || here == Comes::Unsettled => here,
        // It waits for the step like for any other, whatever that says.
        _ if step.kind == Kind::Convergence => here,
        Kind::Decision { .. } | Kind::Batchable(_) if !is_complete() => Comes::Unsettled,
        Kind::Decision { chosen } if !chosen.contains(&place) => Comes::Never,
        _ => here,
    }
}

fn comes(plan: &Plan, place: usize, gates: &[Comes]) -> Comes {
    let is_here = |gate: &Comes| matches!(gate, Comes::Here(_));
    let (never, unsettled) = (gates.contains(&Comes::Never), gates.contains(&Comes::Unsettled));
    let here = Comes::Here(plan.steps[place].rows());
    if plan.steps[place].kind == Kind::Convergence {
        match gates.iter().any(is_here) {
            _ if unsettled => Comes::Unsettled,
            true => here,
            false => Comes::Never,
        }
    } else if never {
        Comes::Never
    } else if unsettled {
        Comes::Unsettled
    } else {
        here
    }
}

fn rows_of(gates: &[Comes]) -> BTreeSet<String> {
    let rows = gates.iter().filter_map(|gate| match gate {
        Comes::Here(rows) => Some(rows),
        Comes::Never | Comes::Unsettled => None,
    });
    rows.flatten().cloned().collect()
}

fn stands(
    plan: &Plan,
    (step, row): (&Step, &str),
    parents: &BTreeSet<String>,
    chance: &Chance,
    steps: &BTreeMap<String, Must>,
) -> Must {
    let those = |wanted: &dyn Fn(&Must) -> bool| {
        parents.iter().filter(|parent| wanted(&steps[*parent])).cloned().collect()
    };
    let given = those(&|parent| parent.state == StepState::Complete);
    let failures = those(&|parent| parent.passed_over);
    let waits = Must {
        state: StepState::Pending,
        attempts: 0,
        parents: parents.clone(),
        given,
        failures,
        pages: 0..=0,
        passed_over: false,
    };
    if !parents.iter().all(|parent| steps[parent].is_satisfied()) {
        return waits;
    }
    let (mut state, attempts, pages) = ends(plan, (step, row), chance);
    let passed_over = state == StepState::Error && step.is_passed_over();
    if state == StepState::Error && !passed_over && chance.resolved && !step.expands() {
        state = StepState::ResolvedManually;
    }
    Must { state, attempts, pages, passed_over, ..waits }
}

/// How a step ends that begins.
fn ends(
    plan: &Plan,
    (step, row): (&Step, &str),
    chance: &Chance,
) -> (StepState, i32, RangeInclusive<u32>) {
    let (mut least, mut most) = (0, 0);
    if chance.cut_off.contains(row) {
        return (StepState::Error, 0, 0..=most);
    }
    let lines = &plan.script.steps[row].lines;
    for (attempt, line) in (1..).zip(lines).take(step.attempts() as usize) {
        most += line.pages;
        if chance.lost.contains(&(row.to_owned(), attempt)) {
            continue;
        }
        least += line.pages;
        match line.end {
            _ if chance.well => return (StepState::Complete, attempt, least..=most),
            End::Retryable { .. } => {}
            End::Permanent => return (StepState::Error, attempt, least..=most),
            End::Misfit if step.has_schema => return (StepState::Error, attempt, least..=most),
            End::Success | End::Misfit => return (StepState::Complete, attempt, least..=most),
        }
    }
    let attempts = step.attempts().try_into().expect("attempts are few");
    (StepState::Error, attempts, least..=most)
}

impl Must {
    fn is_satisfied(&self) -> bool {
        self.passed_over || self.state.satisfies_dependants()
    }
}
