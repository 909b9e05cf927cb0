//! The handlers of the example templates: exact arithmetic, and the orders and refunds of a shop.

mod arithmetic;
mod orders;
mod refunds;
mod sums;

use tasker_worker::Registry;

/// The namespaces whose steps [`registry`] can do.
pub const NAMESPACES: [&str; 3] = ["arithmetic", "orders", "refunds"];

/// All example handlers.
#[must_use]
pub fn registry() -> Registry {
    let mut registry = Registry::new();
    arithmetic::register(&mut registry);
    orders::register(&mut registry);
    refunds::register(&mut registry);
    sums::register(&mut registry);
    registry
}

#[cfg(test)]
mod tests {
    use serde::Serialize;
    use serde_json::Value;
    use tasker_worker::{StepContext, json, v1::Delivery};

    use super::*;

    /// A step of a task with this context, after steps with these results.
    pub(crate) fn step(context: &impl Serialize, results: &[(&str, Value)]) -> StepContext {
        StepContext::new(delivery(context, results))
    }

    pub(crate) fn delivery(context: &impl Serialize, results: &[(&str, Value)]) -> Delivery {
        let payload = |value: &Value| json::payload(value).unwrap();
        Delivery {
            context: Some(json::payload(context).unwrap()),
            dependency_results: results
                .iter()
                .map(|(name, result)| ((*name).to_owned(), payload(result)))
                .collect(),
            idempotency_key: "task/step".to_owned(),
            attempt: 1,
            max_attempts: 4,
            ..Delivery::default()
        }
    }

    #[test]
    fn every_step_of_the_example_templates_has_a_handler_here() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../templates");
        let registry = registry();
        for file in std::fs::read_dir(folder).unwrap() {
            let yaml = std::fs::read_to_string(file.unwrap().path()).unwrap();
            let template = tasker_domain::template::Template::parse(&yaml).unwrap();
            assert!(NAMESPACES.contains(&template.namespace.as_str()));
            for (_, step) in template.ordinals() {
                assert!(registry.handler(&step.callable).is_some(), "{}", step.callable);
            }
        }
    }
}
