//! A template as people write it. Unknown fields are errors.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    DependencyResults, Limit, MAX_YAML_BYTES, Violation,
    environments::Environments,
    event,
    kind::{BatchConfig, Type},
    lifecycle,
};
use crate::{back_off::Strategy, identity::Identity};

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Definition {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) version: String,
    #[serde(default)]
    pub(super) description: String,
    #[serde(default)]
    pub(super) metadata: Map<String, Value>,
    #[serde(default)]
    pub(super) identity: Identity,
    // What is newer than the first templates is left out where it says nothing: their digests stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) input_schema: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) lifecycle: Option<lifecycle::Definition>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) limits: Vec<Limit>,
    pub(super) steps: Vec<Step>,
    // A field that is not used is not written: the digest is of what the definition says.
    #[serde(default, skip_serializing_if = "Environments::is_empty")]
    pub(super) environments: Environments,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Step {
    pub(super) name: String,
    #[serde(default, rename = "type", skip_serializing_if = "Type::is_standard")]
    pub(super) kind: Type,
    pub(super) handler: Handler,
    #[serde(default)]
    pub(super) dependencies: Vec<String>,
    #[serde(default)]
    pub(super) retry: Retry,
    #[serde(default = "five_minutes")]
    pub(super) timeout_seconds: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) limits: Vec<Limit>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) batch_config: Option<BatchConfig>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) queue: Option<String>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) dependency_results: DependencyResults,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) result_schema: Option<Value>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) publishes_events: Vec<event::Declared>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Handler {
    pub(super) callable: String,
    #[serde(default)]
    pub(super) initialization: Map<String, Value>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Retry {
    pub(super) retryable: bool,
    pub(super) max_attempts: u32,
    pub(super) backoff: Strategy,
    pub(super) backoff_base_ms: u64,
    pub(super) max_backoff_ms: u64,
    pub(super) jitter: bool,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            retryable: true,
            max_attempts: 3,
            backoff: Strategy::default(),
            backoff_base_ms: 1_000,
            max_backoff_ms: 60_000,
            jitter: true,
        }
    }
}

fn five_minutes() -> u64 {
    300
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Definition {
    pub(super) fn read(yaml: &str) -> Result<Self, Violation> {
        let whole = |description: String| Violation { path: String::new(), description };
        if yaml.len() > MAX_YAML_BYTES {
            return Err(whole(format!("longer than {MAX_YAML_BYTES} bytes")));
        }
        // As YAML 1.2 has it: `no` and `n` are words.
        let options = serde_saphyr::options! { strict_booleans: true };
        let value: Value = serde_saphyr::from_str_with_options(yaml, options)
            .map_err(|error| whole(format!("not YAML: {}", first_line(&error.to_string()))))?;
        serde_path_to_error::deserialize(value).map_err(|error| {
            let path = error.path().to_string();
            let path = if path == "." { String::new() } else { path };
            Violation { path, description: error.into_inner().to_string() }
        })
    }

    /// Makes the changes that an environment asks for.
    pub(super) fn enter(&mut self, environment: &str) {
        let Some(environment) = self.environments.get(environment) else { return };
        for step in &mut self.steps {
            if let Some(change) = environment.steps.get(&step.name) {
                change.apply(step);
            }
        }
    }

    /// The same definition always as the same text.
    pub(super) fn canonical(&self) -> String {
        let value = serde_json::to_value(self).expect("maps have text keys");
        value.to_string()
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}
