//! A channel to one service: over its connected replicas, and over no others.
//!
//! Each address that the endpoints resolve to has one HTTP/2 connection, kept open by a task of its
//! own. A replica takes part from the moment it is connected until its connection ends, so a dead
//! one gets no call; a lazily reconnecting channel, seemingly idle, would get the most. Calls wait
//! a bounded time for the first replica, and one that was not sent before its connection ended
//! goes to another.

mod connection;
mod deadline;
mod endpoint;
mod in_flight;
mod ready;
mod resolve;
#[cfg(test)]
mod tests;
mod unavailable;

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response, Uri, Version, header::HOST, uri::Scheme};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Status, body::Body};
use tower::Service;

pub use self::endpoint::{Endpoint, EndpointError};
use self::{
    in_flight::{CountedBody, InFlight},
    ready::{Ready, Replica},
    resolve::Resolver,
};

/// How often names are resolved again.
const RESOLVE_INTERVAL: Duration = Duration::from_secs(5);
/// How long a call waits for a connected replica.
const CONNECT_WAIT: Duration = Duration::from_secs(2);

/// A balanced channel; clones share its connections, which close when the last clone is gone.
#[derive(Clone)]
pub struct Balance {
    shared: Arc<Shared>,
}

struct Shared {
    service: &'static str,
    ready: Arc<Ready>,
    connect_wait: Duration,
    _stop: DropGuard,
}

impl Balance {
    /// Starts to connect to every replica of `service` that `endpoints` lead to.
    ///
    /// Names are resolved every 5 s. A call waits at most 2 s, or its `grpc-timeout` if that is
    /// shorter, for a replica to be connected. When the last one is lost, that is a warning, unless
    /// `leaving` is cancelled: then we go ourselves.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime: it spawns the tasks that connect.
    #[must_use]
    pub fn new(
        service: &'static str,
        endpoints: Vec<Endpoint>,
        leaving: CancellationToken,
    ) -> Self {
        Self::with_wait(service, endpoints, leaving, CONNECT_WAIT)
    }

    fn with_wait(
        service: &'static str,
        endpoints: Vec<Endpoint>,
        leaving: CancellationToken,
        connect_wait: Duration,
    ) -> Self {
        let ready = Arc::new(Ready::new(service, leaving));
        let stop = CancellationToken::new();
        let resolver = Resolver {
            service,
            endpoints,
            interval: RESOLVE_INTERVAL,
            ready: ready.clone(),
            stop: stop.clone(),
        };
        tokio::spawn(resolver.run());
        Self { shared: Arc::new(Shared { service, ready, connect_wait, _stop: stop.drop_guard() }) }
    }

    /// How many replicas are connected now.
    #[must_use]
    pub fn connected(&self) -> usize {
        self.shared.ready.len()
    }

    /// The service whose replicas these are.
    #[must_use]
    pub fn service(&self) -> &'static str {
        self.shared.service
    }
}

impl std::fmt::Debug for Balance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Balance")
            .field("service", &self.service())
            .field("connected", &self.connected())
            .finish()
    }
}

/// Failures to reach a replica are `UNAVAILABLE`, and a passed deadline is `DEADLINE_EXCEEDED`.
/// What a replica answers, whatever its code, is a response.
impl Service<Request<Body>> for Balance {
    type Response = Response<Body>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Status>> + Send>>;

    /// Always ready: a call waits for its replica by itself.
    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let shared = self.shared.clone();
        Box::pin(async move {
            match deadline::of(request.headers()) {
                None => shared.send(request, shared.connect_wait).await,
                Some(left) => {
                    let answer = shared.send(request, shared.connect_wait.min(left));
                    timeout(left, answer)
                        .await
                        .unwrap_or_else(|_| Err(unavailable::too_late(shared.service)))
                }
            }
        })
    }
}

impl Shared {
    /// Sends to replica after replica, until one has taken the request.
    async fn send(
        &self,
        mut request: Request<Body>,
        wait: Duration,
    ) -> Result<Response<Body>, Status> {
        let give_up = Instant::now() + wait;
        loop {
            let at = InFlight::at(self.service, self.choose(give_up, wait).await?);
            address(&mut request, at.replica())?;
            match at.replica().sender.clone().try_send_request(request).await {
                Ok(response) => {
                    return Ok(response.map(|body| Body::new(CountedBody::new(body, at))));
                }
                Err(mut error) => match error.take_message() {
                    // It was never sent, so no replica has seen it.
                    Some(unsent) if Instant::now() < give_up => request = unsent,
                    _ => return Err(at.status_of(error.into_error())),
                },
            }
        }
    }

    async fn choose(&self, give_up: Instant, wait: Duration) -> Result<Arc<Replica>, Status> {
        loop {
            if let Some(replica) = self.ready.choose() {
                return Ok(replica);
            }
            if timeout_at(give_up, self.ready.any()).await.is_err() {
                return Err(unavailable::nobody(self.service, wait));
            }
        }
    }
}

/// Makes the request one for this replica.
fn address(request: &mut Request<Body>, replica: &Replica) -> Result<(), Status> {
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(replica.authority.clone());
    *request.uri_mut() =
        Uri::from_parts(parts).map_err(|error| Status::internal(format!("bad path: {error}")))?;
    *request.version_mut() = Version::HTTP_2;
    // `:authority` says it, and two that differ would be an error.
    request.headers_mut().remove(HOST);
    Ok(())
}
