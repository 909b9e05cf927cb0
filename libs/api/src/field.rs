//! Reads fields of requests, or says what is wrong with them.

use std::str::FromStr;

use tasker_domain::{TaskId, json};

use crate::{Invalid, v1};

/// The largest user data, in bytes.
pub const MAX_PAYLOAD_BYTES: usize = 4 << 20;
/// The largest metadata of a payload: entries, and bytes in all.
const MAX_METADATA: (usize, usize) = (64, 16 << 10);
/// Who acts by hand, and why: the longest of each, in bytes.
const MAX_OPERATOR: usize = 128;
const MAX_REASON: usize = 1 << 10;
/// What an empty content type means.
pub const JSON: &str = "application/json";

/// Reads an id.
///
/// # Errors
/// The text is not a UUID.
pub fn id<T: FromStr<Err = tasker_domain::id::NotAnId>>(
    path: &str,
    text: &str,
) -> Result<T, Invalid> {
    text.parse().map_err(|error: T::Err| Invalid::field(path, error.to_string()))
}

/// Reads a task's id from a field named `task_id`.
///
/// # Errors
/// The text is not a UUID.
pub fn task_id(text: &str) -> Result<TaskId, Invalid> {
    id("task_id", text)
}

/// Reads text that may be at most so many bytes long.
///
/// # Errors
/// It is longer, or holds a NUL, which the database does not take.
pub fn text(path: &str, text: String, max: usize) -> Result<String, Invalid> {
    if text.len() > max {
        return Err(Invalid::field(path, format!("{} bytes: at most {max}", text.len())));
    }
    if text.contains('\0') {
        return Err(Invalid::field(path, "holds a NUL character"));
    }
    Ok(text)
}

/// Who acts by hand, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    /// As the history names it: `operator:<who>`.
    pub actor: String,
    /// May be empty.
    pub reason: String,
}

/// Reads who acts by hand, and why, from the fields `operator` and `reason`.
///
/// # Errors
/// Nobody is named, or one of them is too long.
pub fn operator(operator: String, reason: String) -> Result<Operator, Invalid> {
    let mut invalid = Invalid::new();
    let who = invalid.take(text("operator", operator, MAX_OPERATOR));
    if who.as_ref().is_some_and(String::is_empty) {
        invalid.add("operator", "say who you are");
    }
    let reason = invalid.take(text("reason", reason, MAX_REASON));
    let (Some(who), Some(reason)) = (who, reason) else { return Err(invalid) };
    invalid.check()?;
    Ok(Operator { actor: format!("operator:{who}"), reason })
}

/// User data that has been looked at as far as needed.
#[derive(Debug, Clone, PartialEq)]
pub struct Payload {
    /// Never empty.
    pub content_type: String,
    /// As given.
    pub data: bytes::Bytes,
    /// Beside the data.
    pub metadata: std::collections::BTreeMap<String, String>,
}

impl Payload {
    /// Whether the data says that it is JSON.
    #[must_use]
    pub fn is_json(&self) -> bool {
        is_json(&self.content_type)
    }
}

/// Whether a media type is JSON's.
#[must_use]
pub fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case(JSON) || essence.to_ascii_lowercase().ends_with("+json")
}

/// Reads user data; unset means `{}`.
///
/// # Errors
/// It is too large, or says that it is JSON and is not, or is nested too deep.
pub fn payload(path: &str, payload: Option<v1::Payload>) -> Result<Payload, Invalid> {
    let Some(payload) = payload else {
        let data = bytes::Bytes::from_static(b"{}");
        return Ok(Payload { content_type: JSON.to_owned(), data, metadata: Default::default() });
    };
    let size = payload.data.len();
    if size > MAX_PAYLOAD_BYTES {
        let what = format!(
            "{size} bytes: at most {MAX_PAYLOAD_BYTES}; store it elsewhere and send a reference"
        );
        return Err(Invalid::field(format!("{path}.data"), what).because("PAYLOAD_TOO_LARGE"));
    }
    let content_type = match payload.content_type {
        empty if empty.is_empty() => JSON.to_owned(),
        given => text(&format!("{path}.content_type"), given, 255)?,
    };
    if is_json(&content_type) {
        json::check(&payload.data).map_err(|error| {
            Invalid::field(format!("{path}.data"), error.to_string()).because("PAYLOAD_MALFORMED")
        })?;
    }
    let bytes: usize = payload.metadata.iter().map(|(key, value)| key.len() + value.len()).sum();
    let nul =
        payload.metadata.iter().any(|(key, value)| key.contains('\0') || value.contains('\0'));
    if payload.metadata.len() > MAX_METADATA.0 || bytes > MAX_METADATA.1 || nul {
        let what =
            format!("at most {} entries and {} bytes, without NUL", MAX_METADATA.0, MAX_METADATA.1);
        return Err(Invalid::field(format!("{path}.metadata"), what));
    }
    Ok(Payload { content_type, data: payload.data, metadata: payload.metadata })
}
