//! The replicas that are connected now, and the choice between them.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use http::uri::Authority;
use hyper::client::conn::http2::SendRequest;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tracing::{info, warn};

/// One open connection to one replica.
pub(super) struct Replica {
    pub(super) address: SocketAddr,
    pub(super) authority: Authority,
    pub(super) sender: SendRequest<Body>,
    /// Requests sent whose response has not ended.
    pub(super) in_flight: AtomicUsize,
}

impl Replica {
    /// False as soon as the connection takes no more requests, even before its task has noticed.
    fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }
}

/// The connected replicas of one service.
pub(super) struct Ready {
    service: &'static str,
    replicas: watch::Sender<Vec<Arc<Replica>>>,
    /// Cancelled when we go ourselves.
    leaving: CancellationToken,
}

impl Ready {
    pub(super) fn new(service: &'static str, leaving: CancellationToken) -> Self {
        Self { service, replicas: watch::Sender::default(), leaving }
    }

    pub(super) fn insert(&self, replica: Arc<Replica>) {
        let mut first = false;
        self.replicas.send_modify(|replicas| {
            first = replicas.is_empty();
            replicas.push(replica);
        });
        if first {
            info!(service = self.service, "{} is connected", self.service);
        }
    }

    /// Says whether somebody should hear of it: it was the last one, though one is wanted. Who goes
    /// himself knows that the others go, too.
    pub(super) fn lost(&self, replica: &Arc<Replica>) -> bool {
        self.remove(replica) && !self.leaving.is_cancelled()
    }

    /// Returns whether it was the last one.
    pub(super) fn remove(&self, replica: &Arc<Replica>) -> bool {
        let mut last = false;
        self.replicas.send_if_modified(|replicas| {
            let before = replicas.len();
            replicas.retain(|other| !Arc::ptr_eq(other, replica));
            last = before == 1 && replicas.is_empty();
            replicas.len() < before
        });
        last
    }

    /// Says that nobody is left, though somebody is wanted.
    pub(super) fn warn_of_none(&self) {
        warn!(service = self.service, "{} has no connected replica", self.service);
    }

    pub(super) fn len(&self) -> usize {
        self.replicas.borrow().iter().filter(|replica| replica.is_open()).count()
    }

    /// The less busy of two replicas taken at random; none if none is connected.
    pub(super) fn choose(&self) -> Option<Arc<Replica>> {
        choose(&self.replicas.borrow())
    }

    #[cfg(test)]
    pub(super) fn subscribe(&self) -> watch::Receiver<Vec<Arc<Replica>>> {
        self.replicas.subscribe()
    }

    #[cfg(test)]
    pub(super) fn loads(&self) -> Vec<usize> {
        let replicas = self.replicas.borrow();
        replicas.iter().map(|replica| replica.in_flight.load(Ordering::Relaxed)).collect()
    }

    /// Returns once a replica is connected.
    pub(super) async fn any(&self) {
        self.replicas
            .subscribe()
            .wait_for(|replicas| replicas.iter().any(|replica| replica.is_open()))
            .await
            .expect("the sender lives in self");
    }
}

/// Power of two choices: nearly as even as looking at all, without the herd that follows a minimum.
fn choose(replicas: &[Arc<Replica>]) -> Option<Arc<Replica>> {
    let load = |index: usize| replicas[index].in_flight.load(Ordering::Relaxed);
    let chosen = match replicas.len() {
        0 => return None,
        1 => 0,
        count => {
            let one = rand::random_range(0..count);
            let other = (one + rand::random_range(1..count)) % count;
            if load(other) < load(one) { other } else { one }
        }
    };
    if replicas[chosen].is_open() {
        return Some(replicas[chosen].clone());
    }
    // It has just ended: rare, so that any other that is open will do.
    replicas.iter().find(|replica| replica.is_open()).cloned()
}
