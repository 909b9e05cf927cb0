//! What a template changes where it is registered in a certain environment, such as `production`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::definition::{Retry, Step};
use crate::back_off::Strategy;

/// By name.
pub(super) type Environments = BTreeMap<String, Environment>;

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Environment {
    /// By name of the step.
    pub(super) steps: BTreeMap<String, Change>,
}

/// What is given replaces what the step says; the rest stays.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Change {
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout_seconds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<String>,
    retry: RetryChange,
    handler: HandlerChange,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct HandlerChange {
    /// Key by key.
    initialization: Map<String, Value>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RetryChange {
    #[serde(skip_serializing_if = "Option::is_none")]
    retryable: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_attempts: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    backoff: Option<Strategy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    backoff_base_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_backoff_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jitter: Option<bool>,
}

impl Change {
    /// Changes a step.
    pub(super) fn apply(&self, step: &mut Step) {
        set(&mut step.timeout_seconds, self.timeout_seconds);
        if self.queue.is_some() {
            step.queue.clone_from(&self.queue);
        }
        self.retry.apply(&mut step.retry);
        step.handler.initialization.extend(self.handler.initialization.clone());
    }
}

impl RetryChange {
    fn apply(&self, retry: &mut Retry) {
        set(&mut retry.retryable, self.retryable);
        set(&mut retry.max_attempts, self.max_attempts);
        set(&mut retry.backoff, self.backoff);
        set(&mut retry.backoff_base_ms, self.backoff_base_ms);
        set(&mut retry.max_backoff_ms, self.max_backoff_ms);
        set(&mut retry.jitter, self.jitter);
    }
}

fn set<T>(field: &mut T, change: Option<T>) {
    if let Some(value) = change {
        *field = value;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::Template;

    const YAML: &str = "{namespace: n, name: t, version: 1.0.0,
        steps: [
            {name: charge, timeout_seconds: 60, queue: sandbox, retry: {max_attempts: 2, jitter: false},
             handler: {callable: c, initialization: {url: test, currency: EUR}}},
            {name: mail, handler: {callable: m}}],
        environments: {production: {steps: {charge: {
            timeout_seconds: 20, queue: payments, retry: {max_attempts: 5},
            handler: {initialization: {url: live}}}}}}}";

    #[test]
    fn an_environment_changes_what_it_names_and_nothing_else() {
        let elsewhere = Template::parse(YAML).unwrap();
        let production = Template::parse_in("production", YAML).unwrap();
        let (before, after) = (&elsewhere.steps[0], &production.steps[0]);
        assert_eq!(before.timeout, Duration::from_secs(60));
        assert_eq!(after.timeout, Duration::from_secs(20));
        assert_eq!((before.queue.as_str(), after.queue.as_str()), ("sandbox", "payments"));
        assert_eq!((before.max_attempts, after.max_attempts), (2, 5));
        assert!(!after.back_off.jitter);
        assert_eq!(after.initialization, serde_json::json!({ "url": "live", "currency": "EUR" }));
        assert_eq!(elsewhere.steps[1], production.steps[1]);
        assert_eq!(elsewhere.digest, production.digest);
        assert_eq!(Template::parse_in("staging", YAML).unwrap(), elsewhere);
    }

    #[test]
    fn every_environment_is_checked_whichever_is_used() {
        let yaml = "{namespace: n, name: t, version: 1.0.0,
            steps: [{name: a, handler: {callable: c}}],
            environments: {
                'Bad name': {},
                production: {steps: {a: {timeout_seconds: 0, queue: No}, ghost: {}}}}}";
        let found = Template::parse(yaml).unwrap_err();
        let paths: Vec<&str> = found.iter().map(|violation| violation.path.as_str()).collect();
        let expected = [
            "environments.Bad name",
            "environments.production.steps.a.queue",
            "environments.production.steps.a.timeout_seconds",
            "environments.production.steps.ghost",
        ];
        assert_eq!(paths, expected);
    }

    #[test]
    fn an_unknown_field_of_an_environment_is_an_error_that_names_its_path() {
        let yaml = "{namespace: n, name: t, version: 1.0.0,
            steps: [{name: a, handler: {callable: c}}],
            environments: {production: {steps: {a: {timeout: 5}}}}}";
        let found = Template::parse(yaml).unwrap_err();
        assert_eq!(found[0].path, "environments.production.steps.a.timeout");
    }
}
