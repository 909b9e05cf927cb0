//! A worker's result, checked.

use std::time::Duration;

use tasker_api::{
    DeliveryToken, Invalid, expansion, field,
    mesh::v1::SubmittedResult,
    time, token,
    v1::{Expansion, StepError, step_result::Outcome},
};
use tasker_store::{Held, Payload};

/// The longest type of an error, in bytes.
const MAX_ERROR_TYPE: usize = 200;
/// Of an error's message, what is kept, in bytes.
const KEPT_MESSAGE: usize = 8 << 10;
/// The longest wait that a worker may ask for.
pub const MAX_WAIT: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// A result that can be kept.
#[derive(Debug, Clone)]
pub struct CheckedResult {
    /// Step and lease.
    pub held: Held,
    /// Which attempt it was.
    pub attempt: i32,
    /// What came of it.
    pub outcome: Result<Payload, StepFailure>,
    /// What a good one says of what comes into being by it.
    pub expansion: Option<Expansion>,
    /// After a failure: what the worker asked to wait at least.
    pub retry_after: Duration,
    /// Who ran it.
    pub worker_id: String,
    /// Of the span that ran it; may be empty.
    pub traceparent: String,
}

/// Why a step failed.
#[derive(Debug, Clone)]
pub struct StepFailure {
    /// For programs.
    pub error_type: String,
    /// For people.
    pub message: String,
    /// Whether another attempt may help.
    pub retryable: bool,
}

/// Checks a result.
///
/// # Errors
/// The token is none, or the result cannot be kept: says why.
pub fn check(submitted: SubmittedResult) -> Result<CheckedResult, Invalid> {
    let result = submitted.result.unwrap_or_default();
    let token = token(&result.delivery_token)?;
    let expansion = match (&result.outcome, result.expansion) {
        (Some(Outcome::Success(_)), Some(said)) => Some(expansion::check("expansion", said)?),
        (_, Some(_)) => return Err(Invalid::field("expansion", "only beside `success`")),
        (_, None) => None,
    };
    let retry_after = time::from_duration("retry_after", result.retry_after)?;
    Ok(CheckedResult {
        held: Held {
            task_id: token.task_id,
            ordinal: token.ordinal,
            delivery_id: token.delivery_id,
        },
        attempt: token.attempt,
        outcome: match result.outcome {
            Some(Outcome::Success(payload)) => {
                let field::Payload { content_type, data, metadata } =
                    field::payload("success", Some(payload))?;
                Ok(Payload { content_type, data, metadata })
            }
            Some(Outcome::Failure(error)) => Err(failure(error)?),
            Some(Outcome::Yielded(_)) => {
                return Err(Invalid::field("yielded", "this is no result to judge"));
            }
            None => return Err(Invalid::field("outcome", "neither success nor failure")),
        },
        expansion,
        retry_after: retry_after.min(MAX_WAIT),
        worker_id: submitted.worker_id,
        traceparent: traceparent(result.trace.unwrap_or_default().traceparent),
    })
}

/// Reads a delivery's token from a field named `delivery_token`.
///
/// # Errors
/// The text is none.
pub fn token(text: &str) -> Result<DeliveryToken, Invalid> {
    text.parse()
        .map_err(|error: token::NotAToken| Invalid::field("delivery_token", error.to_string()))
}

/// What is no trace's place is dropped: a result is worth more than its span.
#[must_use]
pub fn traceparent(text: String) -> String {
    let fits =
        text.len() == 55 && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    if fits { text } else { String::new() }
}

fn failure(error: StepError) -> Result<StepFailure, Invalid> {
    let error_type = match error.r#type {
        empty if empty.is_empty() => "UNKNOWN".to_owned(),
        given => field::text("failure.type", given, MAX_ERROR_TYPE)?,
    };
    let mut message = error.message.replace('\0', "\u{fffd}");
    message.truncate(message.floor_char_boundary(KEPT_MESSAGE));
    Ok(StepFailure { error_type, message, retryable: error.retryable })
}

/// All that is wrong with a result, as a sentence.
#[must_use]
pub fn sentence(invalid: &Invalid) -> String {
    let parts: Vec<String> =
        invalid.violations().iter().map(|(path, what)| format!("{path}: {what}")).collect();
    parts.join("; ")
}
