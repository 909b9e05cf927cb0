//! JSON Schemas of a template: what a task's context, a step's result or an event's payload must be.
//!
//! A schema must cost no more than its size shows: references stay within it and do not go in circles,
//! patterns are matched in linear time, and all of it is bounded. So recursive schemas are refused.

use std::{fmt, sync::Arc};

use jsonschema::{PatternOptions, Validator};
use serde_json::Value;

use super::Violation;
use crate::json::{self, Malformed};

/// The longest schema, in bytes of JSON.
const MAX_BYTES: usize = 64 << 10;
/// Of its objects and lists, with those that its references lead to as often as they do.
const MAX_PARTS: usize = 10_000;
const MAX_DEPTH: usize = 64;
const MAX_PATTERNS: usize = 100;
/// Of one compiled pattern, in bytes.
const MAX_PATTERN_BYTES: usize = 1 << 20;
/// Of what is wrong with data, so much is told.
const MAX_TOLD: usize = 20;
/// Of one path and one description, in bytes: all that is told has to fit into the headers of an answer.
const MAX_PATH: usize = 120;
const MAX_DESCRIPTION: usize = 160;
/// Data, and no schemas.
const DATA: [&str; 4] = ["const", "enum", "default", "examples"];

/// A schema, compiled. Clones share it.
#[derive(Clone)]
pub struct Schema {
    declared: Value,
    validator: Arc<Validator>,
}

impl Schema {
    /// Compiles a schema that stands at `path` of a template.
    pub(super) fn compile(path: &str, declared: &Value) -> Result<Self, Violation> {
        let bytes = declared.to_string().len();
        if bytes > MAX_BYTES {
            let description = format!("{bytes} bytes as JSON: at most {MAX_BYTES}");
            return Err(Violation { path: path.to_owned(), description });
        }
        Walk { name: path, root: declared, following: Vec::new(), parts: 0, patterns: 0 }
            .visit(declared, path, 0)?;
        let patterns =
            PatternOptions::regex().size_limit(MAX_PATTERN_BYTES).dfa_size_limit(MAX_PATTERN_BYTES);
        let validator = jsonschema::options().with_pattern_options(patterns).build(declared);
        let validator = validator.map_err(|error| Violation {
            path: located(path, error.instance_path().as_str()),
            description: shortened(&error.masked().to_string(), MAX_DESCRIPTION),
        })?;
        Ok(Self { declared: declared.clone(), validator: Arc::new(validator) })
    }

    /// What is wrong with JSON data that is called `name`, each with its path below it; empty if nothing
    /// is. What is more than 20 is only counted. No description repeats the data.
    ///
    /// # Errors
    /// The data is not JSON.
    pub fn violations(&self, name: &str, data: &[u8]) -> Result<Vec<Violation>, Malformed> {
        json::check(data)?;
        let value: Value =
            serde_json::from_slice(data).map_err(|error| Malformed::Syntax(error.to_string()))?;
        let mut errors = self.validator.iter_errors(&value);
        let told = errors.by_ref().take(MAX_TOLD).map(|error| Violation {
            path: located(name, error.instance_path().as_str()),
            description: shortened(&error.masked().to_string(), MAX_DESCRIPTION),
        });
        let mut found: Vec<Violation> = told.collect();
        let more = errors.count();
        if more > 0 {
            let description = format!("and {more} more violations of the schema");
            found.push(Violation { path: name.to_owned(), description });
        }
        Ok(found)
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Schema({})", self.declared)
    }
}

impl PartialEq for Schema {
    fn eq(&self, other: &Self) -> bool {
        self.declared == other.declared
    }
}

/// Follows a schema into every reference, and finds what would make it cost more than it shows.
struct Walk<'a> {
    name: &'a str,
    root: &'a Value,
    following: Vec<&'a str>,
    parts: usize,
    patterns: usize,
}

impl<'a> Walk<'a> {
    fn visit(&mut self, value: &'a Value, path: &str, depth: usize) -> Result<(), Violation> {
        let wrong = |description: String| Err(Violation { path: path.to_owned(), description });
        self.parts += 1;
        if self.parts > MAX_PARTS {
            return wrong(format!("more than {MAX_PARTS} parts, references followed"));
        }
        if depth > MAX_DEPTH {
            return wrong(format!("nested more than {MAX_DEPTH} deep, references followed"));
        }
        match value {
            Value::Object(fields) => {
                for (key, inner) in fields {
                    self.field(key, inner, &format!("{path}.{key}"), depth)?;
                }
            }
            Value::Array(items) => {
                for (nth, inner) in items.iter().enumerate().filter(|(_, it)| is_part(it)) {
                    self.visit(inner, &format!("{path}[{nth}]"), depth + 1)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn field(
        &mut self,
        key: &str,
        value: &'a Value,
        path: &str,
        depth: usize,
    ) -> Result<(), Violation> {
        let wrong =
            |what: &str| Err(Violation { path: path.to_owned(), description: what.to_owned() });
        match (key, value) {
            ("$ref", Value::String(reference)) => self.follow(reference, path, depth),
            ("$dynamicRef" | "$recursiveRef", Value::String(_)) => {
                wrong("use `$ref` with a place in this schema, such as #/$defs/name")
            }
            ("$id" | "id", Value::String(_)) if depth > 0 => {
                wrong("only the whole schema may have an id")
            }
            ("pattern", Value::String(_)) => self.count_patterns(1, path),
            (key, _) if DATA.contains(&key) => Ok(()),
            (key, inner) if is_part(inner) => {
                if let ("patternProperties", Value::Object(patterns)) = (key, inner) {
                    self.count_patterns(patterns.len(), path)?;
                }
                self.visit(inner, path, depth + 1)
            }
            _ => Ok(()),
        }
    }

    fn follow(&mut self, reference: &'a str, path: &str, depth: usize) -> Result<(), Violation> {
        let wrong = |description: String| Err(Violation { path: path.to_owned(), description });
        let pointer = reference.strip_prefix('#').unwrap_or("nowhere");
        let Some(target) = self.root.pointer(pointer) else {
            return wrong(format!(
                "{reference:?} is no place in this schema, such as #/$defs/name"
            ));
        };
        if self.following.contains(&reference) {
            return wrong(format!(
                "{reference:?} leads back to itself: schemas may not be recursive"
            ));
        }
        self.following.push(reference);
        let visited = self.visit(target, &located(self.name, pointer), depth + 1);
        self.following.pop();
        visited
    }

    fn count_patterns(&mut self, more: usize, path: &str) -> Result<(), Violation> {
        self.patterns += more;
        if self.patterns > MAX_PATTERNS {
            let description = format!("more than {MAX_PATTERNS} patterns, references followed");
            return Err(Violation { path: path.to_owned(), description });
        }
        Ok(())
    }
}

fn is_part(value: &Value) -> bool {
    value.is_object() || value.is_array()
}

/// A place below `name`, from a JSON pointer: `context.lines[0].price`.
fn located(name: &str, pointer: &str) -> String {
    let mut path = name.to_owned();
    for segment in pointer.split('/').skip(1) {
        let segment = segment.replace("~1", "/").replace("~0", "~");
        if segment.bytes().all(|byte| byte.is_ascii_digit()) {
            path += &format!("[{segment}]");
        } else {
            path += &format!(".{segment}");
        }
    }
    shortened(&path, MAX_PATH)
}

/// Cut off at so many bytes; without NUL, which the database does not take.
fn shortened(text: &str, most: usize) -> String {
    let mut text = text.replace('\0', "\u{fffd}");
    text.truncate(text.floor_char_boundary(most));
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn compiled(schema: &Value) -> Schema {
        Schema::compile("input_schema", schema).unwrap()
    }

    fn refused(schema: &Value) -> (String, String) {
        let Violation { path, description } = Schema::compile("input_schema", schema).unwrap_err();
        (path, description)
    }

    fn found(schema: &Value, data: &str) -> Vec<(String, String)> {
        let found = compiled(schema).violations("context", data.as_bytes()).unwrap();
        found.into_iter().map(|it| (it.path, it.description)).collect()
    }

    #[test]
    fn every_violation_is_found_with_its_path_and_without_the_data() {
        let schema = json!({"type": "object", "required": ["order"], "properties": {
            "lines": {"type": "array", "items": {"type": "object", "properties": {
                "price": {"type": "number", "minimum": 0}}}}}});
        let found = found(&schema, r#"{"lines": [{"price": "secret"}, {"price": -17}]}"#);
        let paths: Vec<&str> = found.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(paths, ["context", "context.lines[0].price", "context.lines[1].price"]);
        assert!(found[0].1.contains("order"), "{found:?}");
        assert!(found.iter().all(|(_, what)| !what.contains("secret") && !what.contains("17")));
    }

    #[test]
    fn a_flood_of_violations_is_counted() {
        let schema = json!({"items": {"type": "string"}});
        let data = format!("[{}1]", "1,".repeat(99));
        let found = found(&schema, &data);
        assert_eq!(found.len(), MAX_TOLD + 1);
        assert_eq!(found[MAX_TOLD].1, "and 80 more violations of the schema");
    }

    #[test]
    fn large_numbers_keep_all_their_digits() {
        let schema = json!({"type": "integer"});
        assert_eq!(found(&schema, "63340286662973277706162286946811886609896461828096"), []);
        let text = r#"{"const": 9007199254740993}"#;
        let exact = serde_json::from_str(text).unwrap();
        assert_eq!(found(&exact, "9007199254740993"), []);
        assert_eq!(found(&exact, "9007199254740992").len(), 1);
    }

    #[test]
    fn a_schema_that_is_none_is_refused_at_its_place() {
        let (path, _) = refused(&json!({"properties": {"n": {"type": "nonsense"}}}));
        assert_eq!(path, "input_schema.properties.n.type");
        assert_eq!(refused(&json!(17)).0, "input_schema");
    }

    #[test]
    fn references_stay_within_the_schema() {
        let schema = json!({"$defs": {"n": {"type": "integer"}}, "items": {"$ref": "#/$defs/n"}});
        assert_eq!(found(&schema, "[1, \"2\"]")[0].0, "context[1]");
        for elsewhere in ["https://example.com/schema.json", "file:///etc/passwd", "#/$defs/ghost"]
        {
            let (path, what) = refused(&json!({"items": {"$ref": elsewhere}}));
            assert_eq!(path, "input_schema.items.$ref", "{what}");
        }
    }

    #[test]
    fn a_schema_that_costs_more_than_it_shows_is_refused() {
        for circle in [
            json!({"$ref": "#"}),
            json!({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}),
            json!({"properties": {"next": {"$ref": "#"}}}),
        ] {
            assert!(refused(&circle).1.contains("recursive"), "{circle}");
        }
        let mut doubling = json!({"level_0": {"type": "string"}});
        for level in 1..20 {
            let below = json!({"$ref": format!("#/$defs/level_{}", level - 1)});
            doubling[format!("level_{level}")] = json!({"allOf": [below, below]});
        }
        let (_, what) = refused(&json!({"$defs": doubling}));
        assert!(what.contains("parts"), "{what}");
        let deep = (0..70).fold(json!({}), |inner, _| json!({"not": inner}));
        assert!(refused(&deep).1.contains("deep"));
        let patterns: Vec<Value> = (0..=100).map(|n| json!({"pattern": n.to_string()})).collect();
        assert!(refused(&json!({"anyOf": patterns})).1.contains("patterns"));
        assert!(refused(&json!({"title": "x".repeat(MAX_BYTES)})).1.contains("bytes"));
    }

    #[test]
    fn a_pattern_takes_linear_time_or_is_refused() {
        // Hours, where a matcher backtracks.
        let schema = json!({"pattern": "^(a+)+$"});
        assert_eq!(found(&schema, &format!("\"{}!\"", "a".repeat(100_000))).len(), 1);
        let (path, _) = refused(&json!({"pattern": "(a)\\1"}));
        assert_eq!(path, "input_schema.pattern");
        refused(&json!({"pattern": "\\w{900}{900}"}));
    }
}
