//! What is drawn: graphs, what their handlers are told, and what operators do to their tasks.

use std::collections::BTreeMap;

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tasker_integration_tests::{End, Line, Says, Script, Told};

mod template;

const LARGEST: usize = 8;
const MOST_ATTEMPTS: u32 = 3;
/// So likely is each edge that could be; below a decision or a batch it is likelier.
const EDGE: f64 = 0.35;
const EDGE_BELOW: f64 = 0.6;
const MOST_BATCHES: u32 = 5;
/// So many values have the keys of limits.
const CUSTOMERS: u32 = 4;

/// So likely has a step each limit.
const LIMITED: f64 = 0.1;

/// What is shared by the steps of all templates.
pub(super) const LIMITS: [Limit; 4] = [
    Limit { name: "of_all", key: None, most: Some(4), rate: None },
    Limit { name: "of_each", key: Some("/who"), most: Some(2), rate: None },
    Limit {
        name: "rate_of_all",
        key: None,
        most: None,
        rate: Some(Rate { count: 12, seconds: 1 }),
    },
    Limit {
        name: "rate_of_each",
        key: Some("/who"),
        most: Some(3),
        rate: Some(Rate { count: 6, seconds: 1 }),
    },
];

/// A template, what the handlers of its one task are told, and what is done to the task meanwhile.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) name: String,
    pub(super) script: Script,
    /// Dependencies before dependants.
    pub(super) steps: Vec<Step>,
    pub(super) hand: Hand,
    /// What is done is done after so many deliveries.
    pub(super) after: i64,
}

#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) name: String,
    pub(super) kind: Kind,
    /// Earlier ones, by place.
    pub(super) parents: Vec<usize>,
    /// As the template says: 0 is 1.
    pub(super) max_attempts: u32,
    pub(super) retryable: bool,
    pub(super) back_off: &'static str,
    /// Whether its result must be of an attempt: then it is not plain.
    pub(super) has_schema: bool,
    /// Which of [`LIMITS`].
    pub(super) limits: Vec<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Standard,
    /// Chooses these of its dependants.
    Decision {
        chosen: Vec<usize>,
    },
    /// Waits for those of its parents that come into being.
    Convergence,
    /// Has the step after it run in batches.
    Batchable(Batch),
    BatchWorker(Batch),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Batch {
    /// 0 is one run for nothing.
    pub(super) planned: u32,
    pub(super) parallelism: u32,
    pub(super) strategy: Strategy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Strategy {
    ContinueOnFailure,
    FailFast,
    Isolate,
}

#[derive(Debug)]
pub(super) struct Limit {
    pub(super) name: &'static str,
    pub(super) key: Option<&'static str>,
    /// So many may run at once.
    pub(super) most: Option<usize>,
    pub(super) rate: Option<Rate>,
}

/// So many may begin in a time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rate {
    pub(super) count: usize,
    pub(super) seconds: u32,
}

impl Limit {
    /// Which of its values a task has.
    pub(super) fn value<'p>(&self, plan: &'p Plan) -> &'p str {
        self.key.map_or("", |_| &plan.script.who)
    }
}

/// What operators do to a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hand {
    Off,
    /// They pause it for a while.
    PausesTask,
    /// They pause its template for a while.
    PausesTemplate,
    Cancels,
    /// They resolve what fails for good.
    Resolves,
}

impl Plan {
    /// The same for the same seed. Operators do one of these things.
    pub(super) fn random(name: String, seed: u64, hands: &[Hand]) -> Self {
        let random = &mut StdRng::seed_from_u64(seed);
        let most = random.random_range(1..=LARGEST);
        let mut steps: Vec<Step> = Vec::with_capacity(most + 1);
        while steps.len() < most {
            let step = Step::random(&steps, random);
            let worker = match step.kind {
                Kind::Batchable(batch) => Some(Step::worker(steps.len(), batch, random)),
                _ => None,
            };
            steps.extend([step].into_iter().chain(worker));
        }
        decide(&mut steps, random);
        let script = script(&steps, random);
        let hand = hands[random.random_range(0..hands.len())];
        Self { name, script, steps, hand, after: random.random_range(0..6) }
    }

    /// The step of the template that a row of its task is, or is a run of.
    pub(super) fn step_of(&self, row: &str) -> Option<&Step> {
        self.steps.iter().find(|step| step.rows().iter().any(|name| name == row))
    }
}

impl Step {
    fn random(before: &[Self], random: &mut StdRng) -> Self {
        let kind = match random.random_range(0..100) {
            0..45 => Kind::Standard,
            45..65 => Kind::Decision { chosen: Vec::new() },
            65..80 if !before.is_empty() => Kind::Convergence,
            65..80 => Kind::Standard,
            _ => Kind::Batchable(Batch::random(random)),
        };
        let mut parents = Vec::new();
        for (place, parent) in before.iter().enumerate() {
            let edge = match parent.kind {
                Kind::Standard | Kind::Convergence => EDGE,
                Kind::Decision { .. } | Kind::Batchable(_) => EDGE_BELOW,
                Kind::BatchWorker(_) if kind == Kind::Convergence => EDGE_BELOW,
                Kind::BatchWorker(_) => 0.0,
            };
            if random.random_bool(edge) {
                parents.push(place);
            }
        }
        if kind == Kind::Convergence && parents.is_empty() {
            parents.push(before.len() - 1);
        }
        Self::of(kind, before.len(), parents, random)
    }

    /// Of the batchable step before it.
    fn worker(planner: usize, batch: Batch, random: &mut StdRng) -> Self {
        Self::of(Kind::BatchWorker(batch), planner + 1, vec![planner], random)
    }

    fn of(kind: Kind, place: usize, parents: Vec<usize>, random: &mut StdRng) -> Self {
        Self {
            name: format!("step_{place}"),
            kind,
            parents,
            max_attempts: [0, 1, 2, 2, MOST_ATTEMPTS, MOST_ATTEMPTS][random.random_range(0..6)],
            retryable: random.random_bool(0.9),
            back_off: ["none", "linear", "exponential", "fibonacci"][random.random_range(0..4)],
            has_schema: random.random_bool(0.3),
            limits: (0..LIMITS.len()).filter(|_| random.random_bool(LIMITED)).collect(),
        }
    }

    /// What it is in a task, if it comes into being.
    pub(super) fn rows(&self) -> Vec<String> {
        match self.kind {
            Kind::BatchWorker(batch) => {
                (1..=batch.planned.max(1)).map(|nth| format!("{}_{nth}", self.name)).collect()
            }
            _ => vec![self.name.clone()],
        }
    }

    /// How often it may be tried.
    pub(super) fn attempts(&self) -> u32 {
        if self.retryable { self.max_attempts.max(1) } else { 1 }
    }

    /// Whether no decision chooses it.
    pub(super) fn comes_by_itself(&self) -> bool {
        matches!(self.kind, Kind::Convergence | Kind::BatchWorker(_))
    }

    /// Whether its failure counts as done.
    pub(super) fn is_passed_over(&self) -> bool {
        matches!(self.kind, Kind::BatchWorker(batch)
            if batch.strategy == Strategy::ContinueOnFailure)
    }

    /// Whether its result says what comes into being.
    pub(super) fn expands(&self) -> bool {
        matches!(self.kind, Kind::Decision { .. } | Kind::Batchable(_))
    }
}

impl Batch {
    fn random(random: &mut StdRng) -> Self {
        use Strategy::{ContinueOnFailure, FailFast, Isolate};

        Self {
            planned: random.random_range(0..=MOST_BATCHES),
            parallelism: random.random_range(1..=3),
            strategy: [ContinueOnFailure, FailFast, Isolate][random.random_range(0..3)],
        }
    }
}

/// Has each decision choose among its dependants. One that has none decides nothing, and is no decision.
fn decide(steps: &mut [Step], random: &mut StdRng) {
    for place in 0..steps.len() {
        if !matches!(steps[place].kind, Kind::Decision { .. }) {
            continue;
        }
        let depends = |child: &Step| !child.comes_by_itself() && child.parents.contains(&place);
        let children: Vec<usize> = (0..steps.len()).filter(|nth| depends(&steps[*nth])).collect();
        steps[place].kind = if children.is_empty() {
            Kind::Standard
        } else {
            let none = random.random_bool(0.1);
            let chosen = children.into_iter().filter(|_| !none && random.random_bool(0.65));
            Kind::Decision { chosen: chosen.collect() }
        };
    }
}

fn script(steps: &[Step], random: &mut StdRng) -> Script {
    let mut told = BTreeMap::new();
    for step in steps {
        let says = match &step.kind {
            Kind::Decision { chosen } => {
                Says::Chooses(chosen.iter().map(|place| steps[*place].name.clone()).collect())
            }
            Kind::Batchable(batch) => Says::Plans(batch.planned),
            Kind::Standard | Kind::Convergence | Kind::BatchWorker(_) => Says::Nothing,
        };
        for row in step.rows() {
            let lines = (0..MOST_ATTEMPTS).map(|_| line(random)).collect();
            told.insert(row, Told { says: says.clone(), lines });
        }
    }
    Script { who: format!("customer {}", random.random_range(0..CUSTOMERS)), steps: told }
}

fn line(random: &mut StdRng) -> Line {
    let end = match random.random_range(0..100) {
        0..84 => End::Success,
        84..87 => End::Misfit,
        87..97 => End::Retryable { retry_after_ms: [0, 20][random.random_range(0..2)] },
        _ => End::Permanent,
    };
    Line {
        works_ms: [0, 0, 5, 20][random.random_range(0..4)],
        pages: [0, 0, 0, 0, 1, 2][random.random_range(0..6)],
        end,
    }
}
