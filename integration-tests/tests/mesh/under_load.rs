//! Load that goes on while faults happen.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt as _, stream};
use serde_json::json;
use tasker_client::{Client, NewTask, RetryPolicy};
use tasker_integration_tests::{Ledger, Mesh, Program, until};
use tokio::task::JoinHandle;

pub(crate) const PATIENCE: Duration = Duration::from_secs(90);
const CALLERS: usize = 8;

/// Tasks that are submitted one after another, by several callers, while faults happen.
pub(crate) struct Load {
    tasks: usize,
    acknowledged: Arc<AtomicUsize>,
    submitted: JoinHandle<()>,
}

impl Load {
    pub(crate) fn start(client: &Client, tasks: usize) -> Self {
        // Submissions go on through any fault of this test: each has an id of its own.
        let policy = RetryPolicy { deadline: PATIENCE, ..RetryPolicy::default() };
        let client = client.clone().with_retry_policy(policy);
        let acknowledged = Arc::new(AtomicUsize::new(0));
        let count = acknowledged.clone();
        let submitted = tokio::spawn(async move {
            let submit = |nth: usize| {
                let (client, count) = (client.clone(), count.clone());
                let n = json!({"n": 2 * nth});
                let task = NewTask::of("arithmetic", "linear").context(&n).unwrap();
                async move {
                    client.create_task(task).await.unwrap();
                    count.fetch_add(1, Ordering::Relaxed);
                }
            };
            stream::iter(0..tasks).for_each_concurrent(CALLERS, submit).await;
        });
        Self { tasks, acknowledged, submitted }
    }

    /// Waits until this part of the tasks has been acknowledged.
    pub(crate) async fn until(&self, part: f64) {
        let wanted = (self.tasks as f64 * part) as usize;
        until("so many tasks are acknowledged", PATIENCE, async || {
            (self.acknowledged.load(Ordering::Relaxed) >= wanted).then_some(())
        })
        .await;
    }

    /// Waits until all are done, and checks that each was done once.
    pub(crate) async fn ends_well(self, ledger: &Ledger) {
        self.submitted.await.unwrap();
        ledger.until_completed(self.tasks, PATIENCE).await;
        ledger.every_task_has_completed_once(self.tasks).await;
    }
}

/// A worker for the examples, in a process of its own.
pub(crate) fn example_worker(mesh: &Mesh, name: &str) -> Program {
    let environment = [("TASKER_GATEWAY", mesh.gateway()), ("TASKER_WORKER_ID", name)];
    Program::start("tasker-example-worker", name, &[], environment, mesh.logs())
}
