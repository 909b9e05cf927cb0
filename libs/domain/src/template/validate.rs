//! Finds everything that is wrong with a definition, in one go.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use semver::Version;
use serde_json::Value;

use super::{
    Event, Limit, MAX_STEPS, Schema, Step, Template, Violation, definition, event, kind,
    limit::MAX_LIMITS,
};
use crate::{back_off::BackOff, graph, id::Ordinal};

const MAX_TIMEOUT_SECONDS: u64 = 30 * 24 * 60 * 60;
const MAX_BACK_OFF_MS: u64 = MAX_TIMEOUT_SECONDS * 1000;
const MAX_ATTEMPTS: u32 = 1000;
const MAX_NAME: usize = 128;
/// A queue is `worker_<namespace>_queue`, and PGMQ takes 47 characters.
const MAX_NAMESPACE: usize = 32;

pub(super) fn validate(
    mut definition: definition::Definition,
    environment: &str,
    digest: [u8; 32],
) -> Result<Template, Vec<Violation>> {
    let mut found = Violations::default();
    let version = found.version(&definition.version);
    found.name("namespace", &definition.namespace, MAX_NAMESPACE, "");
    found.name("name", &definition.name, MAX_NAME, "-.");
    if let Some(lifecycle) = &definition.lifecycle {
        found.0.extend(lifecycle.violations());
    }
    if definition.steps.len() > MAX_STEPS {
        found.add("steps", format!("{} steps: at most {MAX_STEPS}", definition.steps.len()));
    }
    let input_schema = found.schema("input_schema", definition.input_schema.as_ref());
    found.limits("limits", &definition.limits, &[]);
    let mut results = Vec::with_capacity(definition.steps.len());
    for (index, step) in definition.steps.iter_mut().enumerate() {
        found.step(&format!("steps[{index}]"), step);
        found.limits(&format!("steps[{index}].limits"), &step.limits, &definition.limits);
        results.push(found.result(index, step));
    }
    let dependencies = found.dependencies(&definition.steps);
    found.0.extend(kind::violations(&definition.steps, &dependencies));
    found.environments(&definition);
    let order = found.order(&definition.steps, &dependencies);
    let (Some(version), Some(order), true) = (version, order, found.0.is_empty()) else {
        return Err(found.0);
    };
    definition.enter(environment);
    Ok(Template {
        name: definition.name,
        version,
        description: definition.description,
        metadata: Value::Object(definition.metadata),
        identity: definition.identity,
        lifecycle: definition.lifecycle.map(|limits| limits.compile()).unwrap_or_default(),
        input_schema,
        steps: in_order(
            &definition.namespace,
            definition.steps,
            results,
            &definition.limits,
            &dependencies,
            &order,
        ),
        namespace: definition.namespace,
        digest,
    })
}

/// The steps as `order` lists them, their dependencies as places in that order.
fn in_order(
    namespace: &str,
    steps: Vec<definition::Step>,
    results: Vec<OfResult>,
    limits: &[Limit],
    dependencies: &[Vec<usize>],
    order: &[usize],
) -> Vec<Step> {
    let mut place = vec![Ordinal(0); order.len()];
    for (ordinal, index) in (0..).map(Ordinal).zip(order) {
        place[*index] = ordinal;
    }
    let mut steps: Vec<Option<_>> = steps.into_iter().zip(results).map(Some).collect();
    let taken = order.iter().map(|index| {
        let (step, result) = steps[*index].take().expect("an order names each step once");
        let mut parents: Vec<Ordinal> = dependencies[*index].iter().map(|n| place[*n]).collect();
        parents.sort();
        compile(namespace, step, result, limits, parents)
    });
    let mut ordered: Vec<Step> = taken.collect();
    for (child, index) in (0..).map(Ordinal).zip(order) {
        for parent in &dependencies[*index] {
            let parent = usize::try_from(place[*parent].0).expect("a place is not negative");
            ordered[parent].dependants.push(child);
        }
    }
    ordered
}

fn compile(
    namespace: &str,
    step: definition::Step,
    result: OfResult,
    of_all: &[Limit],
    dependencies: Vec<Ordinal>,
) -> Step {
    let kind = kind::compile(&step);
    let retry = step.retry;
    Step {
        name: step.name,
        kind,
        callable: step.handler.callable,
        initialization: Value::Object(step.handler.initialization),
        dependencies,
        dependants: Vec::new(),
        // The first attempt is always allowed: 0 and 1 both mean one.
        max_attempts: if retry.retryable { retry.max_attempts.max(1) } else { 1 },
        back_off: BackOff {
            strategy: retry.backoff,
            base: Duration::from_millis(retry.backoff_base_ms),
            max: Duration::from_millis(retry.max_backoff_ms),
            jitter: retry.jitter,
        },
        timeout: Duration::from_secs(step.timeout_seconds),
        queue: step.queue.unwrap_or_else(|| namespace.to_owned()),
        limits: of_all.iter().cloned().chain(step.limits).collect(),
        dependency_results: step.dependency_results,
        result_schema: result.schema,
        events: result.events,
    }
}

/// What a step declares of its result, compiled.
struct OfResult {
    schema: Option<Schema>,
    events: Vec<Event>,
}

#[derive(Default)]
struct Violations(Vec<Violation>);

impl Violations {
    fn add(&mut self, path: impl Into<String>, description: impl Into<String>) {
        self.0.push(Violation { path: path.into(), description: description.into() });
    }

    fn version(&mut self, text: &str) -> Option<Version> {
        match Version::parse(text) {
            Ok(version) if text.len() <= MAX_NAME => Some(version),
            Ok(_) => {
                self.add("version", format!("longer than {MAX_NAME} characters"));
                None
            }
            Err(error) => {
                self.add("version", format!("not a semantic version such as 1.0.0: {error}"));
                None
            }
        }
    }

    fn name(&mut self, path: impl Into<String>, text: &str, max: usize, also: &str) {
        let allowed =
            |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || also.contains(c);
        let fits = text.len() <= max
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && text.chars().all(allowed);
        if !fits {
            let others: String = also.chars().map(|c| format!(" {c}")).collect();
            let what = format!("give 1 to {max} characters of a-z 0-9 _{others}, a letter first");
            self.add(path, what);
        }
    }

    fn step(&mut self, path: &str, step: &definition::Step) {
        let at = |field: &str| format!("{path}.{field}");
        self.name(at("name"), &step.name, MAX_NAME, "-.");
        if let Some(queue) = &step.queue {
            self.name(at("queue"), queue, MAX_NAMESPACE, "");
        }
        if step.handler.callable.is_empty() || step.handler.callable.len() > MAX_NAME {
            self.add(at("handler.callable"), format!("give 1 to {MAX_NAME} bytes"));
        }
        if !(1..=MAX_TIMEOUT_SECONDS).contains(&step.timeout_seconds) {
            self.add(at("timeout_seconds"), format!("give 1 to {MAX_TIMEOUT_SECONDS}"));
        }
        let retry = &step.retry;
        if retry.max_attempts > MAX_ATTEMPTS {
            self.add(at("retry.max_attempts"), format!("give 0 to {MAX_ATTEMPTS}"));
        }
        if retry.max_backoff_ms > MAX_BACK_OFF_MS {
            self.add(at("retry.max_backoff_ms"), format!("give 0 to {MAX_BACK_OFF_MS}"));
        }
        if retry.backoff_base_ms > retry.max_backoff_ms {
            let what = format!("more than max_backoff_ms, which is {}", retry.max_backoff_ms);
            self.add(at("retry.backoff_base_ms"), what);
        }
    }

    /// `before` are those that each step has beside these.
    fn limits(&mut self, path: &str, limits: &[Limit], before: &[Limit]) {
        if limits.len() + before.len() > MAX_LIMITS {
            let all = limits.len() + before.len();
            self.add(path, format!("{all} limits of one step: at most {MAX_LIMITS}"));
        }
        for (index, limit) in limits.iter().enumerate() {
            let at = format!("{path}[{index}]");
            self.name(format!("{at}.name"), &limit.name, MAX_NAME, "-.");
            if before.iter().chain(&limits[..index]).any(|other| other.name == limit.name) {
                let what = format!("{:?} is another limit of the same step", limit.name);
                self.add(format!("{at}.name"), what);
            }
            for (field, what) in limit.violations() {
                self.add(if field.is_empty() { at.clone() } else { format!("{at}.{field}") }, what);
            }
        }
    }

    fn result(&mut self, index: usize, step: &mut definition::Step) -> OfResult {
        let at = |field: &str| format!("steps[{index}].{field}");
        let schema = self.schema(&at("result_schema"), step.result_schema.as_ref());
        let events = std::mem::take(&mut step.publishes_events);
        let events = event::compile(&at("publishes_events"), events, &mut self.0);
        OfResult { schema, events }
    }

    fn schema(&mut self, path: &str, declared: Option<&Value>) -> Option<Schema> {
        match Schema::compile(path, declared?) {
            Ok(schema) => Some(schema),
            Err(violation) => {
                self.0.push(violation);
                None
            }
        }
    }

    /// Checks the steps as each environment has them. What is wrong with them as they are has been said.
    fn environments(&mut self, definition: &definition::Definition) {
        let steps: HashMap<&str, &definition::Step> =
            definition.steps.iter().map(|step| (step.name.as_str(), step)).collect();
        self.one_queue("limits", definition, |step| step.queue.clone());
        for (environment, changes) in &definition.environments {
            let path = format!("environments.{environment}");
            self.name(&path, environment, MAX_NAME, "-.");
            for (name, change) in &changes.steps {
                let path = format!("{path}.steps.{name}");
                match steps.get(name.as_str()) {
                    None => self.add(path, format!("no step is named {name:?}")),
                    Some(step) => {
                        let (mut before, mut after) = (Self::default(), Self::default());
                        before.step(&path, step);
                        let mut step = (*step).clone();
                        change.apply(&mut step);
                        after.step(&path, &step);
                        after.0.retain(|violation| !before.0.contains(violation));
                        self.0.append(&mut after.0);
                    }
                }
            }
            let queue = |step: &definition::Step| {
                let mut step = step.clone();
                changes.steps.get(&step.name).inspect(|change| change.apply(&mut step));
                step.queue
            };
            self.one_queue(&path, definition, queue);
        }
    }

    /// What a template limits is counted where it runs: in each queue by itself, which is not what it says.
    fn one_queue(
        &mut self,
        path: &str,
        definition: &definition::Definition,
        queue: impl Fn(&definition::Step) -> Option<String>,
    ) {
        let of_step = |step| queue(step).unwrap_or_else(|| definition.namespace.clone());
        let queues: BTreeSet<String> = definition.steps.iter().map(of_step).collect();
        if !definition.limits.is_empty() && queues.len() > 1 {
            let queues: Vec<String> = queues.into_iter().collect();
            let what = format!(
                "the template's limits are for steps of one queue, and these are of {}: give limits to the steps of each",
                queues.join(", ")
            );
            self.add(path, what);
        }
    }

    /// The steps, dependencies before dependants. None if they wait for each other in a circle.
    fn order(
        &mut self,
        steps: &[definition::Step],
        dependencies: &[Vec<usize>],
    ) -> Option<Vec<usize>> {
        let cycle = match graph::order(dependencies) {
            Ok(order) => return Some(order),
            Err(cycle) => cycle,
        };
        let names: Vec<&str> = cycle.iter().map(|index| steps[*index].name.as_str()).collect();
        let (all, first) = (names.join(" -> "), names[0]);
        let what = format!("a cycle: {all} -> {first}: remove one of these dependencies");
        self.add(format!("steps[{}].dependencies", cycle[0]), what);
        None
    }

    /// Dependencies as indices; whatever names none, or one twice, is a violation.
    fn dependencies(&mut self, steps: &[definition::Step]) -> Vec<Vec<usize>> {
        let mut by_name: HashMap<&str, usize> = HashMap::new();
        for (index, step) in steps.iter().enumerate() {
            if let Some(first) = by_name.insert(&step.name, index) {
                let what = format!("{:?} is also the name of steps[{first}]", step.name);
                self.add(format!("steps[{index}].name"), what);
                by_name.insert(&step.name, first);
            }
        }
        let mut all = Vec::with_capacity(steps.len());
        for (index, step) in steps.iter().enumerate() {
            let mut parents = Vec::with_capacity(step.dependencies.len());
            for (nth, name) in step.dependencies.iter().enumerate() {
                let path = || format!("steps[{index}].dependencies[{nth}]");
                match by_name.get(name.as_str()) {
                    None => self.add(path(), format!("no step is named {name:?}")),
                    Some(parent) if parents.contains(parent) => {
                        self.add(path(), format!("{name:?} is named twice"));
                    }
                    Some(parent) => parents.push(*parent),
                }
            }
            all.push(parents);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use crate::{Ordinal, Template, template::Violation};

    fn violations(yaml: &str) -> Vec<(String, String)> {
        let found = Template::parse(yaml).unwrap_err();
        found.into_iter().map(|Violation { path, description }| (path, description)).collect()
    }

    fn paths(yaml: &str) -> Vec<String> {
        violations(yaml).into_iter().map(|(path, _)| path).collect()
    }

    #[test]
    fn steps_are_put_in_dependency_order() {
        let template = Template::parse(
            "{namespace: n, name: t, version: 1.2.3, steps: [
                {name: last, handler: {callable: c}, dependencies: [first, middle]},
                {name: middle, handler: {callable: c}, dependencies: [first]},
                {name: first, handler: {callable: c}}]}",
        )
        .unwrap();
        let names: Vec<&str> = template.steps.iter().map(|step| step.name.as_str()).collect();
        assert_eq!(names, ["first", "middle", "last"]);
        assert_eq!(template.steps[2].dependencies, [Ordinal(0), Ordinal(1)]);
    }

    #[test]
    fn everything_wrong_is_found_in_one_go_with_its_path() {
        let found = paths(
            "{namespace: 'No', name: t, version: one, steps: [
                {name: a, handler: {callable: ''}, dependencies: [ghost]},
                {name: a, handler: {callable: c}, timeout_seconds: 0},
                {name: b, handler: {callable: c}, dependencies: [a, a],
                 retry: {max_attempts: 5000, backoff_base_ms: 9, max_backoff_ms: 8}}]}",
        );
        let expected = [
            "version",
            "namespace",
            "steps[0].handler.callable",
            "steps[1].timeout_seconds",
            "steps[2].retry.max_attempts",
            "steps[2].retry.backoff_base_ms",
            "steps[1].name",
            "steps[0].dependencies[0]",
            "steps[2].dependencies[1]",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_cycle_is_named_step_by_step() {
        let found = violations(
            "{namespace: n, name: t, version: 1.0.0, steps: [
                {name: a, handler: {callable: c}, dependencies: [b]},
                {name: b, handler: {callable: c}, dependencies: [a]}]}",
        );
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].0, "steps[0].dependencies");
        assert!(found[0].1.starts_with("a cycle: a -> b -> a"), "{}", found[0].1);
    }

    #[test]
    fn a_cycle_and_a_wrong_environment_are_found_beside_what_else_is_wrong() {
        let found = paths(
            "{namespace: n, name: t, version: 1.0.0, steps: [
                {name: a, handler: {callable: c}, dependencies: [b]},
                {name: b, handler: {callable: c}, dependencies: [a]},
                {name: c, handler: {callable: ''}}],
              environments: {test: {steps: {ghost: {}, c: {timeout_seconds: 0}}}}}",
        );
        let expected = [
            "steps[2].handler.callable",
            // Not the callable once more.
            "environments.test.steps.c.timeout_seconds",
            "environments.test.steps.ghost",
            "steps[0].dependencies",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn the_limits_of_a_template_are_for_steps_of_one_queue() {
        let template = |of_step: &str, environments: &str| {
            format!(
                "{{namespace: n, name: t, version: 1.0.0, limits: [{{name: l, max_concurrent: 1}}],
                  steps: [{{name: a, handler: {{callable: c}}{of_step}}},
                          {{name: b, handler: {{callable: c}}}}]{environments}}}"
            )
        };
        assert!(Template::parse(&template("", "")).is_ok());
        assert!(Template::parse(&template(", queue: n", "")).is_ok());
        assert_eq!(paths(&template(", queue: other", "")), ["limits"]);
        let moved = ", environments: {test: {steps: {a: {queue: other}}}}";
        assert_eq!(paths(&template("", moved)), ["environments.test"]);
        let both = ", environments: {test: {steps: {a: {queue: other}, b: {queue: other}}}}";
        assert!(Template::parse(&template("", both)).is_ok());
    }

    #[test]
    fn an_unknown_field_is_an_error_that_names_its_path() {
        let found = violations(
            "{namespace: n, name: t, version: 1.0.0, steps: [
                {name: a, handler: {callable: c}, retry: {max_atempts: 3}}]}",
        );
        assert_eq!(found[0].0, "steps[0].retry.max_atempts");
        assert!(found[0].1.contains("unknown field `max_atempts`"), "{}", found[0].1);
    }

    #[test]
    fn layout_does_not_change_the_digest_and_meaning_does() {
        let digest = |yaml: &str| Template::parse(yaml).unwrap().digest;
        let flow = digest("{namespace: n, name: t, version: 1.0.0, steps: []}");
        let block = digest("version: 1.0.0\nname: t\n# a comment\nnamespace: n\nsteps: []\n");
        assert_eq!(flow, block);
        assert_ne!(
            flow,
            digest("{namespace: n, name: t, version: 1.0.0, steps: [], description: d}")
        );
    }

    /// Else a template that is registered could not be registered again after an upgrade.
    #[test]
    fn a_field_that_is_not_used_is_no_part_of_the_digest() {
        let template = Template::parse(
            "{namespace: n, name: t, version: 1.0.0, steps: [{name: a, handler: {callable: c}}]}",
        );
        let digest = template.unwrap().digest.map(|byte| format!("{byte:02x}")).concat();
        assert_eq!(digest, "d8ade3191469e9fd5a1c9f306290d9ad8a9018a9f3e6800678e95d25a47b8148");
    }

    #[test]
    fn zero_attempts_mean_one_and_so_does_not_retryable() {
        let attempts = |retry: &str| {
            let step = format!("{{name: a, handler: {{callable: c}}, retry: {retry}}}");
            let yaml = format!("{{namespace: n, name: t, version: 1.0.0, steps: [{step}]}}");
            Template::parse(&yaml).unwrap().steps[0].max_attempts
        };
        assert_eq!(attempts("{max_attempts: 0}"), 1);
        assert_eq!(attempts("{max_attempts: 5, retryable: false}"), 1);
        assert_eq!(attempts("{max_attempts: 5}"), 5);
    }
}
