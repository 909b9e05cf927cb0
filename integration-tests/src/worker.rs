//! Workers in the test's own process.

use tasker_worker::{Registry, Worker, WorkerError};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A worker that runs beside the test. Dropped, it is gone at once, as if it had been cut off.
#[derive(Debug)]
pub struct WorkerTask {
    stop: CancellationToken,
    task: JoinHandle<Result<(), WorkerError>>,
}

/// Starts a worker at a gateway.
///
/// # Panics
/// Never, unless a setting is out of range.
pub fn worker(gateway: &str, namespaces: &[&str], registry: &Registry) -> WorkerTask {
    let worker = Worker::builder(gateway)
        .namespaces(namespaces.iter().copied())
        .concurrency(32)
        .registry(registry.clone())
        .build()
        .expect("the settings of a test's worker are in range");
    let stop = CancellationToken::new();
    let task = tokio::spawn(worker.run(stop.clone().cancelled_owned()));
    WorkerTask { stop, task }
}

impl WorkerTask {
    /// Asks the worker to end, and waits until it has handed in all it had.
    ///
    /// # Panics
    /// It could not, or was refused by the mesh.
    pub async fn stop(mut self) {
        self.stop.cancel();
        let ended = (&mut self.task).await.expect("a worker does not panic");
        ended.expect("a worker hands in all it has before it ends");
    }
}

impl Drop for WorkerTask {
    fn drop(&mut self) {
        self.task.abort();
    }
}
