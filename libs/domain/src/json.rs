//! JSON of users: looked at only as far as needed.

use serde_json::Value;

/// How deep JSON may be nested.
pub const MAX_DEPTH: usize = 64;

/// Why a text is not JSON that we take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It is not JSON at all.
    #[error("not JSON: {0}")]
    Syntax(String),
    /// It is nested too deep.
    #[error("nested more than {MAX_DEPTH} deep")]
    TooDeep,
}

/// Checks syntax and depth without building the value.
///
/// # Errors
/// The text is not JSON, or is nested more than [`MAX_DEPTH`] deep.
pub fn check(text: &[u8]) -> Result<(), Malformed> {
    if depth(text) > MAX_DEPTH {
        return Err(Malformed::TooDeep);
    }
    serde_json::from_slice::<serde::de::IgnoredAny>(text)
        .map(|_| ())
        .map_err(|error| Malformed::Syntax(error.to_string()))
}

/// The same value always as the same text: keys sorted, no spaces, numbers as written.
///
/// # Errors
/// The text is not JSON, or is nested more than [`MAX_DEPTH`] deep.
pub fn canonical(text: &[u8]) -> Result<String, Malformed> {
    check(text)?;
    // Objects are sorted maps here: the feature that keeps their order is off.
    let value: Value =
        serde_json::from_slice(text).map_err(|error| Malformed::Syntax(error.to_string()))?;
    Ok(value.to_string())
}

/// How deep brackets are nested, outside strings. Says nothing about the rest of the syntax.
fn depth(text: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0usize, 0, false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_all_their_digits() {
        let text = br#"{"b": 63340286662973277706162286946811886609896461828096, "a": 1.10}"#;
        let expected = r#"{"a":1.10,"b":63340286662973277706162286946811886609896461828096}"#;
        assert_eq!(canonical(text).unwrap(), expected);
    }

    #[test]
    fn a_depth_bomb_is_refused_before_it_is_parsed() {
        let bomb = "[".repeat(1_000_000);
        assert_eq!(check(bomb.as_bytes()), Err(Malformed::TooDeep));
        let deepest = format!("{}{}", "[".repeat(MAX_DEPTH), "]".repeat(MAX_DEPTH));
        assert_eq!(check(deepest.as_bytes()), Ok(()));
        assert_eq!(check(br#""[[[[\"[[[[""#), Ok(()));
    }

    #[test]
    fn what_is_not_json_is_refused() {
        assert!(matches!(check(b"{\"a\": }"), Err(Malformed::Syntax(_))));
        assert!(matches!(check(b""), Err(Malformed::Syntax(_))));
    }
}
