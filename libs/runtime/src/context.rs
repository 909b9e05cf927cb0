//! What a service gets from the process around it.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, OnceLock},
    time::Duration,
};

use futures::FutureExt;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::error;

use crate::{Readiness, config};

/// One service in one process. Clones are one.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Context {
    /// The name of the service, as in `result-processor`.
    pub service: &'static str,
    /// This run of it, as `service@host:pid:random`: unique, also where every container has pid 1.
    pub instance: String,
    /// Cancelled when draining begins: take no new work, finish what was begun.
    pub drain: CancellationToken,
    /// Background work that a drain waits for, at most as long as the drain may take.
    pub tracker: TaskTracker,
    /// Whether the service can do its work; `grpc.health.v1` follows it.
    pub readiness: Readiness,
    /// How long a drain may take.
    pub drain_timeout: Duration,
    failure: Arc<OnceLock<&'static str>>,
}

impl Context {
    /// For a service that is about to be built.
    #[must_use]
    pub fn new(service: &'static str, drain: &config::Drain) -> Self {
        Self {
            service,
            instance: instance(service),
            drain: CancellationToken::new(),
            tracker: TaskTracker::new(),
            readiness: Readiness::new(service),
            drain_timeout: drain.timeout,
            failure: Arc::default(),
        }
    }

    /// Runs `work` in the background; a drain waits for it.
    ///
    /// If it panics the service drains and fails: half of a service must not look alive.
    pub fn spawn(&self, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        let (service, failure, drain) = (self.service, self.failure.clone(), self.drain.clone());
        self.tracker.spawn(async move {
            if AssertUnwindSafe(work).catch_unwind().await.is_err() {
                error!("{service} ends: {name} panicked");
                failure.get_or_init(|| name);
                drain.cancel();
            }
        });
    }

    /// The background work that panicked, if any did.
    pub(crate) fn failure(&self) -> Option<&'static str> {
        self.failure.get().copied()
    }
}

fn instance(service: &str) -> String {
    let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    let host = host.unwrap_or_else(|| "localhost".to_owned());
    format!("{service}@{host}:{}:{:08x}", std::process::id(), rand::random::<u32>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_instances_have_one_name() {
        let drain = config::Drain::default();
        let (one, two) = (Context::new("test", &drain), Context::new("test", &drain));
        assert!(one.instance.starts_with("test@"), "{}", one.instance);
        assert_ne!(one.instance, two.instance);
    }
}
