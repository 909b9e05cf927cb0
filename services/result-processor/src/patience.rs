//! How long a failed step waits: its template's back-off, or what the worker asked if that is longer.

use std::{collections::HashMap, time::Duration};

use tasker_domain::{Ordinal, TemplateId};
use tasker_store::{Store, StoreError};
use uuid::Uuid;

use crate::fail_steps::Failed;

/// Decides when, not whether.
#[derive(Debug, Clone)]
pub struct Patience {
    pub store: Store,
    /// Uniform in `0.0..1.0`: for the jitter.
    pub random: fn() -> f64,
}

impl Patience {
    /// The wait of each failure.
    pub async fn waits(&self, items: &[Failed]) -> Result<Vec<Duration>, StoreError> {
        let tasks: Vec<Uuid> = items.iter().map(|item| item.failure.held.task_id).collect();
        let templates: HashMap<Uuid, Uuid> =
            self.store.templates_of(&tasks).await?.into_iter().collect();
        let mut waits = Vec::with_capacity(items.len());
        for item in items {
            waits.push(match templates.get(&item.failure.held.task_id) {
                Some(template) => self.wait(item, TemplateId(*template)).await?,
                // No such task: its verdict will say so.
                None => Duration::ZERO,
            });
        }
        Ok(waits)
    }

    async fn wait(&self, item: &Failed, template: TemplateId) -> Result<Duration, StoreError> {
        if item.at_once {
            return Ok(Duration::ZERO);
        }
        let template = self.store.template(template).await?;
        let Some(step) = template.step(Ordinal(item.failure.held.ordinal)) else {
            return Ok(item.retry_after);
        };
        let attempt = u32::try_from(item.attempt).unwrap_or(1);
        Ok(step.back_off.wait_after(attempt, (self.random)()).max(item.retry_after))
    }
}
