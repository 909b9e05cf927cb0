//! What a step of a template is for: its `type`, and how a batch is run.

use serde::{Deserialize, Serialize};

use super::{Violation, definition};

/// The most batches that one batchable step may plan.
pub const MAX_BATCHES: u32 = 10_000;
/// The longest name of a batch worker: its runs are named `<name>_<batch id>`.
const MAX_WORKER_NAME: usize = 122;

/// What a step is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Does a part of the work.
    Standard,
    /// Decides which of its dependants come into being.
    Decision,
    /// Waits for those of its dependencies that come into being.
    DeferredConvergence,
    /// Plans the batches that its worker is run for.
    Batchable(Batching),
    /// Is run once for each batch that its batchable step has planned.
    BatchWorker,
}

/// How the workers of a batch are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batching {
    /// The most of them that may be in queues or at workers at once, at least 1.
    pub parallelism: u32,
    /// What becomes of the others when one fails for good.
    pub failure_strategy: FailureStrategy,
    /// The most that may be planned, at least 1.
    pub max_batches: u32,
}

/// What becomes of a batch when one of its workers fails for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum FailureStrategy {
    /// It counts as done: what waits for the batch is told of it, and the task goes on.
    ContinueOnFailure,
    /// No other worker begins: those that have not begun fail, too.
    FailFast,
    /// The others go on to their ends; what waits for the batch waits until it is repaired.
    #[default]
    Isolate,
}

impl Kind {
    /// Whether it comes into being by what others do: no decision chooses it.
    #[must_use]
    pub fn comes_by_itself(self) -> bool {
        match self {
            Self::DeferredConvergence | Self::BatchWorker => true,
            Self::Standard | Self::Decision | Self::Batchable(_) => false,
        }
    }

    /// Whether its result says what comes into being.
    #[must_use]
    pub fn expands(self) -> bool {
        match self {
            Self::Decision | Self::Batchable(_) => true,
            Self::Standard | Self::DeferredConvergence | Self::BatchWorker => false,
        }
    }
}

/// The field `type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub(super) enum Type {
    #[default]
    Standard,
    Decision,
    DeferredConvergence,
    Batchable,
    BatchWorker,
}

impl Type {
    /// Then it is left out of the canonical text, which is older than this field.
    pub(super) fn is_standard(&self) -> bool {
        *self == Self::Standard
    }

    fn comes_by_itself(self) -> bool {
        match self {
            Self::DeferredConvergence | Self::BatchWorker => true,
            Self::Standard | Self::Decision | Self::Batchable => false,
        }
    }
}

/// The field `batch_config`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct BatchConfig {
    parallelism: u32,
    failure_strategy: FailureStrategy,
    max_batches: u32,
}

impl Default for BatchConfig {
    fn default() -> Self {
        Self {
            parallelism: MAX_BATCHES,
            failure_strategy: FailureStrategy::default(),
            max_batches: 1_000,
        }
    }
}

pub(super) fn compile(step: &definition::Step) -> Kind {
    match step.kind {
        Type::Standard => Kind::Standard,
        Type::Decision => Kind::Decision,
        Type::DeferredConvergence => Kind::DeferredConvergence,
        Type::Batchable => {
            let BatchConfig { parallelism, failure_strategy, max_batches } =
                step.batch_config.unwrap_or_default();
            Kind::Batchable(Batching { parallelism, failure_strategy, max_batches })
        }
        Type::BatchWorker => Kind::BatchWorker,
    }
}

/// What is wrong with the types of steps. `dependencies[n]` are the indices that step `n` depends on.
pub(super) fn violations(
    steps: &[definition::Step],
    dependencies: &[Vec<usize>],
) -> Vec<Violation> {
    let mut dependants = vec![Vec::new(); steps.len()];
    for (child, parents) in dependencies.iter().enumerate() {
        for parent in parents {
            dependants[*parent].push(child);
        }
    }
    let workers: Vec<_> = steps.iter().filter(|step| step.kind == Type::BatchWorker).collect();
    let mut found = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        let mut add = |field: &str, what: &str| {
            let path = format!("steps[{index}].{field}");
            found.push(Violation { path, description: what.to_owned() });
        };
        let of_type = |kind: Type| move |other: &&usize| steps[**other].kind == kind;
        let parents = &dependencies[index];
        let children = &dependants[index];
        match step.kind {
            Type::Standard => {}
            Type::Decision => {
                if children.iter().all(|child| steps[*child].kind.comes_by_itself()) {
                    add("type", "a decision without a step to decide about: have one depend on it");
                }
            }
            Type::DeferredConvergence => {
                if step.dependencies.is_empty() {
                    add("dependencies", "a deferred_convergence waits for others: name them");
                }
            }
            Type::Batchable => {
                if children.iter().filter(of_type(Type::BatchWorker)).count() != 1 {
                    add("type", "a batchable step needs one batch_worker that depends on it");
                }
            }
            Type::BatchWorker => {
                let planner = parents.iter().filter(of_type(Type::Batchable)).count();
                if planner != 1 || step.dependencies.len() != 1 {
                    add("dependencies", "a batch_worker depends on its batchable step alone");
                }
                if step.name.len() > MAX_WORKER_NAME {
                    add(
                        "name",
                        &format!("of a batch_worker: at most {MAX_WORKER_NAME} characters"),
                    );
                }
            }
        }
        for (nth, name) in step.dependencies.iter().enumerate() {
            let is_worker = workers.iter().any(|worker| worker.name == *name);
            if is_worker && step.kind != Type::DeferredConvergence {
                let field = format!("dependencies[{nth}]");
                add(&field, "only a deferred_convergence waits for a batch_worker");
            }
        }
        if let Some(worker) = workers.iter().find(|worker| is_run_of(&step.name, &worker.name)) {
            let what = format!("may become the name of a run of {:?}: choose another", worker.name);
            add("name", &what);
        }
        if let Some(config) = step.batch_config {
            if step.kind != Type::Batchable {
                add("batch_config", "only a batchable step has one");
            }
            let bounds = format!("give 1 to {MAX_BATCHES}");
            if !(1..=MAX_BATCHES).contains(&config.parallelism) {
                add("batch_config.parallelism", &bounds);
            }
            if !(1..=MAX_BATCHES).contains(&config.max_batches) {
                add("batch_config.max_batches", &bounds);
            }
        }
    }
    found
}

/// Whether a name is that of a batch worker's run.
fn is_run_of(name: &str, worker: &str) -> bool {
    let batch_id = name.strip_prefix(worker).and_then(|rest| rest.strip_prefix('_'));
    batch_id.is_some_and(|id| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Template;

    fn template(steps: &str) -> Result<Template, Vec<Violation>> {
        Template::parse(&format!("{{namespace: n, name: t, version: 1.0.0, steps: [{steps}]}}"))
    }

    fn paths(steps: &str) -> Vec<String> {
        template(steps).unwrap_err().into_iter().map(|violation| violation.path).collect()
    }

    #[test]
    fn a_batch_is_run_as_its_configuration_says() {
        let plan = |config: &str| {
            let steps = format!(
                "{{name: plan, type: batchable, handler: {{callable: c}}{config}}},
                {{name: work, type: batch_worker, handler: {{callable: c}}, dependencies: [plan]}}"
            );
            template(&steps).unwrap().steps[0].kind
        };
        let given = ", batch_config: {parallelism: 4, failure_strategy: fail_fast, max_batches: 9}";
        let failure_strategy = FailureStrategy::FailFast;
        let batching = Batching { parallelism: 4, failure_strategy, max_batches: 9 };
        assert_eq!(plan(given), Kind::Batchable(batching));
        let Kind::Batchable(batching) = plan("") else { panic!("it is batchable") };
        assert_eq!(batching.failure_strategy, FailureStrategy::Isolate);
        assert_eq!((batching.parallelism, batching.max_batches), (MAX_BATCHES, 1_000));
    }

    #[test]
    fn everything_wrong_with_types_is_found_in_one_go_with_its_path() {
        let found = paths(
            "{name: alone, type: decision, handler: {callable: c}},
            {name: rest, type: deferred_convergence, handler: {callable: c}, dependencies: [alone]},
            {name: early, type: deferred_convergence, handler: {callable: c}},
            {name: plan, type: batchable, handler: {callable: c},
             batch_config: {parallelism: 0, max_batches: 10001}},
            {name: odd, batch_config: {}, handler: {callable: c}},
            {name: work, type: batch_worker, handler: {callable: c}, dependencies: [odd, alone]},
            {name: after, handler: {callable: c}, dependencies: [work]},
            {name: work_12, handler: {callable: c}}",
        );
        let expected = [
            "steps[0].type",
            "steps[2].dependencies",
            "steps[3].type",
            "steps[3].batch_config.parallelism",
            "steps[3].batch_config.max_batches",
            "steps[4].batch_config",
            "steps[5].dependencies",
            "steps[6].dependencies[0]",
            "steps[7].name",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn an_unknown_type_is_an_error_that_names_its_path() {
        assert_eq!(paths("{name: a, type: choice, handler: {callable: c}}"), ["steps[0].type"]);
        let config = "{name: a, type: batchable, handler: {callable: c}, batch_config: {size: 3}}";
        assert_eq!(paths(config), ["steps[0].batch_config.size"]);
    }

    #[test]
    fn a_standard_step_has_the_digest_that_it_had_before_there_were_types() {
        let digest = |step: &str| template(step).unwrap().digest;
        let plain = digest("{name: a, handler: {callable: c}}");
        assert_eq!(plain, digest("{name: a, type: standard, handler: {callable: c}}"));
    }
}
