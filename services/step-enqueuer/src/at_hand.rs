//! What is known of a task while a worker has one of its steps, so that the next step needs no look
//! into the database.

use std::sync::{Arc, OnceLock};

use tasker_api::{field, v1};
use tasker_domain::{Ordinal, Template};
use tasker_store::{Content, Payload};

/// The largest context that is kept, in bytes: times the credits of the workers connected here, the
/// most memory that this takes.
const KEPT_CONTEXT: usize = 16 << 10;

/// A task that has a step at a worker.
#[derive(Debug)]
pub struct TaskAtHand {
    pub template: Arc<Template>,
    /// Larger goes first.
    pub priority: i16,
    /// What each of its deliveries carries, if that is small.
    carried: OnceLock<Content>,
}

impl TaskAtHand {
    pub fn new(template: Arc<Template>, priority: i16) -> Arc<Self> {
        Arc::new(Self { template, priority, carried: OnceLock::new() })
    }

    /// Keeps what a delivery of the task carried.
    pub fn keep(&self, content: &Content) {
        let bytes: usize =
            content.context.metadata.iter().map(|(key, value)| key.len() + value.len()).sum();
        if content.has_context() && content.context.data.len() + bytes <= KEPT_CONTEXT {
            self.carried.get_or_init(|| Content {
                context: content.context.clone(),
                correlation_id: content.correlation_id.clone(),
                ..Content::default()
            });
        }
    }

    /// What a step carries that needs the result of `parent` alone, which has just been taken.
    pub fn content_after(
        &self,
        step: Ordinal,
        parent: Ordinal,
        result: &v1::Payload,
    ) -> Option<Content> {
        // Looked at first: most steps are refused by it, and what a step carries may take a while to find.
        if self.template.step(step)?.dependencies != [parent]
            || self.template.dependency_results(step) != [parent]
        {
            return None;
        }
        let mut content = self.carried.get()?.clone();
        let v1::Payload { mut content_type, data, metadata } = result.clone();
        if content_type.is_empty() {
            content_type = field::JSON.to_owned();
        }
        content.dependency_results.insert(parent, Payload { content_type, data, metadata });
        Some(content)
    }
}
