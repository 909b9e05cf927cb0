//! Counts the steps that wait though no connected worker has their handler.

use std::time::Duration;

use tasker_runtime::Levels;
use tasker_stage::Database;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// The work. Every replica counts all, so that none has to be there: their levels are the same, and are not
/// to be added up.
pub struct Stranded {
    pub database: Database,
    pub levels: Levels,
    pub every: Duration,
}

impl Stranded {
    /// The work, if anybody is sent what it finds.
    pub fn exported(database: Database, every: Duration) -> Option<Self> {
        let levels = Levels::exported(
            "tasker.steps.without_worker",
            "{step}",
            "Steps that wait though no connected worker has their handler",
            "namespace",
        )?;
        Some(Self { database, levels, every })
    }

    /// Counts until draining begins.
    pub async fn run(self, drain: CancellationToken) {
        let mut looks = interval(self.every);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while drain.run_until_cancelled(looks.tick()).await.is_some() {
            match self.database.store.steps_without_worker().await {
                Ok(steps) => self.levels.set(steps),
                // What was counted last stands.
                Err(error) => {
                    self.database.noticed(&error);
                    tracing::warn!("steps without a worker could not be counted: {error}");
                }
            }
        }
    }
}
