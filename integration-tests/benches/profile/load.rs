//! What the mesh is given to do.

use std::{
    fmt,
    pin::pin,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use hdrhistogram::Histogram;
use sqlx::PgPool;
use tasker_client::{Client, NewTask, v1::TaskState, v1::watch_task_response::Transition};
use tokio::time::sleep;

use crate::statements::OURS;

/// Of each task.
pub const STEPS: usize = 4;
const PATIENCE: Duration = Duration::from_secs(600);

/// Linear tasks of four steps.
#[derive(Debug)]
pub enum Load {
    /// One after another, each watched.
    Lone { tasks: usize },
    /// As many as fit, from so many callers.
    Many { tasks: usize, callers: usize },
}

/// How long it took.
#[derive(Debug)]
pub struct Took {
    all: Duration,
    steps: usize,
    /// From CreateTask sent to completion received, in µs; of lone tasks only.
    each: Option<Histogram<u64>>,
}

impl Load {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Lone { .. } => "lone",
            Self::Many { .. } => "loaded",
        }
    }

    pub fn steps(&self) -> usize {
        match self {
            Self::Lone { tasks } | Self::Many { tasks, .. } => tasks * STEPS,
        }
    }

    /// The same with fewer tasks.
    pub fn smaller(&self, by: usize) -> Self {
        match *self {
            Self::Lone { tasks } => Self::Lone { tasks: (tasks / by).max(1) },
            Self::Many { tasks, callers } => Self::Many { tasks: (tasks / by).max(1), callers },
        }
    }

    /// Runs it, and returns when its last task is complete.
    pub async fn run(&self, client: &Client, looking: &PgPool) -> Result<Took> {
        let begun = Instant::now();
        let each = match *self {
            Self::Lone { tasks } => Some(one_after_another(client, tasks).await?),
            Self::Many { tasks, callers } => {
                at_once(client, looking, tasks, callers).await?;
                None
            }
        };
        Ok(Took { all: begun.elapsed(), steps: self.steps(), each })
    }
}

async fn one_after_another(client: &Client, tasks: usize) -> Result<Histogram<u64>> {
    let mut times = Histogram::new(3)?;
    for _ in 0..tasks {
        let begun = Instant::now();
        let task = NewTask::of("arithmetic", "linear").context(&serde_json::json!({"n": 6}))?;
        let task = client.create_task(task).await?.task_id;
        let mut events = pin!(client.watch_task(&task));
        let mut last = TaskState::Unspecified;
        while let Some(event) = events.next().await {
            if let Some(Transition::Task(moved)) = event.context("the watch broke")?.transition {
                last = moved.state();
            }
        }
        times.record(u64::try_from(begun.elapsed().as_micros())?)?;
        ensure!(last == TaskState::Complete, "task {task} came to {last:?}");
    }
    Ok(times)
}

async fn at_once(client: &Client, looking: &PgPool, tasks: usize, callers: usize) -> Result<()> {
    let begun = Instant::now();
    stream::iter(0..tasks)
        .map(|n| async move {
            let task =
                NewTask::of("arithmetic", "linear").context(&serde_json::json!({"n": 2 * n}))?;
            client.create_task(task).await.map(|_| ())
        })
        .buffer_unordered(callers)
        .try_collect::<()>()
        .await?;
    let open = format!("{OURS} SELECT count(*) FROM task_search WHERE rests_in IS NULL");
    while sqlx::query_scalar::<_, i64>(sqlx::AssertSqlSafe(open.as_str()))
        .fetch_one(looking)
        .await?
        > 0
    {
        // Looked at rarely, so as not to disturb.
        sleep(Duration::from_millis(200)).await;
        ensure!(begun.elapsed() < PATIENCE, "the mesh does not get done");
    }
    Ok(())
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lone { tasks } => {
                write!(f, "lone: {tasks} tasks of {STEPS} steps, one after another")
            }
            Self::Many { tasks, callers } => {
                write!(f, "loaded: {tasks} tasks of {STEPS} steps from {callers} callers")
            }
        }
    }
}

impl fmt::Display for Took {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.all.as_secs_f64();
        write!(f, "{seconds:.2} s, {:.0} steps/s", self.steps as f64 / seconds)?;
        if let Some(times) = &self.each {
            let ms = |quantile| times.value_at_quantile(quantile) as f64 / 1e3;
            write!(f, "; a task takes p50 {:.2} ms, p99 {:.2} ms", ms(0.5), ms(0.99))?;
        }
        Ok(())
    }
}
