//! How much of something may happen at once, or in a time: limits that steps share by name.

use std::{fmt::Write as _, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// The most limits that one step may have, those of its template included.
pub const MAX_LIMITS: usize = 8;
/// The largest count of a limit.
const MAX_COUNT: u32 = 1_000_000;
/// The longest time of a rate: a day.
const MAX_PER_SECONDS: u32 = 24 * 60 * 60;
/// The longest value of a key that is kept as it is, in bytes.
const MAX_KEY: usize = 128;

/// A limit on the steps that name it, of whatever template: in the namespace whose workers run them.
///
/// Two templates that share a name share what is in use of it; each step is held to its own numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// 1 to 128 characters of `a-z 0-9 _ - .`, a letter first.
    pub name: String,
    /// A JSON pointer into the task's context: each value there has a limit of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// How many steps may run at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_concurrent: Option<u32>,
    /// How many may begin in a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
}

/// So many in any such time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// How many may begin.
    pub count: u32,
    /// In how many seconds.
    pub per_seconds: u32,
}

impl Rate {
    /// The time in which so many may begin.
    #[must_use]
    pub fn per(self) -> Duration {
        Duration::from_secs(self.per_seconds.into())
    }
}

impl Limit {
    /// The value of the key in a context, as the limit tells values apart: texts as they are, others as JSON,
    /// a digest of what is long. Empty for a limit without key, and where the context has no such value.
    #[must_use]
    pub fn value_of(&self, context: &Value) -> String {
        let found = self.key.as_ref().and_then(|pointer| context.pointer(pointer));
        let text = match found {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        // The database's text takes no NUL.
        if text.len() <= MAX_KEY && !text.contains('\0') {
            return text;
        }
        let mut hex = "sha256:".to_owned();
        for byte in Sha256::digest(text.as_bytes()) {
            write!(hex, "{byte:02x}").expect("a string takes all");
        }
        hex
    }

    /// What is wrong with it, each with the field it is about.
    pub(super) fn violations(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        if let Some(pointer) = &self.key
            && !is_pointer(pointer)
        {
            found.push(("key", "give a JSON pointer such as /customer_id".to_owned()));
        }
        if self.max_concurrent.is_none() && self.rate.is_none() {
            found.push(("", "give max_concurrent, rate or both".to_owned()));
        }
        let count = |count: u32| (1..=MAX_COUNT).contains(&count);
        if self.max_concurrent.is_some_and(|max| !count(max)) {
            found.push(("max_concurrent", format!("give 1 to {MAX_COUNT}")));
        }
        if let Some(Rate { count: most, per_seconds }) = self.rate {
            if !count(most) {
                found.push(("rate.count", format!("give 1 to {MAX_COUNT}")));
            }
            if !(1..=MAX_PER_SECONDS).contains(&per_seconds) {
                found.push(("rate.per_seconds", format!("give 1 to {MAX_PER_SECONDS}")));
            }
        }
        found
    }
}

/// As RFC 6901 has it, but for the empty one, which is the whole context.
fn is_pointer(text: &str) -> bool {
    let escapes = text.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
    text.starts_with('/') && text.len() <= 256 && escapes
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Template;

    fn keyed(pointer: &str) -> Limit {
        let key = Some(pointer.to_owned());
        Limit { name: "l".to_owned(), key, max_concurrent: Some(1), rate: None }
    }

    #[test]
    fn a_key_tells_values_of_the_context_apart() {
        let context = json!({"customer": {"id": 7}, "region": "eu", "tags": ["a/b"], "none": null});
        assert_eq!(keyed("/customer/id").value_of(&context), "7");
        assert_eq!(keyed("/region").value_of(&context), "eu");
        assert_eq!(keyed("/tags/0").value_of(&context), "a/b");
        assert_eq!(keyed("/tags").value_of(&context), r#"["a/b"]"#);
        for nothing in ["/ghost", "/none", "/region/deeper"] {
            assert_eq!(keyed(nothing).value_of(&context), "");
        }
        assert_eq!(Limit { key: None, ..keyed("/region") }.value_of(&context), "");
    }

    #[test]
    fn a_long_value_is_told_apart_by_its_digest() {
        let of = |text: String| keyed("/v").value_of(&json!({ "v": text }));
        let (one, other) = (of("a".repeat(129)), of(format!("{}b", "a".repeat(128))));
        assert!(one.starts_with("sha256:") && one.len() == 71, "{one}");
        assert_ne!(one, other);
        assert!(of("\0".to_owned()).starts_with("sha256:"));
    }

    #[test]
    fn wrong_limits_are_named_by_their_paths() {
        let yaml = "{namespace: n, name: t, version: 1.0.0,
            limits: [{name: A, max_concurrent: 0}, {name: b, key: customer}, {name: c, max_concurrent: 1}],
            steps: [{name: s, handler: {callable: c}, limits: [
                {name: c, max_concurrent: 1},
                {name: d, rate: {count: 0, per_seconds: 86401}}]}]}";
        let paths: Vec<String> =
            Template::parse(yaml).unwrap_err().into_iter().map(|found| found.path).collect();
        assert_eq!(
            paths,
            [
                "limits[0].name",
                "limits[0].max_concurrent",
                "limits[1].key",
                "limits[1]",
                "steps[0].limits[0].name",
                "steps[0].limits[1].rate.count",
                "steps[0].limits[1].rate.per_seconds",
            ]
        );
    }

    #[test]
    fn a_step_has_the_limits_of_its_template_and_its_own() {
        let template = Template::parse(
            "{namespace: n, name: t, version: 1.0.0,
              limits: [{name: all, max_concurrent: 9}],
              steps: [
                {name: one, handler: {callable: c}},
                {name: two, handler: {callable: c}, limits: [
                    {name: own, key: /id, rate: {count: 5, per_seconds: 60}}]}]}",
        )
        .unwrap();
        let names = |nth: usize| -> Vec<&str> {
            template.steps[nth].limits.iter().map(|limit| limit.name.as_str()).collect()
        };
        assert_eq!((names(0), names(1)), (vec!["all"], vec!["all", "own"]));
        assert_eq!(template.steps[1].limits[1].rate.unwrap().per(), Duration::from_secs(60));
    }

    #[test]
    fn a_template_without_limits_is_the_same_as_before_there_were_any() {
        let digest = |yaml: &str| Template::parse(yaml).unwrap().digest;
        let without = digest("{namespace: n, name: t, version: 1.0.0, steps: []}");
        assert_eq!(
            without,
            digest("{namespace: n, name: t, version: 1.0.0, limits: [], steps: []}")
        );
    }
}
