//! Hears what others announce.

use std::time::Duration;

use tasker_stack::sweep::Wake;
use tasker_stage::Database;
use tasker_store::{Announcement, StoreError};
use tokio_util::sync::CancellationToken;

/// How long to wait before listening again.
const AGAIN: Duration = Duration::from_secs(1);

/// Has the queue of requests read when it hears that something waits there, until draining begins.
pub async fn run(database: Database, queue: Wake, drain: CancellationToken) {
    while !drain.is_cancelled() {
        let heard = drain.run_until_cancelled(hear(&database, &queue)).await;
        if let Some(Err(error)) = heard {
            database.noticed(&error);
            drain.run_until_cancelled(tokio::time::sleep(AGAIN)).await;
        }
    }
}

async fn hear(database: &Database, queue: &Wake) -> Result<(), StoreError> {
    let mut listener = database.store.listen().await?;
    loop {
        // What was announced while nobody listened is lost.
        queue.wake();
        while let Some(notification) = listener.try_recv().await? {
            match serde_json::from_str::<Announcement>(notification.payload()) {
                Ok(announcement) if announcement.everything => queue.wake(),
                Ok(_) => {}
                Err(error) => tracing::warn!("not an announcement: {error}"),
            }
        }
    }
}
