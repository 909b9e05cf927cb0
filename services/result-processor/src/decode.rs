//! A worker's result, as the verbs take it.

use tasker_api::{
    DeliveryToken, Invalid, field,
    mesh::v1::SubmittedResult,
    time,
    v1::{StepError, step_result::Outcome},
};
use tasker_store::{Completion, Failure, Held, Payload};

use crate::fail_steps::Failed;

/// The longest type of an error, in bytes.
const MAX_ERROR_TYPE: usize = 200;
/// Of an error's message, what is kept, in bytes.
const KEPT_MESSAGE: usize = 8 << 10;
/// The longest wait that a worker may ask for.
const MAX_RETRY_AFTER: std::time::Duration = std::time::Duration::from_secs(30 * 24 * 60 * 60);

/// Good or bad.
pub enum Judgeable {
    Good(Completion),
    Bad(Failed),
}

/// Reads a result.
///
/// # Errors
/// The token is none, or the result cannot be kept: says why.
pub fn result(submitted: SubmittedResult) -> Result<Judgeable, Invalid> {
    let result = submitted.result.unwrap_or_default();
    let token: DeliveryToken = result
        .delivery_token
        .parse()
        .map_err(|error: tasker_api::token::NotAToken| Invalid::field("delivery_token", error.to_string()))?;
    let held =
        Held { task_id: token.task_id, ordinal: token.ordinal, delivery_id: token.delivery_id };
    let traceparent = result.trace.unwrap_or_default().traceparent;
    let worker_id = submitted.worker_id;
    match result.outcome {
        Some(Outcome::Success(payload)) => {
            let payload = field::payload("payload", Some(payload))?;
            Ok(Judgeable::Good(Completion {
                message_id: None,
                held,
                payload: Payload {
                    content_type: payload.content_type,
                    data: payload.data,
                    metadata: payload.metadata,
                },
                worker_id,
                traceparent,
            }))
        }
        Some(Outcome::Failure(error)) => {
            let retry_after = time::from_duration("retry_after", result.retry_after)?;
            let (error_type, error_message, retryable) = failure(error)?;
            Ok(Judgeable::Bad(Failed {
                attempt: token.attempt,
                retry_after: retry_after.min(MAX_RETRY_AFTER),
                at_once: false,
                failure: Failure {
                    message_id: None,
                    held,
                    error_type,
                    error_message,
                    retryable,
                    wait_ms: 0,
                    worker_id,
                    traceparent,
                },
            }))
        }
        None => Err(Invalid::field("outcome", "neither success nor failure")),
    }
}

fn failure(error: StepError) -> Result<(String, String, bool), Invalid> {
    let error_type = match error.r#type {
        empty if empty.is_empty() => "UNKNOWN".to_owned(),
        given => field::text("failure.type", given, MAX_ERROR_TYPE)?,
    };
    let mut message = error.message.replace('\0', "\u{fffd}");
    let mut end = message.len().min(KEPT_MESSAGE);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    message.truncate(end);
    Ok((error_type, message, error.retryable))
}
