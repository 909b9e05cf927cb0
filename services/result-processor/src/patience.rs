//! How long a failed step waits: its template's back-off, or what the worker asked if that is longer.

use std::time::Duration;

use tasker_domain::{Ordinal, TemplateId};
use tasker_store::{Held, Store, StoreError};

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
        let steps: Vec<Held> = items.iter().map(|item| item.failure.held).collect();
        let declarations = self.store.declarations_of(&steps).await?;
        let mut waits = Vec::with_capacity(items.len());
        for (item, declaration) in items.iter().zip(declarations) {
            waits.push(match declaration {
                Some((template, step)) => self.wait(item, template, step).await?,
                // No such step: its verdict will say so.
                None => Duration::ZERO,
            });
        }
        Ok(waits)
    }

    async fn wait(
        &self,
        item: &Failed,
        template: TemplateId,
        step: Ordinal,
    ) -> Result<Duration, StoreError> {
        if item.at_once {
            return Ok(Duration::ZERO);
        }
        let template = self.store.template(template).await?;
        let Some(step) = template.step(step) else {
            return Ok(item.retry_after);
        };
        let attempt = u32::try_from(item.attempt).unwrap_or(1);
        Ok(step.back_off.wait_after(attempt, (self.random)()).max(item.retry_after))
    }
}
