//! A worker with handlers that the tests can hold and watch.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tasker_worker::{
    CancellationToken, Checkpoint, HandlerError, Registry, StepContext, Worker, WorkerError, Yield,
};
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinHandle,
};

use crate::fake::{FakeMesh, Session, soon};

/// All that the bench's worker can do.
pub(crate) const CALLABLES: [&str; 10] = [
    "deaf",
    "double",
    "gate",
    "large",
    "panic",
    "patient",
    "resume",
    "save",
    "save_together",
    "yield",
];

/// A running worker, and what its handlers do.
///
/// `double` doubles the context. `gate` tells that it began, and ends when let through, with the
/// token of its delivery, or with `CANCELLED` when told to stop. `deaf` is a gate that does not
/// listen. `panic` panics. `resume` adds one to its checkpoint; `save` saves three, `save_together` does
/// not wait in between; `yield` goes on later.
pub(crate) struct Bench {
    pub(crate) mesh: FakeMesh,
    pub(crate) gate: Arc<Semaphore>,
    pub(crate) running: Arc<AtomicUsize>,
    begun: mpsc::Receiver<String>,
    cancelled: mpsc::Receiver<String>,
    shutdown: CancellationToken,
    worker: JoinHandle<Result<(), WorkerError>>,
}

impl Bench {
    pub(crate) async fn start(concurrency: usize) -> (Self, Session) {
        let mut bench = Self::start_unwelcome(concurrency, Duration::from_secs(30)).await;
        let session = bench.mesh.session().await;
        (bench, session)
    }

    pub(crate) async fn start_unwelcome(concurrency: usize, drain_timeout: Duration) -> Self {
        let mesh = FakeMesh::start().await;
        let gate = Arc::new(Semaphore::new(0));
        let running = Arc::new(AtomicUsize::new(0));
        let (begin, begun) = mpsc::channel(64);
        let (cancel, cancelled) = mpsc::channel(64);
        let gates = Gates { gate: gate.clone(), running: running.clone(), begin, cancel };
        let worker = Worker::builder(mesh.url.as_str())
            .worker_id("w")
            .namespaces(["tests"])
            .concurrency(concurrency)
            .registry(registry(gates))
            .drain_timeout(drain_timeout)
            .stop_grace(Duration::from_millis(20))
            .build()
            .unwrap();
        let shutdown = CancellationToken::new();
        let worker = tokio::spawn(worker.run(shutdown.clone().cancelled_owned()));
        Self { mesh, gate, running, begun, cancelled, shutdown, worker }
    }

    /// Waits until a gate has begun. Returns the token of its delivery.
    pub(crate) async fn begun(&mut self) -> String {
        soon(self.begun.recv()).await.unwrap()
    }

    /// Waits until a gate was told to stop. Returns the token of its delivery.
    pub(crate) async fn cancelled(&mut self) -> String {
        soon(self.cancelled.recv()).await.unwrap()
    }

    /// Lets `many` gates end.
    pub(crate) fn open(&self, many: usize) {
        self.gate.add_permits(many);
    }

    pub(crate) fn shut_down(&self) {
        self.shutdown.cancel();
    }

    /// Drops the future that the worker runs as. Returns when nothing of it is left.
    pub(crate) async fn dropped(&mut self) {
        self.worker.abort();
        // Each handler, whether it runs or not, holds what it would tell by that it has begun.
        assert_eq!(soon(self.begun.recv()).await, None);
    }

    pub(crate) async fn ended(self) -> Result<(), WorkerError> {
        soon(self.worker).await.unwrap()
    }
}

#[derive(Clone)]
struct Gates {
    gate: Arc<Semaphore>,
    running: Arc<AtomicUsize>,
    begin: mpsc::Sender<String>,
    cancel: mpsc::Sender<String>,
}

impl Gates {
    async fn wait(self, step: StepContext, listens: bool) -> Result<String, HandlerError> {
        let token = step.delivery().delivery_token.clone();
        self.running.fetch_add(1, Ordering::SeqCst);
        self.begin.send(token.clone()).await.unwrap();
        tokio::select! {
            through = self.gate.acquire() => through.unwrap().forget(),
            () = step.cancellation().cancelled(), if listens => {
                self.cancel.send(token).await.unwrap();
                self.running.fetch_sub(1, Ordering::SeqCst);
                return Err(HandlerError::retryable("CANCELLED", "told to stop"));
            }
        }
        self.running.fetch_sub(1, Ordering::SeqCst);
        Ok(token)
    }
}

fn registry(gates: Gates) -> Registry {
    let mut registry = Registry::new();
    let deaf = gates.clone();
    registry
        .register_fn("double", |step: StepContext| async move { Ok(step.input::<u64>()? * 2) })
        .register_fn("gate", move |step| gates.clone().wait(step, true))
        .register_fn("deaf", move |step| deaf.clone().wait(step, false))
        .register_fn("large", |_| async { Ok("x".repeat(5 * 1024 * 1024)) })
        .register_fn("patient", |_| async {
            let error = HandlerError::retryable("network_error", "no route");
            Err::<(), _>(error.after(Duration::from_millis(1500)))
        })
        .register_fn("resume", |step: StepContext| async move {
            let cursor: Option<u64> = step.checkpoint().unwrap_or_default().cursor()?;
            Ok(cursor.unwrap_or_default() + 1)
        })
        .register_fn("save", |step: StepContext| async move {
            for cursor in 1..=3 {
                step.save_checkpoint(Checkpoint::at(&cursor)?).await?;
            }
            Ok("saved")
        })
        .register_fn("save_together", |step: StepContext| async move {
            let save = |cursor: u64| step.save_checkpoint(Checkpoint::at(&cursor).unwrap());
            tokio::try_join!(save(1), save(2), save(3))?;
            Ok("saved")
        })
        .register_fn("yield", |_| async {
            let goes_on = Yield::at(Checkpoint::at(&7)?).after(Duration::from_millis(1_500));
            Err::<(), _>(goes_on.into())
        })
        .register_fn("panic", |step: StepContext| async move {
            let n: u64 = step.input()?;
            assert_eq!(n, 7, "seven was wanted");
            Ok(n)
        });
    registry
}
