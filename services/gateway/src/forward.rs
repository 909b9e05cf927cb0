//! Passes a request on to the service that owns its method, and the answer back.

use std::{collections::BTreeMap, sync::Arc};

use http::{HeaderMap, Method, Request, Response, Uri, Version};
use tasker_runtime::mesh::TracedBalance;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tonic::{Status, body::Body};
use tower::ServiceExt as _;
use tracing::debug;

use crate::{
    answer::{Answer, Bounds},
    frames::{MeasuredBody, Refused},
    metadata, refusal,
    routes::{Route, Routes},
    timeout,
};

/// The channel to each service of the mesh but the gateway, by name.
pub(crate) type Channels = Arc<BTreeMap<&'static str, TracedBalance>>;

/// The table, and the channels it leads to.
#[derive(Clone)]
pub(crate) struct Forward {
    routes: Arc<Routes>,
    channels: Channels,
    max_message_bytes: u64,
    stop: CancellationToken,
}

impl Forward {
    /// Lets messages of at most `max_message_bytes` pass. `stop` ends the streams that are open.
    pub(crate) fn new(
        routes: Routes,
        channels: Channels,
        max_message_bytes: u64,
        stop: CancellationToken,
    ) -> Self {
        Self { routes: Arc::new(routes), channels, max_message_bytes, stop }
    }

    /// Answers any gRPC request: as its owner does, or with why it does not come that far.
    pub(crate) async fn call(self, request: Request<Body>) -> Response<Body> {
        self.pass(request).await.unwrap_or_else(Status::into_http)
    }

    async fn pass(&self, request: Request<Body>) -> Result<Response<Body>, Status> {
        let path = request.uri().path();
        let route = self.routes.find(path).ok_or_else(|| refusal::unknown_method(path))?;
        // The gateway's own methods have been served before this.
        let channel = self.channels.get(route.owner.as_str());
        let channel = channel.ok_or_else(|| refusal::unknown_method(path))?.clone();
        let deadline = timeout::deadline(request.headers())
            .map_err(|timeout::BadTimeout| refusal::bad_timeout())?;
        self.send(route, channel, request, deadline).await
    }

    async fn send(
        &self,
        route: &Route,
        channel: TracedBalance,
        request: Request<Body>,
        deadline: Option<Instant>,
    ) -> Result<Response<Body>, Status> {
        let (mut head, body) = request.into_parts();
        let (mut body, mut refused) = MeasuredBody::new(body, self.max_message_bytes);
        if !route.client_streaming {
            within(deadline, body.first_message()).await??;
        }
        metadata::clean_request(&mut head.headers);

        let onward = onward(&head.uri, head.headers, body);
        let answer = within(deadline, async {
            tokio::select! {
                // First: what is refused breaks the call, and then says why.
                biased;
                status = &mut refused => Err(status),
                answer = channel.oneshot(onward) => answer.map_err(|error| {
                    debug!(service = route.owner, %error, "a call to {} failed", route.owner);
                    refusal::lost(&route.owner, error)
                }),
            }
        });
        Ok(back(answer.await??, route, self.bounds(route, deadline, refused)))
    }

    /// What may end the answer before its service does.
    fn bounds(&self, route: &Route, deadline: Option<Instant>, refused: Refused) -> Bounds {
        // What will end by itself is waited for.
        let stop = route.server_streaming.then(|| self.stop.clone());
        Bounds::new(deadline, stop, refused)
    }
}

/// The request, made anew: what the server under us has noted of it is not for the client under us.
fn onward(uri: &Uri, headers: HeaderMap, body: MeasuredBody) -> Request<Body> {
    let mut request = Request::new(Body::new(body));
    *request.method_mut() = Method::POST;
    *request.version_mut() = Version::HTTP_2;
    *request.uri_mut() = uri.clone();
    *request.headers_mut() = headers;
    request
}

fn back(answer: Response<Body>, route: &Route, bounds: Bounds) -> Response<Body> {
    let (mut head, body) = answer.into_parts();
    metadata::clean_response(&mut head.headers);
    let concluded = head.headers.contains_key("grpc-status");
    let mut answer = Response::new(Body::new(Answer::new(body, &route.owner, concluded, bounds)));
    *answer.status_mut() = head.status;
    *answer.headers_mut() = head.headers;
    answer
}

async fn within<T>(deadline: Option<Instant>, work: impl Future<Output = T>) -> Result<T, Status> {
    match deadline {
        None => Ok(work.await),
        Some(at) => timeout_at(at, work).await.map_err(|_| refusal::deadline_exceeded()),
    }
}
