//! Keeps one HTTP/2 connection to one address open, for as long as the address is wanted.

use std::{io, net::SocketAddr, sync::Arc, sync::atomic::AtomicUsize, time::Duration};

use http::uri::Authority;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    net::TcpStream,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tracing::debug;

use super::ready::{Ready, Replica};
use crate::gathered_writes::GatheredWrites;

type Connection = http2::Connection<TokioIo<GatheredWrites<TcpStream>>, Body, TokioExecutor>;

/// How long a TCP connection may take to open.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const FIRST_BACK_OFF: Duration = Duration::from_millis(10);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(1);
/// How often a silent peer is asked whether it lives, and how long it may take to answer.
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// Fixed, since adaptive windows start at 64 KiB and measure with a ping in the path of each call.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;

/// Connects and connects again until `unwanted`. Requests in flight then still run to their end.
pub(super) async fn keep(
    address: SocketAddr,
    authority: Authority,
    ready: Arc<Ready>,
    unwanted: CancellationToken,
) {
    let mut back_off = FIRST_BACK_OFF;
    while !unwanted.is_cancelled() {
        let started = Instant::now();
        match open(address).await {
            Ok((sender, connection)) => {
                let replica = Arc::new(Replica {
                    address,
                    authority: authority.clone(),
                    sender,
                    in_flight: AtomicUsize::new(0),
                });
                serve(replica, connection, &ready, &unwanted).await;
            }
            Err(error) => debug!(%address, %error, "no connection to {address}"),
        }
        // One that lived has earned a quick return; one that is closed at once has not.
        if started.elapsed() > LONGEST_BACK_OFF {
            back_off = FIRST_BACK_OFF;
        }
        unwanted.run_until_cancelled(sleep(full_jitter(back_off))).await;
        back_off = (back_off * 2).min(LONGEST_BACK_OFF);
    }
}

/// Offers the replica until its connection takes no more requests, or is no longer wanted.
async fn serve(
    replica: Arc<Replica>,
    connection: Connection,
    ready: &Ready,
    unwanted: &CancellationToken,
) {
    let address = replica.address;
    ready.insert(replica.clone());
    tokio::pin!(connection);
    let ended = unwanted.run_until_cancelled(&mut connection).await;
    match &ended {
        Some(_) if ready.lost(&replica) => ready.warn_of_none(),
        Some(_) => {}
        None => {
            ready.remove(&replica);
        }
    }
    match ended {
        Some(Ok(())) => debug!(%address, "{address} closed its connection"),
        Some(Err(error)) => debug!(%address, %error, "lost the connection to {address}"),
        None => {
            // It ends with the last request that was given to it.
            drop(replica);
            connection.await.ok();
        }
    }
}

async fn open(address: SocketAddr) -> io::Result<(http2::SendRequest<Body>, Connection)> {
    let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await??;
    // Small messages are the rule, and each is waited for.
    stream.set_nodelay(true)?;
    http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .handshake(TokioIo::new(GatheredWrites::new(stream)))
        .await
        .map_err(io::Error::other)
}

/// Anywhere up to `longest`, so that callers who lost a replica together do not return together.
fn full_jitter(longest: Duration) -> Duration {
    longest.mul_f64(rand::random())
}
