//! Handlers: what a user writes.

use async_trait::async_trait;

use crate::{
    context::StepContext,
    failure::HandlerError,
    output::{IntoOutput, Output},
};

/// Does the steps whose templates name it, in JSON.
///
/// It must not block its thread. A panic is a retryable failure of type `HANDLER_PANICKED`.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// What a step results in; its dependants are given it.
    type Output: IntoOutput + Send;

    /// Does one attempt.
    async fn run(&self, step: &StepContext) -> Result<Self::Output, HandlerError>;
}

/// Does the steps whose templates name it, in any form: for example encrypted.
#[async_trait]
pub trait PayloadHandler: Send + Sync + 'static {
    /// Does one attempt.
    async fn run(&self, step: &StepContext) -> Result<Output, HandlerError>;
}

/// A handler of JSON as a handler of payloads.
pub(crate) struct Json<H>(pub(crate) H);

#[async_trait]
impl<H: Handler> PayloadHandler for Json<H> {
    async fn run(&self, step: &StepContext) -> Result<Output, HandlerError> {
        self.0.run(step).await?.into_output()
    }
}

/// A function as a handler of payloads.
pub(crate) struct Function<F>(pub(crate) F);

#[async_trait]
impl<F, R, T> PayloadHandler for Function<F>
where
    F: Fn(StepContext) -> R + Send + Sync + 'static,
    R: Future<Output = Result<T, HandlerError>> + Send,
    T: IntoOutput + Send,
{
    async fn run(&self, step: &StepContext) -> Result<Output, HandlerError> {
        (self.0)(step.clone()).await?.into_output()
    }
}
