//! Which domain events somebody wants to hear of.

use std::str::FromStr;

/// The longest pattern, in bytes.
const MAX_PATTERN: usize = 256;

/// A name of events in which `*` stands for any one part, and `**` at the end for all further parts:
/// `orders.*` is `orders.paid` and not `orders.paid.late`; `orders.**` is both; `**` is every event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventPattern {
    parts: Vec<String>,
    /// Whether anything may follow.
    open: bool,
}

/// The text is no pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("give the name of an event, with `*` for one part, or `**` at the end for all that follow")]
pub struct NotAPattern;

impl FromStr for EventPattern {
    type Err = NotAPattern;

    fn from_str(text: &str) -> Result<Self, NotAPattern> {
        let mut parts: Vec<String> = text.split('.').map(str::to_owned).collect();
        let open = parts.pop_if(|last| last == "**").is_some();
        let sound = |part: &String| part == "*" || !part.is_empty() && !part.contains('*');
        if text.len() > MAX_PATTERN || !parts.iter().all(sound) {
            return Err(NotAPattern);
        }
        Ok(Self { parts, open })
    }
}

impl EventPattern {
    /// Whether an event of that name is meant.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let mut rest = name.split('.');
        for part in &self.parts {
            match rest.next() {
                Some(given) if part == "*" || part == given => {}
                _ => return false,
            }
        }
        rest.next().is_some() == self.open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_one_part_and_two_are_all_that_follow() {
        let matches =
            |pattern: &str, name: &str| pattern.parse::<EventPattern>().unwrap().matches(name);
        assert!(matches("orders.paid", "orders.paid"));
        assert!(matches("orders.*", "orders.paid"));
        assert!(matches("*.paid", "orders.paid"));
        assert!(matches("orders.**", "orders.paid.late"));
        assert!(matches("**", "orders"));
        assert!(!matches("orders.*", "orders.paid.late"));
        assert!(!matches("orders.*", "orders"));
        assert!(!matches("orders.**", "orders"));
        assert!(!matches("orders.paid", "orders.paid.late"));
        assert!(!matches("order.*", "orders.paid"));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in ["", "orders.", "orders.**.paid", "orders.pa*", ".", "***"] {
            assert_eq!(text.parse::<EventPattern>(), Err(NotAPattern), "{text}");
        }
    }
}
