//! The handlers of the example templates: exact arithmetic, and the orders of a shop.

mod arithmetic;
mod orders;

use tasker_worker::Registry;

/// The namespaces whose steps [`registry`] can do.
pub const NAMESPACES: [&str; 2] = ["arithmetic", "orders"];

/// All example handlers.
#[must_use]
pub fn registry() -> Registry {
    let mut registry = Registry::new();
    arithmetic::register(&mut registry);
    orders::register(&mut registry);
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
    fn there_is_a_handler_for_every_callable_of_the_example_templates() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../templates");
        let registry = registry();
        for template in std::fs::read_dir(folder).unwrap() {
            let text = std::fs::read_to_string(template.unwrap().path()).unwrap();
            for (_, after) in
                text.match_indices("callable: ").map(|(at, word)| text.split_at(at + word.len()))
            {
                let callable = after.split(['}', '\n']).next().unwrap();
                assert!(registry.handler(callable).is_some(), "{callable}");
            }
        }
    }
}
