//! What a task is made from: a graph of steps, declared once and never changed.

use std::{collections::BTreeSet, time::Duration};

use semver::Version;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

pub use self::limit::Limit;
use crate::{back_off::BackOff, id::Ordinal, identity::Identity};

mod definition;
mod environments;
mod event;
mod kind;
pub mod lifecycle;
pub mod limit;
mod schema;
mod validate;

pub use event::{Condition, Delivery, Event, Outcome};
pub use kind::{Batching, FailureStrategy, Kind, MAX_BATCHES};
pub use lifecycle::Lifecycle;
pub use schema::Schema;

/// The longest YAML text of a template, in bytes.
pub const MAX_YAML_BYTES: usize = 1 << 20;
/// The most steps that a template may have.
pub const MAX_STEPS: usize = 10_000;

/// A template that has been found valid.
#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    /// 1 to 32 characters of `a-z 0-9 _`, a letter first: it names queues.
    pub namespace: String,
    /// 1 to 128 characters of `a-z 0-9 _ - .`, a letter first.
    pub name: String,
    /// Which edition it is.
    pub version: Version,
    /// For people.
    pub description: String,
    /// For people and their tools: a JSON object that the engine keeps and does not read.
    pub metadata: Value,
    /// When two submissions are the same task.
    pub identity: Identity,
    /// How long a task may take.
    pub lifecycle: Lifecycle,
    /// What a task's context must be.
    pub input_schema: Option<Schema>,
    /// Dependencies before dependants: a step's place is its [`Ordinal`].
    pub steps: Vec<Step>,
    /// Of what the definition says, whatever its layout.
    pub digest: [u8; 32],
}

/// One step of a template.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Unique in its template; 1 to 128 characters of `a-z 0-9 _ - .`, a letter first.
    pub name: String,
    /// What it is for.
    pub kind: Kind,
    /// What a worker must have registered to run it.
    pub callable: String,
    /// The handler's configuration: a JSON object.
    pub initialization: Value,
    /// What it waits for.
    pub dependencies: Vec<Ordinal>,
    /// What waits for it.
    pub dependants: Vec<Ordinal>,
    /// Total attempts, at least 1; 1 if it is not retryable.
    pub max_attempts: u32,
    /// Between attempts.
    pub back_off: BackOff,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// What it is held to before it begins: its template's limits, then its own.
    pub limits: Vec<Limit>,
    /// The namespace whose workers run it: the template's own unless the step names another.
    pub queue: String,
    /// Whose results its deliveries carry.
    pub dependency_results: DependencyResults,
    /// What its result must be.
    pub result_schema: Option<Schema>,
    /// What it tells others when it has ended.
    pub events: Vec<Event>,
}

/// Whose results a delivery carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum DependencyResults {
    /// Those of the steps that the step depends on.
    #[default]
    Parents,
    /// Those of all steps before it: parents, their parents, and so on.
    Ancestors,
}

impl Step {
    /// Whether its result concerns only the step itself and its dependants. Whether it may be taken the short
    /// way, [`plain_steps`](crate::expand::plain_steps) says.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        match self.kind {
            Kind::Standard | Kind::DeferredConvergence => {
                self.result_schema.is_none() && self.events.is_empty()
            }
            Kind::Decision | Kind::Batchable(_) | Kind::BatchWorker => false,
        }
    }
}

/// What is wrong with a definition, at one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// For example `steps[2].dependencies[0]`; empty for the whole text.
    pub path: String,
    /// What is wrong, and what to do.
    pub description: String,
}

impl Template {
    /// Reads a definition and finds all that is wrong with it.
    ///
    /// # Errors
    /// Every violation, with its path. A text whose shape is wrong has one.
    pub fn parse(yaml: &str) -> Result<Self, Vec<Violation>> {
        Self::parse_in("", yaml)
    }

    /// Reads a definition as an environment has it, and finds all that is wrong with it in any. The
    /// digest is the same in all of them; one that the definition does not name changes nothing.
    ///
    /// # Errors
    /// As [`Template::parse`].
    pub fn parse_in(environment: &str, yaml: &str) -> Result<Self, Vec<Violation>> {
        let definition = definition::Definition::read(yaml).map_err(|violation| vec![violation])?;
        let digest = Sha256::digest(definition.canonical()).into();
        validate::validate(definition, environment, digest)
    }

    /// How the batch is run that a step's runs are the workers of, if it is a batch worker.
    #[must_use]
    pub fn batching(&self, worker: Ordinal) -> Option<Batching> {
        let worker = self.step(worker).filter(|step| step.kind == Kind::BatchWorker)?;
        match self.step(*worker.dependencies.first()?)?.kind {
            Kind::Batchable(batching) => Some(batching),
            Kind::Standard | Kind::Decision | Kind::DeferredConvergence | Kind::BatchWorker => None,
        }
    }

    /// Each step with its place, dependencies before dependants.
    pub fn ordinals(&self) -> impl Iterator<Item = (Ordinal, &Step)> {
        (0..).map(Ordinal).zip(&self.steps)
    }

    /// The step at a place, if there is one.
    #[must_use]
    pub fn step(&self, ordinal: Ordinal) -> Option<&Step> {
        self.steps.get(usize::try_from(ordinal.0).ok()?)
    }

    /// The steps whose results a delivery of the step at a place carries, each once, in order.
    #[must_use]
    pub fn dependency_results(&self, ordinal: Ordinal) -> Vec<Ordinal> {
        let Some(step) = self.step(ordinal) else { return Vec::new() };
        match step.dependency_results {
            DependencyResults::Parents => step.dependencies.clone(),
            DependencyResults::Ancestors => self.ancestors(step),
        }
    }

    fn ancestors(&self, step: &Step) -> Vec<Ordinal> {
        let mut found: BTreeSet<Ordinal> = step.dependencies.iter().copied().collect();
        let mut open = step.dependencies.clone();
        while let Some(parent) = open.pop() {
            let before = self.step(parent).map(|step| step.dependencies.as_slice());
            open.extend(before.unwrap_or_default().iter().filter(|it| found.insert(**it)));
        }
        found.into_iter().collect()
    }
}

/// Reads a version as definitions and callers write it.
#[must_use]
pub fn version(text: &str) -> Option<Version> {
    Version::parse(text).ok()
}

/// A text that sorts as versions do, releases after all pre-releases: the newest comes last.
///
/// A pre-release is therefore taken as the newest only where there is no release.
#[must_use]
pub fn precedence(version: &Version) -> String {
    let number = |n: u64| format!("{n:020}");
    let core = [version.major, version.minor, version.patch].map(number).join(".");
    if version.pre.is_empty() {
        return format!("1{core}");
    }
    // Numeric identifiers sort before others, and a longer list after its beginning.
    let pre: Vec<String> = (version.pre.split('.'))
        .map(|part| match part.parse::<u64>() {
            Ok(n) => format!("0{}", number(n)),
            Err(_) => format!("1{part}"),
        })
        .collect();
    format!("0{core}!{}", pre.join("!"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ancestor_is_carried_once_however_many_ways_lead_to_it() {
        let template = Template::parse(
            "{namespace: n, name: t, version: 1.0.0, steps: [
                {name: start, handler: {callable: c}},
                {name: left, handler: {callable: c}, dependencies: [start]},
                {name: right, handler: {callable: c}, dependencies: [start]},
                {name: join, handler: {callable: c}, dependencies: [left, right]},
                {name: last, handler: {callable: c}, dependencies: [join, left],
                 dependency_results: ancestors}]}",
        )
        .unwrap();
        let carried = |n: i32| {
            let ordinals = template.dependency_results(Ordinal(n));
            ordinals.iter().map(|it| template.step(*it).unwrap().name.as_str()).collect::<Vec<_>>()
        };
        assert_eq!(carried(0), [""; 0]);
        assert_eq!(carried(3), ["left", "right"]);
        assert_eq!(carried(4), ["start", "left", "right", "join"]);
        assert_eq!(carried(5), [""; 0]);
    }

    #[test]
    fn precedence_sorts_as_semantic_versions_do_and_releases_last() {
        let ordered = [
            "1.0.0-alpha",
            "1.0.0-alpha.1",
            "1.0.0-alpha.beta",
            "1.0.0-beta.2",
            "1.0.0-beta.11",
            "1.0.0-rc.1",
            "2.0.0-alpha",
            "0.9.0",
            "1.0.0",
            "1.0.10",
            "1.2.0",
            "10.0.0",
        ];
        let keys: Vec<String> =
            ordered.iter().map(|text| precedence(&Version::parse(text).unwrap())).collect();
        let mut sorted = keys.clone();
        sorted.sort();
        assert_eq!(keys, sorted);
    }
}
