//! What a step goes on from, checked.

use prost::Message as _;
use tasker_api::{Invalid, field, v1::Checkpoint};

/// Counters of one checkpoint.
const MAX_COUNTERS: usize = 64;
/// The longest name of a counter, in bytes.
const MAX_NAME: usize = 64;

/// Checks a checkpoint, and encodes it as it is kept.
///
/// # Errors
/// It cannot be kept: says why.
pub fn check(path: &str, checkpoint: &Checkpoint, max_bytes: usize) -> Result<Vec<u8>, Invalid> {
    let size = checkpoint.encoded_len();
    if size > max_bytes {
        let what =
            format!("{size} bytes: at most {max_bytes}; store it elsewhere and save a reference");
        return Err(Invalid::field(path, what).because("PAYLOAD_TOO_LARGE"));
    }
    let mut invalid = Invalid::new();
    for (field, payload) in [("cursor", &checkpoint.cursor), ("result", &checkpoint.result)] {
        invalid.take(field::payload(&format!("{path}.{field}"), payload.clone()));
    }
    let counters = &checkpoint.counters;
    if counters.len() > MAX_COUNTERS {
        let what = format!("{} of them: at most {MAX_COUNTERS}", counters.len());
        invalid.add(format!("{path}.counters"), what);
    }
    if counters.keys().any(|name| !(1..=MAX_NAME).contains(&name.len())) {
        invalid.add(format!("{path}.counters"), format!("names have 1 to {MAX_NAME} bytes"));
    }
    invalid.check()?;
    Ok(checkpoint.encode_to_vec())
}

#[cfg(test)]
mod tests {
    use tasker_api::v1::Payload;

    use super::*;

    fn at(cursor: &str) -> Checkpoint {
        let cursor = Payload { data: cursor.to_owned().into(), ..Payload::default() };
        Checkpoint { cursor: Some(cursor), ..Checkpoint::default() }
    }

    fn refused(checkpoint: &Checkpoint) -> String {
        let invalid = check("checkpoint", checkpoint, 1_000).unwrap_err();
        tasker_stage::result::sentence(&invalid)
    }

    #[test]
    fn what_is_kept_is_what_was_given() {
        let given =
            Checkpoint { counters: [("rows".to_owned(), -7)].into(), ..at(r#"{"page": 3.10}"#) };
        let kept = check("checkpoint", &given, 1_000).unwrap();
        assert_eq!(Checkpoint::decode(kept.as_slice()).unwrap(), given);
    }

    #[test]
    fn what_cannot_be_kept_is_refused_by_its_path() {
        assert!(refused(&at(&"x".repeat(1_000))).contains("at most 1000"));
        assert!(refused(&at("{")).starts_with("checkpoint.cursor.data: "));
        let names = |names: Vec<String>| Checkpoint {
            counters: names.into_iter().map(|name| (name, 1)).collect(),
            ..Checkpoint::default()
        };
        let many = names((0..65).map(|n| n.to_string()).collect());
        assert!(refused(&many).starts_with("checkpoint.counters: 65 of them"));
        for name in [String::new(), "x".repeat(65)] {
            assert!(refused(&names(vec![name])).starts_with("checkpoint.counters: names"));
        }
    }
}
