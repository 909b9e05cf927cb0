//! Values from the environment and from flags: text, until a field wants something else.

use figment::{error::Actual, value::Value};

/// Reads `text` as what a field expected instead of a string; none if it is no such thing.
///
/// Only called when a field refuses a string: so a URL, or a version like `1.10`, stays as written.
pub(super) fn reread(text: &str, expected: &str) -> Option<Value> {
    let parsed: Value = text.parse().expect("figment's parser takes any text");
    match parsed {
        Value::String(..) if expected == "a sequence" => Some(list(text)),
        // One number, where a list of them is wanted.
        Value::Num(..) | Value::Bool(..) if expected == "a sequence" => Some(vec![parsed].into()),
        Value::String(..) | Value::Char(..) => None,
        other => Some(other),
    }
}

fn list(text: &str) -> Value {
    let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
    items.map(str::to_owned).collect::<Vec<_>>().into()
}

/// The text that was found, if it was text.
pub(super) fn found(actual: &Actual) -> Option<&str> {
    match actual {
        Actual::Str(text) => Some(text),
        _ => None,
    }
}
