//! The database, and whether it answers.

use tasker_runtime::{Condition, Context, config, database_readiness};
use tasker_store::{Options, Store, StoreError};

/// The store, with the condition that follows it.
#[derive(Debug, Clone)]
pub struct Database {
    /// The statements.
    pub store: Store,
    condition: Condition,
}

impl Database {
    /// Connects, checks the schema, and has the service's readiness follow the database.
    ///
    /// # Errors
    /// The database cannot be reached, or has another schema.
    pub async fn open(config: &config::Database, context: &Context) -> Result<Self, StoreError> {
        let store = Store::connect(&Options {
            url: config.url.clone(),
            max_connections: config.max_connections,
            acquire_timeout: config.acquire_timeout,
            application_name: format!("tasker-{}", context.service),
        })
        .await?;
        let asked = store.clone();
        let condition = database_readiness(context, move || {
            let store = asked.clone();
            async move { store.ping().await }
        });
        Ok(Self { store, condition })
    }

    /// Notes an error: if the database may be gone, it is asked at once.
    pub fn noticed(&self, error: &StoreError) {
        if error.is_unavailable() {
            self.condition.doubt();
        }
    }
}
