//! Submits linear tasks, so that the mesh never runs dry.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Result;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::json;
use tasker_client::{Client, NewTask};
use tokio::{task::JoinHandle, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{database::Database, rig::Rig};

/// Submitted between two looks at how many are open.
const CHUNK: usize = 256;
/// Between two looks when few are missing.
const PAUSE: Duration = Duration::from_millis(50);

/// Submits so many tasks, and returns how long that took.
pub async fn flat_out(client: &Client, tasks: usize, callers: usize) -> Result<Duration> {
    let begun = Instant::now();
    stream::iter(0..tasks)
        .map(|n| async move {
            let task = NewTask::of("arithmetic", "linear").context(&json!({"n": 2 * n}))?;
            client.create_task(task).await.map(|_| ())
        })
        .buffer_unordered(callers)
        .try_collect::<()>()
        .await?;
    Ok(begun.elapsed())
}

/// Keeps a number of tasks open, until it is stopped.
pub struct Submitter {
    looks: Arc<Looks>,
    stop: CancellationToken,
    task: JoinHandle<Result<()>>,
}

/// What the submitter has seen and done.
struct Looks {
    least_open: AtomicUsize,
    submitted: AtomicUsize,
}

impl Submitter {
    pub fn start(rig: &Rig) -> Self {
        let looks =
            Arc::new(Looks { least_open: usize::MAX.into(), submitted: AtomicUsize::default() });
        let stop = CancellationToken::new();
        let supply = Supply {
            client: rig.client.clone(),
            database: rig.database.clone(),
            backlog: rig.arguments.backlog,
            callers: rig.arguments.callers,
            looks: looks.clone(),
            stop: stop.clone(),
        };
        Self { looks, stop, task: tokio::spawn(supply.run()) }
    }

    /// The fewest tasks that were open at any look since this was last asked; at zero the mesh had
    /// nothing to do.
    pub fn least_open(&self) -> usize {
        self.looks.least_open.swap(usize::MAX, Ordering::Relaxed)
    }

    /// Tasks submitted so far.
    pub fn submitted(&self) -> usize {
        self.looks.submitted.load(Ordering::Relaxed)
    }

    /// Ends it, and returns how many tasks it has submitted.
    ///
    /// # Errors
    /// The mesh has refused a task, though it was tried again for as long as the client does.
    pub async fn stop(self) -> Result<usize> {
        self.stop.cancel();
        self.task.await??;
        Ok(self.looks.submitted.load(Ordering::Relaxed))
    }
}

struct Supply {
    client: Client,
    database: Database,
    backlog: usize,
    callers: usize,
    looks: Arc<Looks>,
    stop: CancellationToken,
}

impl Supply {
    async fn run(self) -> Result<()> {
        while !self.stop.is_cancelled() {
            let open = self.database.open_tasks().await?;
            self.looks.least_open.fetch_min(open, Ordering::Relaxed);
            let missing = self.backlog.saturating_sub(open).min(CHUNK);
            if missing < CHUNK / 4 {
                sleep(PAUSE).await;
            } else {
                flat_out(&self.client, missing, self.callers).await?;
                self.looks.submitted.fetch_add(missing, Ordering::Relaxed);
            }
        }
        Ok(())
    }
}
