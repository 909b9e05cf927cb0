//! How long one task takes while nothing else happens.

use std::{pin::pin, time::Instant};

use anyhow::{Context as _, Result, ensure};
use futures::StreamExt as _;
use hdrhistogram::Histogram;
use tasker_client::{Client, NewTask, v1::TaskState, v1::watch_task_response::Transition};

/// Runs tasks one after another: from CreateTask sent to completion received through WatchTask, in µs.
pub async fn sequential(client: &Client, template: &str, tasks: usize) -> Result<Histogram<u64>> {
    let mut times = Histogram::new(3)?;
    for _ in 0..tasks {
        let begun = Instant::now();
        let task = NewTask::of("arithmetic", template).context(&serde_json::json!({"n": 6}))?;
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
