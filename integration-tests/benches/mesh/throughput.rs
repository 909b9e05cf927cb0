//! How much the mesh does when there is more than enough to do.

use std::time::{Duration, Instant, SystemTime};

use anyhow::{Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tasker_client::{Client, NewTask};
use tokio::time::sleep;

use crate::database::{Database, Spent};

/// Longer than idle backends take to report their counters.
const REPORTED: Duration = Duration::from_secs(11);

pub struct Run {
    /// From the first request to the last answer.
    pub submitted: Duration,
    /// From the first request to the end of the last task.
    pub drained: Duration,
    pub spent: Spent,
}

/// Submits linear tasks from so many callers at once, and waits until the last is complete.
pub async fn run(
    client: &Client,
    database: &Database,
    tasks: usize,
    callers: usize,
) -> Result<Run> {
    sleep(REPORTED).await;
    let before = database.counters().await?;
    let (begun, begun_at) = (Instant::now(), SystemTime::now());
    stream::iter(0..tasks)
        .map(|n| async move {
            let task =
                NewTask::of("arithmetic", "linear").context(&serde_json::json!({"n": 2 * n}))?;
            client.create_task(task).await.map(|_| ())
        })
        .buffer_unordered(callers)
        .try_collect::<()>()
        .await?;
    let submitted = begun.elapsed();
    let open = "SELECT count(*) FROM task_search WHERE rests_in IS NULL";
    while sqlx::query_scalar::<_, i64>(open).fetch_one(&database.0).await? > 0 {
        // Looked at rarely, so as not to disturb; the end itself is read from the database.
        sleep(Duration::from_millis(200)).await;
        ensure!(begun.elapsed() < Duration::from_secs(600), "the mesh does not get done");
    }
    let last: f64 = sqlx::query_scalar(
        "SELECT extract(epoch FROM max(ended_at))::double precision FROM task_search",
    )
    .fetch_one(&database.0)
    .await?;
    let begun_at = begun_at.duration_since(SystemTime::UNIX_EPOCH)?.as_secs_f64();
    sleep(REPORTED).await;
    let spent = database.counters().await?.since(&before);
    Ok(Run { submitted, drained: Duration::from_secs_f64(last - begun_at), spent })
}
