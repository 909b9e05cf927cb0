//! Which results can be taken by one statement.

use std::collections::BTreeSet;

use super::index;
use crate::{
    id::Ordinal,
    template::{Kind, Step, Template},
};

/// The steps whose results can be taken by one statement, which sees only what there was when it began: their
/// own are plain, and what waits for them is never younger than they are. Else another result may bring a
/// dependant into being while the statement waits for the task, and it would not be counted down.
#[must_use]
pub fn plain_steps(template: &Template) -> BTreeSet<Ordinal> {
    let births = births(template);
    let comes_after_all_that_waits = |(ordinal, step): &(Ordinal, &Step)| {
        let taken = &births[index(*ordinal)].taken;
        step.dependants.iter().all(|it| contains(taken, &births[index(*it)].needed))
    };
    let plain = template.ordinals().filter(|(_, step)| step.is_plain());
    plain.filter(comes_after_all_that_waits).map(|(ordinal, _)| ordinal).collect()
}

/// Decisions and plans, as bits: a template may have thousands.
type Results = Vec<u64>;

/// When a step comes into being.
#[derive(Default)]
struct Born {
    /// These settle whether it does.
    needed: Results,
    /// These are taken for certain when it has. Of a convergence not all that it needs: where one decision has
    /// not chosen a dependency, it does not wait for another about that.
    taken: Results,
}

fn births(template: &Template) -> Vec<Born> {
    let mut births: Vec<Born> = Vec::with_capacity(template.steps.len());
    for step in &template.steps {
        let mut born = Born::default();
        let converges = step.kind == Kind::DeferredConvergence;
        for (nth, parent) in step.dependencies.iter().map(|parent| index(*parent)).enumerate() {
            let before = &births[parent];
            join(&mut born.needed, &before.needed);
            if converges && nth > 0 {
                meet(&mut born.taken, &before.taken);
            } else {
                join(&mut born.taken, &before.taken);
            }
            // A convergence waits for a decision like for any other step, whatever that decides.
            if !converges && template.steps[parent].kind.expands() {
                add(&mut born.needed, parent);
                add(&mut born.taken, parent);
            }
        }
        births.push(born);
    }
    births
}

fn add(bits: &mut Results, nth: usize) {
    let word = nth / 64;
    bits.resize(bits.len().max(word + 1), 0);
    bits[word] |= 1 << (nth % 64);
}

fn join(bits: &mut Results, others: &[u64]) {
    bits.resize(bits.len().max(others.len()), 0);
    bits.iter_mut().zip(others).for_each(|(word, other)| *word |= other);
}

fn meet(bits: &mut Results, others: &[u64]) {
    bits.truncate(others.len());
    bits.iter_mut().zip(others).for_each(|(word, other)| *word &= other);
}

fn contains(bits: &[u64], others: &[u64]) -> bool {
    let word = |nth: usize| bits.get(nth).copied().unwrap_or_default();
    others.iter().enumerate().all(|(nth, other)| other & !word(nth) == 0)
}
