//! The worker: its settings, and its sessions one after another.

use std::{future::pending, panic::resume_unwind, sync::Arc, time::Duration};

use tasker_client::{FullJitter, endpoint};
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::Endpoint;
use tracing::{Instrument as _, info, instrument::WithSubscriber as _, warn};
use uuid::Uuid;

use crate::{
    error::WorkerError,
    holdings::Holdings,
    registry::Registry,
    saves::Saves,
    session::{Introduction, Lost, Session},
    stop::Stop,
};

const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// A worker that is ready to run.
#[derive(Debug)]
pub struct Worker {
    endpoint: Endpoint,
    settings: WorkerBuilder,
}

/// The settings of a worker.
#[derive(Clone, Debug)]
pub struct WorkerBuilder {
    gateway: String,
    worker_id: String,
    namespaces: Vec<String>,
    concurrency: usize,
    registry: Registry,
    drain_timeout: Duration,
    stop_grace: Duration,
}

impl Worker {
    /// A worker for the mesh whose gateway is at `gateway`, for example `http://127.0.0.1:7700`.
    pub fn builder(gateway: impl Into<String>) -> WorkerBuilder {
        WorkerBuilder {
            gateway: gateway.into(),
            worker_id: format!("worker-{}", Uuid::now_v7()),
            namespaces: Vec::new(),
            concurrency: 16,
            registry: Registry::new(),
            drain_timeout: Duration::from_secs(30),
            stop_grace: Duration::from_secs(5),
        }
    }

    /// Works until `shutdown` ends; then drains: finishes what was begun, gives back the rest, and
    /// returns when every result is acknowledged.
    ///
    /// A lost connection is made again for ever; deliveries and results outlive it. Where this is dropped, its
    /// connection and its handlers are, soon after; the mesh gives their steps to others.
    ///
    /// # Errors
    /// [`WorkerError::Refused`] if the mesh will not have this worker, [`WorkerError::NotDrained`] if
    /// it could not hand in all it held within the drain timeout and five seconds.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), WorkerError> {
        let (asking, stop) = Stop::new();
        let drain_timeout = self.settings.drain_timeout;
        let asked = async {
            shutdown.await;
            asking.stop_within(drain_timeout);
            pending().await
        };
        // The connection and the handlers are tasks, too, and hand over to this one for each step: polled by
        // the thread that blocks on `run`, it would have two threads take turns.
        let work = self.work(stop).in_current_span().with_current_subscriber();
        let work = AbortOnDropHandle::new(tokio::spawn(work));
        tokio::select! {
            ended = work => ended.unwrap_or_else(|failed| resume_unwind(failed.into_panic())),
            never = asked => never,
        }
    }

    async fn work(self, mut stop: Stop) -> Result<(), WorkerError> {
        let who = self.settings.introduction();
        let registry = Arc::new(self.settings.registry);
        let WorkerBuilder { concurrency, stop_grace, .. } = self.settings;
        let (saver, mut saves) = Saves::new();
        let mut holdings = Holdings::new(registry, saver, concurrency, stop_grace);
        let mut overdue = stop.clone();
        tokio::select! {
            ended = sessions(&self.endpoint, &who, &mut holdings, &mut saves, &mut stop) => return ended,
            () = overdue.overdue() => {}
        }
        match holdings.len() {
            0 => Ok(()),
            held => Err(WorkerError::NotDrained { held }),
        }
    }
}

/// Holds one session after another, until one is drained.
async fn sessions(
    endpoint: &Endpoint,
    who: &Introduction,
    holdings: &mut Holdings,
    saves: &mut Saves,
    stop: &mut Stop,
) -> Result<(), WorkerError> {
    let mut back_off = FullJitter::new(FIRST_WAIT, LONGEST_WAIT);
    loop {
        let (idle, mut stopping) = (holdings.is_empty(), stop.clone());
        let opened = tokio::select! {
            // First, since a refused connection may be known at once, every time.
            biased;
            // Nothing to hand in, and nobody to say goodbye to.
            _ = stopping.asked(), if idle => return Ok(()),
            opened = Session::open(endpoint, who, holdings, saves, stop) => opened,
        };
        let lost = match opened {
            Ok(session) => {
                back_off.reset();
                match session.serve().await {
                    Ok(()) => return Ok(()),
                    Err(lost) => lost,
                }
            }
            Err(lost) => lost,
        };
        let wait = back_off.next_wait();
        match lost.into_refusal() {
            Ok(refusal) => return Err(WorkerError::Refused(refusal)),
            Err(Lost::GoAway(reason)) => info!(reason, "The server asks to connect again"),
            Err(lost) => {
                let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
                warn!(error = %Chain(&lost), wait_ms, "There is no session: connecting again");
            }
        }
        let idle = holdings.is_empty();
        tokio::select! {
            _ = stop.asked(), if idle => return Ok(()),
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// An error with all its sources, in one line.
struct Chain<'a>(&'a dyn std::error::Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let said = self.0.to_string();
        write!(out, "{said}")?;
        match self.0.source() {
            // Some say what their source says.
            Some(source) if said.contains(&source.to_string()) => Ok(()),
            Some(source) => write!(out, ": {}", Chain(source)),
            None => Ok(()),
        }
    }
}

impl WorkerBuilder {
    /// Names this worker through all its sessions: 1 to 128 bytes. Default: `worker-` and a new UUIDv7.
    #[must_use]
    pub fn worker_id(self, id: impl Into<String>) -> Self {
        Self { worker_id: id.into(), ..self }
    }

    /// Whose steps it does: 1 to 64. No default.
    #[must_use]
    pub fn namespaces<N: Into<String>>(self, namespaces: impl IntoIterator<Item = N>) -> Self {
        Self { namespaces: namespaces.into_iter().map(Into::into).collect(), ..self }
    }

    /// How many deliveries it holds at once, running or not yet acknowledged as done: 1 to 10,000.
    /// Default 16.
    #[must_use]
    pub fn concurrency(self, concurrency: usize) -> Self {
        Self { concurrency, ..self }
    }

    /// The handlers: 1 to 1,000. No default.
    #[must_use]
    pub fn registry(self, registry: Registry) -> Self {
        Self { registry, ..self }
    }

    /// How long handlers may go on after the worker was asked to stop. Default 30 s.
    #[must_use]
    pub fn drain_timeout(self, time: Duration) -> Self {
        Self { drain_timeout: time, ..self }
    }

    /// How long a handler may go on after it was told to stop, before it is dropped. Default 5 s.
    #[must_use]
    pub fn stop_grace(self, time: Duration) -> Self {
        Self { stop_grace: time, ..self }
    }

    /// Checks the settings. Nothing is connected yet.
    ///
    /// # Errors
    /// [`WorkerError::Setting`] names the one that is out of range; [`WorkerError::Gateway`].
    pub fn build(self) -> Result<Worker, WorkerError> {
        in_range("worker_id", "bytes", self.worker_id.len(), 128)?;
        in_range("namespaces", "namespaces", self.namespaces.len(), 64)?;
        in_range("concurrency", "deliveries", self.concurrency, 10_000)?;
        in_range("registry", "handlers", self.registry.callables().len(), 1000)?;
        let endpoint = endpoint(&self.gateway).map_err(WorkerError::Gateway)?;
        Ok(Worker { endpoint, settings: self })
    }

    fn introduction(&self) -> Introduction {
        Introduction {
            worker_id: self.worker_id.clone(),
            namespaces: self.namespaces.clone(),
            handlers: self.registry.callables().map(str::to_owned).collect(),
            concurrency: self.concurrency,
        }
    }
}

fn in_range(
    setting: &'static str,
    unit: &str,
    given: usize,
    most: usize,
) -> Result<(), WorkerError> {
    if (1..=most).contains(&given) {
        return Ok(());
    }
    let problem = format!("{given} {unit} given, 1 to {most} wanted");
    Err(WorkerError::Setting { setting, problem })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_out_of_range_is_refused_by_name_before_anything_is_opened() {
        let mut registry = Registry::new();
        registry.register_fn("only", |_| async { Ok(1) });
        let good = Worker::builder("http://127.0.0.1:7700").namespaces(["a"]).registry(registry);
        assert!(good.clone().build().is_ok());
        for (bad, name) in [
            (good.clone().worker_id(""), "worker_id"),
            (good.clone().namespaces::<String>([]), "namespaces"),
            (good.clone().concurrency(0), "concurrency"),
            (good.clone().concurrency(10_001), "concurrency"),
            (good.clone().registry(Registry::new()), "registry"),
        ] {
            let error = bad.build().unwrap_err();
            assert!(
                matches!(error, WorkerError::Setting { setting, .. } if setting == name),
                "{error}"
            );
        }
        let nowhere = Worker::builder("not a url").namespaces(["a"]).registry(good.registry);
        assert!(matches!(nowhere.build(), Err(WorkerError::Gateway(_))));
    }
}
