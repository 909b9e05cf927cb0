//! Random graphs whose handlers are told what to do, and how each must end.

use std::collections::{BTreeMap, BTreeSet};

use rand::{RngExt as _, rngs::StdRng};
use serde_json::json;
use tasker_client::v1::{StepState, TaskState};
use tasker_integration_tests::{End, Line, Script};

const LARGEST: usize = 8;
const MOST_ATTEMPTS: u32 = 3;
/// So likely is each edge that could be.
const EDGE: f64 = 0.35;

/// A template, and what the handlers of its one task are told.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) name: String,
    pub(super) script: Script,
    steps: Vec<Step>,
}

#[derive(Debug)]
struct Step {
    name: String,
    /// Earlier ones, by place.
    parents: Vec<usize>,
    /// As the template says: 0 is 1.
    max_attempts: u32,
    retryable: bool,
    back_off: &'static str,
    /// Whether its result must be a number of an attempt: then it is not plain.
    has_schema: bool,
}

/// Where a step must stand when nothing moves any more, and after how many attempts.
pub(super) type Stand = (StepState, i32);

/// Attempts that were lost with their workers, by step and attempt.
pub(super) type Lost = BTreeSet<(String, i32)>;

impl Plan {
    pub(super) fn random(name: String, random: &mut StdRng) -> Self {
        let count = random.random_range(1..=LARGEST);
        let steps: Vec<Step> = (0..count).map(|nth| Step::random(nth, random)).collect();
        let lines = |random: &mut StdRng| (0..MOST_ATTEMPTS).map(|_| line(random)).collect();
        let script = steps.iter().map(|step| (step.name.clone(), lines(random))).collect();
        Self { name, script, steps }
    }

    /// As it is registered.
    pub(super) fn template(&self, namespace: &str) -> String {
        let steps = self.steps.iter().map(|step| {
            let parents = step.parents.iter().map(|parent| &self.steps[*parent].name);
            let mut declared = json!({
                "name": step.name,
                "handler": {"callable": "follow"},
                "dependencies": parents.collect::<Vec<_>>(),
                "retry": {
                    "max_attempts": step.max_attempts,
                    "retryable": step.retryable,
                    "backoff": step.back_off,
                    "backoff_base_ms": 10,
                    "max_backoff_ms": 30,
                },
            });
            if step.has_schema {
                declared["result_schema"] = json!({"type": "integer", "minimum": 1});
            }
            declared
        });
        json!({
            "namespace": namespace,
            "name": self.name,
            "version": "1.0.0",
            "steps": steps.collect::<Vec<_>>(),
        })
        .to_string()
    }

    /// Where each step must stand in the end, if these attempts were lost, and if what fails is resolved by
    /// hand or not.
    pub(super) fn stands(&self, lost: &Lost, is_resolved: bool) -> BTreeMap<&str, Stand> {
        let mut stands: BTreeMap<&str, Stand> = BTreeMap::new();
        for step in &self.steps {
            let mut parents = step.parents.iter().map(|parent| self.steps[*parent].name.as_str());
            let ready = parents.all(|parent| is_satisfied(stands[parent].0));
            let stand = match self.runs(step, lost) {
                _ if !ready => (StepState::Pending, 0),
                (StepState::Error, attempts) if is_resolved => {
                    (StepState::ResolvedManually, attempts)
                }
                stand => stand,
            };
            stands.insert(&step.name, stand);
        }
        stands
    }

    fn runs(&self, step: &Step, lost: &Lost) -> Stand {
        let allowed = if step.retryable { step.max_attempts.max(1) } else { 1 };
        for (attempt, line) in (1..).zip(&self.script[&step.name]).take(allowed as usize) {
            let was_lost = lost.contains(&(step.name.clone(), attempt));
            match line.end {
                _ if was_lost => {}
                End::Retryable { .. } => {}
                End::Misfit if step.has_schema => return (StepState::Error, attempt),
                End::Success | End::Misfit => return (StepState::Complete, attempt),
                End::Permanent => return (StepState::Error, attempt),
            }
        }
        (StepState::Error, allowed.try_into().expect("attempts are few"))
    }
}

/// How a task ends whose steps stand so.
pub(super) fn end_of(stands: &BTreeMap<&str, Stand>) -> TaskState {
    let complete = stands.values().all(|(state, _)| is_satisfied(*state));
    if complete { TaskState::Complete } else { TaskState::BlockedByFailures }
}

fn is_satisfied(state: StepState) -> bool {
    matches!(state, StepState::Complete | StepState::ResolvedManually)
}

impl Step {
    fn random(nth: usize, random: &mut StdRng) -> Self {
        Self {
            name: format!("step_{nth}"),
            parents: (0..nth).filter(|_| random.random_bool(EDGE)).collect(),
            max_attempts: random.random_range(0..=MOST_ATTEMPTS),
            retryable: random.random_bool(0.9),
            has_schema: random.random_bool(0.4),
            back_off: ["none", "linear", "exponential", "fibonacci"][random.random_range(0..4)],
        }
    }
}

fn line(random: &mut StdRng) -> Line {
    let end = match random.random_range(0..100) {
        0..70 => End::Success,
        70..75 => End::Misfit,
        75..93 => End::Retryable { retry_after_ms: [0, 20][random.random_range(0..2)] },
        _ => End::Permanent,
    };
    Line { works_ms: [0, 0, 5, 20][random.random_range(0..4)], end }
}
