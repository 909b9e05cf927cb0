//! Serves one service until it drains.

mod health;
mod trace;

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, anyhow};
use futures::StreamExt as _;
use tasker_stack::gathered_writes::GatheredWrites;
use tokio::{
    net::TcpListener,
    time::{Instant, timeout_at},
};
use tonic::{
    service::Routes,
    transport::{Server, server::TcpIncoming},
};
use tracing::{info, warn};

pub use self::health::{VERSION, VERSION_KEY};
use self::trace::TraceLayer;
use crate::Context;

/// How often a silent peer is asked whether it lives, and how long it may take to answer.
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// Fixed, since adaptive windows start at 64 KiB and measure with a ping in the path of each call.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;
/// Each worker session, watch and waiting call that the gateway passes on is one.
const MAX_STREAMS: u32 = 16_384;
/// Callers whose deadlines pass all at once must not cost the others their connection.
const MAX_PENDING_RESETS: usize = 1_024;

/// A service that has been built, and is ready to be served.
#[derive(Debug)]
pub struct Service {
    /// Where it listens.
    pub listen: SocketAddr,
    /// What it answers. Health and reflection are added by [`serve`].
    pub routes: Routes,
}

/// Serves `service` on `listener` until `context.drain` is cancelled, and then until its calls and
/// its background work have ended, or the drain timeout is over.
///
/// Adds `grpc.health.v1`, which follows the readiness, and reflection.
///
/// # Errors
///
/// If the server fails, or background work panicked.
pub async fn serve(
    service: Service,
    listener: TcpListener,
    context: Context,
) -> anyhow::Result<()> {
    let address = listener.local_addr().context("the listener has no address")?;
    let health = health::follow(&context).await;
    let routes = reflected(service.routes.add_service(health))?.prepare();
    let server = Server::builder()
        .http2_keepalive_interval(Some(PING_INTERVAL))
        .http2_keepalive_timeout(Some(PING_TIMEOUT))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(MAX_STREAMS)
        .http2_max_pending_accept_reset_streams(Some(MAX_PENDING_RESETS))
        // gRPC-Web comes by HTTP/1.1, too.
        .accept_http1(true)
        .layer(TraceLayer::new(context.service))
        .add_routes(routes)
        .serve_with_incoming_shutdown(
            TcpIncoming::from(listener)
                .with_nodelay(Some(true))
                .map(|connection| connection.map(GatheredWrites::new)),
            context.drain.clone().cancelled_owned(),
        );
    info!(%address, "{} listens on {address}", context.service);

    tokio::pin!(server);
    let stopped = tokio::select! {
        biased;
        () = context.drain.cancelled() => None,
        stopped = &mut server => Some(stopped),
    };
    // Of calls and background work together: whoever stops us counts from now.
    let give_up = Instant::now() + context.drain_timeout;
    let stopped = match stopped {
        Some(stopped) => stopped,
        None => timeout_at(give_up, server).await.unwrap_or_else(|_| {
            warn!("{} still has calls after {:?}: cut", context.service, context.drain_timeout);
            Ok(())
        }),
    };
    let finished = finish(&context, give_up).await;
    stopped.with_context(|| format!("{} cannot serve {address}", context.service)).and(finished)
}

/// Waits for the background work of a service that no longer serves.
pub(crate) async fn finish(context: &Context, give_up: Instant) -> anyhow::Result<()> {
    // Whatever ended the server ends the rest, too.
    context.drain.cancel();
    context.tracker.close();
    if timeout_at(give_up, context.tracker.wait()).await.is_err() {
        warn!(
            "{} still has {} background tasks after {:?}: cut",
            context.service,
            context.tracker.len(),
            context.drain_timeout
        );
    }
    match context.failure() {
        Some(name) => Err(anyhow!("{name} panicked")),
        None => Ok(()),
    }
}

/// Adds both versions of reflection: tools are divided.
fn reflected(routes: Routes) -> anyhow::Result<Routes> {
    let builder = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(tasker_api::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let v1 = builder().build_v1().context("the descriptors are not valid")?;
    let v1alpha = builder().build_v1alpha().context("the descriptors are not valid")?;
    Ok(routes.add_service(v1).add_service(v1alpha))
}
