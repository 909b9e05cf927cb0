//! One delivery: its handler's span, its time limit, and what becomes of its outcome.

use std::{any::Any, panic::AssertUnwindSafe, pin::pin, sync::Arc, time::Duration};

use futures::FutureExt as _;
use tasker_api::v1::{StepResult, step_result::Outcome};
use tasker_trace::TraceContext;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{Instrument as _, Span, field, info_span};

use crate::{context::StepContext, failure::HandlerError, handler::PayloadHandler, output::Output};

/// What the contract allows for a payload, in bytes.
const LARGEST_PAYLOAD: usize = 4 * 1024 * 1024;

/// How long a handler may run.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    /// When the step times out.
    pub(crate) deadline: Option<Instant>,
    /// After it was told to stop.
    pub(crate) grace: Duration,
}

/// Runs one delivery to its end, whatever its handler does.
pub(crate) async fn run(
    handler: Option<Arc<dyn PayloadHandler>>,
    step: StepContext,
    limits: Limits,
) -> StepResult {
    let span = span(&step);
    let outcome = match handler {
        Some(handler) => attempt(&*handler, &step, limits).instrument(span.clone()).await,
        None => Err(no_handler(&step)),
    };
    let outcome = outcome.and_then(within_size);
    if let Err(error) = &outcome
        && !error.is_yield()
    {
        span.record("error.type", error.kind()).record("otel.status_code", "ERROR");
    }
    let delivered = TraceContext::from(step.delivery().trace.clone().unwrap_or_default());
    let trace = Some(delivered.or_of(&span).into());
    result(&step.delivery().delivery_token, trace, outcome)
}

/// The answer to a delivery.
pub(crate) fn result(
    token: &str,
    trace: Option<tasker_api::v1::TraceContext>,
    outcome: Result<Output, HandlerError>,
) -> StepResult {
    let retry_after = outcome.as_ref().err().and_then(HandlerError::retry_after);
    let (outcome, expansion) = match outcome {
        Ok(Output { payload, expansion }) => (Outcome::Success(payload), expansion),
        Err(error) => (error.into_outcome(), None),
    };
    StepResult {
        delivery_token: token.to_owned(),
        // A wait that is too long to be written is longer than anyone waits.
        retry_after: retry_after.and_then(|wait| wait.try_into().ok()),
        outcome: Some(outcome),
        trace,
        expansion,
    }
}

fn span(step: &StepContext) -> Span {
    let span = info_span!(
        parent: None,
        "step.run",
        otel.kind = "consumer",
        otel.status_code = field::Empty,
        error.type = field::Empty,
        task.id = step.task_id(),
        step.name = step.step_name(),
        step.attempt = step.attempt(),
        namespace = step.namespace(),
    );
    TraceContext::from(step.delivery().trace.clone().unwrap_or_default()).adopt(&span);
    span
}

async fn attempt(
    handler: &dyn PayloadHandler,
    step: &StepContext,
    limits: Limits,
) -> Result<Output, HandlerError> {
    let caught = AssertUnwindSafe(handler.run(step)).catch_unwind();
    let mut work = pin!(caught.map(|ended| ended.unwrap_or_else(|panic| Err(panicked(&*panic)))));
    tokio::select! {
        biased;
        outcome = &mut work => return outcome,
        () = step.cancellation().cancelled() => {}
        () = passed(limits.deadline) => step.cancellation().cancel(),
    }
    // Dropped if it does not listen: its place is needed, and its result not wanted.
    timeout(limits.grace, work).await.unwrap_or_else(|_| {
        let message = format!("did not stop within {:?} of being told to", limits.grace);
        Err(HandlerError::retryable("HANDLER_STOPPED", message))
    })
}

async fn passed(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

fn panicked(panic: &(dyn Any + Send)) -> HandlerError {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    HandlerError::retryable("HANDLER_PANICKED", text.unwrap_or("without a message"))
}

fn no_handler(step: &StepContext) -> HandlerError {
    let message = format!("this worker has no handler `{}`", step.delivery().handler);
    HandlerError::retryable("NO_HANDLER", message)
}

fn within_size(output: Output) -> Result<Output, HandlerError> {
    let size = output.payload.data.len();
    if size <= LARGEST_PAYLOAD { Ok(output) } else { Err(too_large(size, LARGEST_PAYLOAD)) }
}

/// The failure that takes the place of a result that cannot be sent.
pub(crate) fn too_large(size: usize, limit: usize) -> HandlerError {
    let message = format!("the result has {size} bytes; {limit} are allowed");
    HandlerError::permanent("RESULT_TOO_LARGE", message)
}
