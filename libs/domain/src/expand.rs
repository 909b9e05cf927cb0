//! Which steps of a template come into being in a task, and when.
//!
//! A task is born with the steps that no decision and no plan of a batch stands before. A step below a
//! decision comes with the decision that chooses it, together with all that follows from it; what is not
//! chosen never comes. A deferred convergence comes as soon as it is settled which of its dependencies
//! exist, if any does, and waits for those. A batch worker comes once for each batch that is planned.

use std::collections::{BTreeMap, BTreeSet};

pub use self::plain::plain_steps;
use crate::{
    id::Ordinal,
    step::StepState,
    template::{Batching, Kind, Step, Template},
};

/// What the result of a decision or batchable step says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expansion {
    /// Of a decision: these of its dependants come into being.
    CreateSteps(Vec<String>),
    /// Of a decision: none of them does.
    NoBranches,
    /// Of a batchable step: its worker is run so many times.
    CreateBatches(usize),
    /// Of a batchable step: its worker is run once, for nothing.
    NoBatches,
}

/// How far one decision may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most steps that one decision may bring into being.
    pub steps: usize,
    /// The most decisions above each other.
    pub depth: u32,
}

/// A step of a task, as far as it decides what else comes into being.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Present {
    /// Its place in the task.
    pub ordinal: Ordinal,
    /// The step of the template that it is a run of, if it is one of a batch.
    pub declared: Option<Ordinal>,
    /// Whether nothing waits for it any more.
    pub satisfied: bool,
}

/// A step that comes into being.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Birth {
    /// Its place in the task.
    pub ordinal: Ordinal,
    /// The step of the template that it is made from: itself, but for the workers of a batch.
    pub declared: Ordinal,
    /// Which worker of its batch it is, from 1.
    pub batch: Option<u32>,
    /// How much it waits for: unsatisfied dependencies, and a place in its batch.
    pub unmet: u32,
}

/// Why a step's result cannot be taken as what it says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unexpandable {
    /// No outcome where one is due.
    #[error("the result of a {0} step says nothing of what comes into being: {1}")]
    Missing(&'static str, &'static str),
    /// An outcome where none is due.
    #[error("only a {0} step says so: this step is none")]
    Unexpected(&'static str),
    /// The decision names what it cannot create.
    #[error("{0:?} cannot be created: {1}")]
    Unreachable(String, &'static str),
    /// More than a decision may bring into being.
    #[error("{0} steps would come into being: at most {1} may")]
    TooManySteps(usize, usize),
    /// Decisions within decisions.
    #[error("{0:?} would be a decision below {1} others: at most {1} may be above each other")]
    TooDeep(String, u32),
    /// More batches than the template allows.
    #[error("{0} batches: 1 to {1} may be planned, as `max_batches` says")]
    TooManyBatches(usize, u32),
}

impl Unexpandable {
    /// The type of the step's failure, for programs.
    #[must_use]
    pub fn error_type(&self) -> &'static str {
        match self {
            Self::Missing(..) => "OUTCOME_MISSING",
            Self::Unexpected(_) => "OUTCOME_UNEXPECTED",
            Self::Unreachable(..) => "UNREACHABLE_STEP",
            Self::TooManySteps(..) => "TOO_MANY_STEPS",
            Self::TooDeep(..) => "DECISIONS_TOO_DEEP",
            Self::TooManyBatches(..) => "TOO_MANY_BATCHES",
        }
    }
}

/// Of a template's steps, which exist in a task, and what has been decided about the others.
#[derive(Debug, Clone)]
pub struct Existing<'t> {
    template: &'t Template,
    /// By the template's ordinals.
    steps: Vec<Presence>,
    /// What decisions have chosen.
    choices: BTreeMap<Ordinal, Vec<Ordinal>>,
    /// How many workers batchable steps have planned.
    plans: BTreeMap<Ordinal, u32>,
    /// Where the next worker of a batch goes.
    next: i32,
}

/// Whether a step of the template exists in the task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    /// It is not settled yet.
    Open,
    /// It cannot come any more.
    Never,
    /// It does, and so much of it is not satisfied.
    Here { unmet: u32 },
}

/// The steps that a task of a template is born with.
#[must_use]
pub fn first_steps(template: &Template) -> Vec<Birth> {
    Existing::new(template).settle()
}

impl<'t> Existing<'t> {
    fn new(template: &'t Template) -> Self {
        let count = template.steps.len();
        let next = i32::try_from(count).expect("a template's size is bounded");
        let (choices, plans) = (BTreeMap::new(), BTreeMap::new());
        Self { template, steps: vec![Presence::Open; count], choices, plans, next }
    }

    /// What is in a task: its steps, and what its decisions have chosen, by their ordinals.
    ///
    /// A decision that was settled without a choice has chosen nothing.
    #[must_use]
    pub fn of(
        template: &'t Template,
        present: &[Present],
        chosen: &BTreeMap<Ordinal, Vec<String>>,
    ) -> Self {
        let mut existing = Self::new(template);
        for step in present {
            existing.next = existing.next.max(step.ordinal.0 + 1);
            existing.add(step.declared.unwrap_or(step.ordinal), u32::from(!step.satisfied));
        }
        for step in present.iter().filter(|step| step.satisfied) {
            match template.step(step.ordinal).map(|step| step.kind) {
                Some(Kind::Decision) => {
                    let names = chosen.get(&step.ordinal).map(Vec::as_slice).unwrap_or_default();
                    existing.has_chosen(step.ordinal, names);
                }
                Some(Kind::Batchable(_)) => {
                    // Its workers are there by now; or it was settled without a plan.
                    existing.plans.insert(step.ordinal, 0);
                }
                _ => {}
            }
        }
        existing
    }

    /// The steps of the template that a task is born with whose decisions have chosen so before, and whose
    /// batchable steps have planned so many batches: none, if they were settled without a plan.
    pub(crate) fn born_with(
        template: &'t Template,
        chosen: &BTreeMap<Ordinal, Vec<String>>,
        planned: &BTreeMap<Ordinal, u32>,
    ) -> BTreeSet<Ordinal> {
        let mut existing = Self::new(template);
        for (decision, names) in chosen {
            existing.has_chosen(*decision, names);
        }
        existing.plans.clone_from(planned);
        existing.settle().into_iter().map(|birth| birth.declared).collect()
    }

    /// Notes what a decision has chosen, of what it may choose from.
    fn has_chosen(&mut self, decision: Ordinal, names: &[String]) {
        let names: BTreeSet<&str> = names.iter().map(String::as_str).collect();
        let named = self.branches(decision).filter(|(name, _)| names.contains(name));
        let choice = named.map(|(_, branch)| branch).collect();
        self.choices.insert(decision, choice);
    }

    /// What comes into being by a step's good result, which says `said`. It is part of the task then;
    /// the step itself still counts as not satisfied.
    ///
    /// # Errors
    /// The result cannot be taken as what it says. Nothing has changed.
    pub fn expand(
        &mut self,
        ordinal: Ordinal,
        said: Option<&Expansion>,
        limits: &Limits,
    ) -> Result<Vec<Birth>, Unexpandable> {
        let step = self.template.step(ordinal);
        let mut next = self.clone();
        match (step.map_or(Kind::Standard, |step| step.kind), said) {
            (Kind::Decision, Some(Expansion::CreateSteps(names))) => {
                let choice = self.choice(ordinal, names)?;
                next.choices.insert(ordinal, choice);
            }
            (Kind::Decision, Some(Expansion::NoBranches)) => {
                next.choices.insert(ordinal, Vec::new());
            }
            (Kind::Batchable(batching), Some(Expansion::CreateBatches(count))) => {
                next.plans.insert(ordinal, planned(*count, batching)?);
            }
            (Kind::Batchable(_), Some(Expansion::NoBatches)) => {
                next.plans.insert(ordinal, 1);
            }
            (Kind::Decision, None | Some(Expansion::CreateBatches(_) | Expansion::NoBatches)) => {
                return Err(Unexpandable::Missing("decision", "create_steps or no_branches"));
            }
            (
                Kind::Batchable(_),
                None | Some(Expansion::CreateSteps(_) | Expansion::NoBranches),
            ) => {
                return Err(Unexpandable::Missing("batchable", "create_batches or no_batches"));
            }
            (Kind::Standard | Kind::DeferredConvergence | Kind::BatchWorker, Some(said)) => {
                return Err(said.unexpected());
            }
            (Kind::Standard | Kind::DeferredConvergence | Kind::BatchWorker, None) => {
                return Ok(Vec::new());
            }
        }
        let births = next.settle();
        if let Some(Expansion::CreateSteps(_) | Expansion::NoBranches) = said
            && births.len() > limits.steps
        {
            return Err(Unexpandable::TooManySteps(births.len(), limits.steps));
        }
        next.check_depth(&births, limits.depth)?;
        *self = next;
        Ok(births)
    }

    /// The steps that a decision names.
    fn choice(&self, decision: Ordinal, names: &[String]) -> Result<Vec<Ordinal>, Unexpandable> {
        let branches: BTreeMap<&str, Ordinal> = self.branches(decision).collect();
        let mut choice = Vec::with_capacity(names.len());
        for name in names {
            let refused = |why| Unexpandable::Unreachable(name.clone(), why);
            let Some(branch) = branches.get(name.as_str()) else {
                return Err(refused(self.why_unreachable(name)));
            };
            choice.push(*branch);
        }
        let mut sorted = choice.clone();
        sorted.sort();
        if let Some(twice) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            let name = self.template.step(twice[0]).map(|step| step.name.clone());
            return Err(Unexpandable::Unreachable(name.unwrap_or_default(), "it is named twice"));
        }
        Ok(choice)
    }

    fn why_unreachable(&self, name: &str) -> &'static str {
        match self.template.steps.iter().find(|step| step.name == name) {
            None => "the template has no such step",
            Some(step) if step.kind.comes_by_itself() => "it comes by itself, and is not chosen",
            Some(_) => "it does not depend on the decision directly",
        }
    }

    /// What a decision may choose from.
    fn branches(&self, decision: Ordinal) -> impl Iterator<Item = (&'t str, Ordinal)> + use<'t> {
        let template = self.template;
        let dependants = template.step(decision).map(|step| step.dependants.as_slice());
        dependants.unwrap_or_default().iter().filter_map(move |ordinal| {
            let step = template.step(*ordinal)?;
            (!step.kind.comes_by_itself()).then_some((step.name.as_str(), *ordinal))
        })
    }

    /// Settles what can be settled now, dependencies before dependants. Returns what comes into being.
    fn settle(&mut self) -> Vec<Birth> {
        let mut births = Vec::new();
        for (ordinal, step) in self.template.ordinals() {
            if self.presence(ordinal) != Presence::Open {
                continue;
            }
            let (settled, before) = (self.settled(ordinal, step), births.len());
            match (settled, step.kind) {
                (Presence::Here { .. }, Kind::BatchWorker) => {
                    self.batch(step, ordinal, &mut births);
                }
                (Presence::Here { unmet }, _) => {
                    births.push(Birth { ordinal, declared: ordinal, batch: None, unmet });
                }
                (Presence::Open | Presence::Never, _) => {}
            }
            match births.len() - before {
                0 => self.set(ordinal, settled),
                born => {
                    let unmet = u32::try_from(born).expect("a batch's size is bounded");
                    self.set(ordinal, Presence::Here { unmet });
                }
            }
        }
        births
    }

    /// Whether a step comes into being, by what its dependencies are.
    fn settled(&self, ordinal: Ordinal, step: &Step) -> Presence {
        let mut unmet = 0;
        let (mut here, mut open, mut never) = (false, false, false);
        for dependency in &step.dependencies {
            match self.gate(ordinal, step.kind, *dependency) {
                Presence::Open => open = true,
                Presence::Never => never = true,
                Presence::Here { unmet: more } => {
                    here = true;
                    unmet += more;
                }
            }
        }
        match step.kind {
            Kind::DeferredConvergence if open => Presence::Open,
            Kind::DeferredConvergence if here => Presence::Here { unmet },
            Kind::DeferredConvergence => Presence::Never,
            Kind::Standard | Kind::Decision | Kind::Batchable(_) | Kind::BatchWorker => {
                if never {
                    Presence::Never
                } else if open {
                    Presence::Open
                } else {
                    Presence::Here { unmet }
                }
            }
        }
    }

    /// What a dependency is to a step: a decision that has not chosen it is not there for it.
    fn gate(&self, ordinal: Ordinal, kind: Kind, dependency: Ordinal) -> Presence {
        let here = self.presence(dependency);
        let Presence::Here { .. } = here else { return here };
        let before = self.template.step(dependency).map_or(Kind::Standard, |step| step.kind);
        match (before, kind) {
            // It waits for the step like for any other.
            (_, Kind::DeferredConvergence) => here,
            (Kind::Decision, _) => match self.choices.get(&dependency) {
                None => Presence::Open,
                Some(choice) if choice.contains(&ordinal) => here,
                Some(_) => Presence::Never,
            },
            (Kind::Batchable(_), _) => match self.plans.get(&dependency) {
                None => Presence::Open,
                Some(0) if kind == Kind::BatchWorker => Presence::Never,
                Some(_) => here,
            },
            (Kind::Standard | Kind::DeferredConvergence | Kind::BatchWorker, _) => here,
        }
    }

    /// The workers of a batch: as many at once as may be, the others wait for places.
    fn batch(&mut self, worker: &Step, declared: Ordinal, births: &mut Vec<Birth>) {
        let planner = worker.dependencies.first().copied().unwrap_or(declared);
        let parallelism = match self.template.step(planner).map(|step| step.kind) {
            Some(Kind::Batchable(batching)) => batching.parallelism,
            _ => 1,
        };
        let count = self.plans.get(&planner).copied().unwrap_or(0);
        for batch in 1..=count {
            let unmet = u32::from(batch > parallelism);
            births.push(Birth { ordinal: Ordinal(self.next), declared, batch: Some(batch), unmet });
            self.next += 1;
        }
    }

    /// Whether no decision comes below too many others, also by a plan.
    fn check_depth(&self, births: &[Birth], most: u32) -> Result<(), Unexpandable> {
        let depths = depths(self.template);
        for birth in births {
            let Some(step) = self.template.step(birth.declared) else { continue };
            if step.kind == Kind::Decision && depths[index(birth.declared)] >= most {
                return Err(Unexpandable::TooDeep(step.name.clone(), most));
            }
        }
        Ok(())
    }

    fn presence(&self, ordinal: Ordinal) -> Presence {
        self.steps.get(index(ordinal)).copied().unwrap_or(Presence::Never)
    }

    fn set(&mut self, ordinal: Ordinal, presence: Presence) {
        if let Some(place) = self.steps.get_mut(index(ordinal)) {
            *place = presence;
        }
    }

    fn add(&mut self, ordinal: Ordinal, more: u32) {
        let before = match self.presence(ordinal) {
            Presence::Here { unmet } => unmet,
            Presence::Open | Presence::Never => 0,
        };
        self.set(ordinal, Presence::Here { unmet: before + more });
    }
}

impl Expansion {
    /// What is wrong where a step says so that neither decides nor plans.
    #[must_use]
    pub fn unexpected(&self) -> Unexpandable {
        Unexpandable::Unexpected(self.of_kind())
    }

    /// Which kind of step says so.
    fn of_kind(&self) -> &'static str {
        match self {
            Self::CreateSteps(_) | Self::NoBranches => "decision",
            Self::CreateBatches(_) | Self::NoBatches => "batchable",
        }
    }
}

impl Present {
    /// A step of a task. `passed_over`: its failure counts as done.
    #[must_use]
    pub fn new(
        ordinal: Ordinal,
        declared: Option<Ordinal>,
        state: StepState,
        passed_over: bool,
    ) -> Self {
        Self { ordinal, declared, satisfied: passed_over || state.satisfies_dependants() }
    }
}

fn planned(count: usize, batching: Batching) -> Result<u32, Unexpandable> {
    let most = batching.max_batches;
    let fits = u32::try_from(count).ok().filter(|count| (1..=most).contains(count));
    fits.ok_or(Unexpandable::TooManyBatches(count, most))
}

/// How many decisions are above each step.
fn depths(template: &Template) -> Vec<u32> {
    let mut depths: Vec<u32> = Vec::with_capacity(template.steps.len());
    for step in &template.steps {
        let below = |parent: &Ordinal| {
            let decides = template.step(*parent).is_some_and(|it| it.kind == Kind::Decision);
            depths[index(*parent)] + u32::from(decides)
        };
        let depth = step.dependencies.iter().map(below).max();
        depths.push(depth.unwrap_or(0));
    }
    depths
}

fn index(ordinal: Ordinal) -> usize {
    usize::try_from(ordinal.0).expect("a step's place is not negative")
}

mod plain;
#[cfg(test)]
pub(crate) mod tests;
