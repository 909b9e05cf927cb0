//! Hears what other services and replicas announce.

use std::time::Duration;

use tasker_stage::Database;
use tasker_store::{Announcement, StoreError};
use tokio_util::sync::CancellationToken;

use crate::watches::Watches;

/// How long to wait before listening again.
const AGAIN: Duration = Duration::from_secs(1);

/// Tells watchers what it hears, until draining begins.
pub async fn run(database: Database, watches: Watches, drain: CancellationToken) {
    while !drain.is_cancelled() {
        let heard = drain.run_until_cancelled(hear(&database, &watches)).await;
        if let Some(Err(error)) = heard {
            database.noticed(&error);
            drain.run_until_cancelled(tokio::time::sleep(AGAIN)).await;
        }
    }
}

async fn hear(database: &Database, watches: &Watches) -> Result<(), StoreError> {
    let mut listener = database.store.listen().await?;
    loop {
        // What was announced while nobody listened is lost: all look.
        watches.interrupted();
        while let Some(notification) = listener.try_recv().await? {
            match serde_json::from_str::<Announcement>(notification.payload()) {
                Ok(announcement) => watches.moved(announcement.tasks),
                Err(error) => tracing::warn!("not an announcement: {error}"),
            }
        }
    }
}
