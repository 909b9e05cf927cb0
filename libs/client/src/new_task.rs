//! A task to submit.

use serde::Serialize;
use tasker_api::v1::{CreateTaskRequest, Payload, TemplateRef};

use crate::{error::Error, json};

/// A task to submit, of the newest version of a template unless another is asked for.
#[derive(Clone, Debug)]
pub struct NewTask(CreateTaskRequest);

impl NewTask {
    /// Of the template `name` in `namespace`, with the context `{}`.
    #[must_use]
    pub fn of(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        let template =
            TemplateRef { namespace: namespace.into(), name: name.into(), version: String::new() };
        Self(CreateTaskRequest { template: Some(template), ..CreateTaskRequest::default() })
    }

    /// Of this version of the template.
    #[must_use]
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.0.template.get_or_insert_default().version = version.into();
        self
    }

    /// What the steps work on, written as JSON.
    ///
    /// # Errors
    /// [`Error::Json`] if `context` has no form in JSON.
    pub fn context(self, context: &impl Serialize) -> Result<Self, Error> {
        Ok(self.payload(json::payload(context)?))
    }

    /// What the steps work on, as it is.
    #[must_use]
    pub fn payload(mut self, context: Payload) -> Self {
        self.0.context = Some(context);
        self
    }

    /// Names this submission: the same id again returns the first answer. Default: a new UUIDv7.
    #[must_use]
    pub fn request_id(mut self, id: impl Into<String>) -> Self {
        self.0.request_id = id.into();
        self
    }

    /// For templates whose identity strategy is `caller_provided`.
    #[must_use]
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.0.idempotency_key = key.into();
        self
    }

    /// To find the task by, and to join it to things elsewhere.
    #[must_use]
    pub fn correlation_id(mut self, id: impl Into<String>) -> Self {
        self.0.correlation_id = id.into();
        self
    }

    /// Who asks for it.
    #[must_use]
    pub fn requested_by(mut self, who: impl Into<String>) -> Self {
        self.0.requested_by = who.into();
        self
    }

    /// Why it is asked for.
    #[must_use]
    pub fn reason(mut self, why: impl Into<String>) -> Self {
        self.0.reason = why.into();
        self
    }

    /// −100 to 100; larger goes first. Default 0.
    #[must_use]
    pub fn priority(mut self, priority: i32) -> Self {
        self.0.priority = priority;
        self
    }
}

impl From<NewTask> for CreateTaskRequest {
    fn from(task: NewTask) -> Self {
        task.0
    }
}
