//! Running a task again from a step on: which steps the new task is born with, which of them begin anew,
//! and which are kept.
//!
//! What decisions have chosen and plans have asked for is a fact of the older task, which holds in the new
//! one where the step that said so is kept. One that begins anew has brought nothing into being yet.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Ordinal, StepState, Template, expand::Existing, template::Kind};

/// A step of the older task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stood {
    /// Its place in both tasks.
    pub ordinal: Ordinal,
    /// The step of the template that it is a run of, if it is one of a batch.
    pub declared: Option<Ordinal>,
    /// Where it stands.
    pub state: StepState,
    /// Of the worker of a batch: whether its failure counts as done.
    pub passed_over: bool,
}

/// How a step of the new task is born.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Birth {
    /// Its place in both tasks.
    pub ordinal: Ordinal,
    /// The step of the template that it is made from: itself, but for the workers of a batch.
    pub declared: Ordinal,
    /// The state that it keeps, with its result: `complete` or `resolved_manually`; or `error`, of a worker
    /// whose failure counts as done. None: it begins anew.
    pub kept: Option<StepState>,
    /// How much it waits for: dependencies that are not kept, and a place in its batch.
    pub unmet: u32,
}

/// The steps of a task that runs `older` again from a step of it on, in the order of their places. `chosen`
/// says what its decisions have chosen.
///
/// What follows from that step begins anew, and what was not satisfied. The failure of a batch's worker that
/// counts as done is kept unless what has gone on without it begins anew: then it has another chance.
#[must_use]
pub fn births(
    template: &Template,
    from: Ordinal,
    older: &[Stood],
    chosen: &BTreeMap<Ordinal, Vec<String>>,
) -> Vec<Birth> {
    let mut older = older.to_vec();
    older.sort_unstable_by_key(|step| step.ordinal);
    let kept = kept(template, from, &older);
    let here = here(template, &older, &kept, chosen);
    let is_here = |step: &&Stood| here.contains(&step.declared());
    let mut open: BTreeMap<Ordinal, u32> = BTreeMap::new();
    for step in older.iter().filter(is_here).filter(|step| !kept.contains(&step.ordinal)) {
        *open.entry(step.declared()).or_default() += 1;
    }
    let mut places: BTreeMap<Ordinal, u32> = BTreeMap::new();
    let birth = |step: &Stood| {
        let (ordinal, declared) = (step.ordinal, step.declared());
        let kept = kept.contains(&ordinal).then_some(step.state);
        let unmet = match (template.batching(declared), kept) {
            (Some(_), Some(_)) => 0,
            (Some(batching), None) => {
                let before = places.entry(declared).or_default();
                *before += 1;
                u32::from(*before > batching.parallelism)
            }
            (None, _) => {
                let parents = template.step(declared).map(|step| step.dependencies.as_slice());
                let open = parents.unwrap_or_default().iter().filter_map(|it| open.get(it));
                open.sum()
            }
        };
        Birth { ordinal, declared, kept, unmet }
    };
    older.iter().filter(is_here).map(birth).collect()
}

/// The steps that keep what they came to.
fn kept(template: &Template, from: Ordinal, older: &[Stood]) -> BTreeSet<Ordinal> {
    let follows = following(template, from, older);
    let stays = |step: &&Stood| step.ordinal != from && !follows.contains(&step.declared());
    let is_kept = |step: &&Stood| stays(step) && step.state.satisfies_dependants();
    // What has gone on without a failure, and begins anew: each by its dependencies.
    let anew = older.iter().filter(|step| !is_kept(step) && step.declared.is_none());
    let parents = anew.filter_map(|step| Some(&template.step(step.ordinal)?.dependencies));
    let retold: BTreeSet<Ordinal> = parents.flatten().copied().collect();
    let passed_over =
        |step: &&Stood| stays(step) && step.passed_over && !retold.contains(&step.declared());
    let kept = older.iter().filter(|step| is_kept(step) || passed_over(step));
    kept.map(|step| step.ordinal).collect()
}

/// The steps of the template all of whose runs begin anew: the step itself, and what follows from it. A
/// worker begins anew alone among those of its batch.
fn following(template: &Template, from: Ordinal, older: &[Stood]) -> BTreeSet<Ordinal> {
    let declared = older.iter().find(|step| step.ordinal == from).map_or(from, Stood::declared);
    let mut follows = BTreeSet::new();
    // Dependencies come before dependants: what is asked about them is known.
    for (ordinal, step) in template.ordinals() {
        let leads = |parent: &Ordinal| *parent == declared || follows.contains(parent);
        if ordinal == from || step.dependencies.iter().any(leads) {
            follows.insert(ordinal);
        }
    }
    follows
}

/// The steps of the template that exist by what is kept.
fn here(
    template: &Template,
    older: &[Stood],
    kept: &BTreeSet<Ordinal>,
    chosen: &BTreeMap<Ordinal, Vec<String>>,
) -> BTreeSet<Ordinal> {
    let kind = |ordinal: Ordinal| template.step(ordinal).map(|step| step.kind);
    let mut decided = BTreeMap::new();
    let mut planned: BTreeMap<Ordinal, u32> = BTreeMap::new();
    for step in older.iter().filter(|step| kept.contains(&step.ordinal)) {
        match kind(step.ordinal) {
            Some(Kind::Decision) => {
                let names = chosen.get(&step.ordinal).cloned().unwrap_or_default();
                decided.insert(step.ordinal, names);
            }
            Some(Kind::Batchable(_)) => {
                planned.insert(step.ordinal, 0);
            }
            _ => {}
        }
    }
    for worker in older.iter().filter_map(|step| template.step(step.declared?)) {
        let planner = worker.dependencies.first();
        if let Some(batches) = planner.and_then(|planner| planned.get_mut(planner)) {
            *batches += 1;
        }
    }
    Existing::born_with(template, &decided, &planned)
}

impl Stood {
    /// The step of the template that it is, or is a run of.
    fn declared(&self) -> Ordinal {
        self.declared.unwrap_or(self.ordinal)
    }
}

#[cfg(test)]
mod tests;
