//! What is written together leaves together.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;

/// The most that is kept back, in bytes. A peer that reads slowly stops the writer here.
const MOST: usize = 64 << 10;
/// From so many bytes on, nothing is won by keeping them back.
const LARGE: usize = 16 << 10;

/// A connection that, asked to flush, goes to the end of its thread's queue first: who is before it there may have
/// more to write.
///
/// The HTTP/2 of hyper flushes whenever it can: the head of a call before its message, and the answer to one call
/// before those to the others of the same commit. Each flush is a system call, and wakes whoever is on the other
/// side. Here small ones become one. (Messages of 1 KiB and more are flushed by h2 one after another.)
#[derive(Debug)]
pub struct GatheredWrites<S> {
    inner: S,
    waiting: BytesMut,
    /// Whether the others have had their turn since something waits.
    yielded: bool,
}

impl<S> GatheredWrites<S> {
    /// Over a connection that does not keep small packets back itself (`TCP_NODELAY`).
    pub fn new(inner: S) -> Self {
        Self { inner, waiting: BytesMut::new(), yielded: false }
    }
}

impl<S: AsyncWrite + Unpin> GatheredWrites<S> {
    /// Sends all that waits.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.waiting.is_empty() {
            let sent = ready!(Pin::new(&mut self.inner).poll_write(cx, &self.waiting))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.waiting.advance(sent);
        }
        self.yielded = false;
        if self.waiting.capacity() > LARGE {
            // A burst is over: an idle connection keeps no memory.
            self.waiting = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for GatheredWrites<S> {
    // Not vectored: h2 then copies what is smaller than 1 KiB, not 256 bytes, and needs no flush in between.
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if data.len() >= LARGE || this.waiting.len() == MOST {
            ready!(this.poll_send(cx))?;
        }
        if data.len() >= LARGE {
            return Pin::new(&mut this.inner).poll_write(cx, data);
        }
        let kept = data.len().min(MOST - this.waiting.len());
        this.waiting.extend_from_slice(&data[..kept]);
        Poll::Ready(Ok(kept))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.waiting.is_empty() && !this.yielded {
            this.yielded = true;
            // To the end of the queue.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        ready!(this.poll_send(cx))?;
        Pin::new(&mut this.inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_send(cx))?;
        Pin::new(&mut this.inner).poll_shutdown(cx)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for GatheredWrites<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_read(cx, buffer)
    }
}

impl<S: Connected> Connected for GatheredWrites<S> {
    type ConnectInfo = S::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.inner.connect_info()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    };

    use bytes::Bytes;
    use futures::FutureExt as _;
    use http::Request;
    use http_body_util::{BodyExt as _, Full};
    use hyper::client::conn::http2;
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tonic::transport::Server;

    use super::*;

    /// Notes each write.
    #[derive(Clone, Default)]
    struct Noted(Arc<Mutex<Vec<Vec<u8>>>>);

    impl Noted {
        fn writes(&self) -> Vec<Vec<u8>> {
            self.0.lock().unwrap().clone()
        }
    }

    impl AsyncWrite for Noted {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            data: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.0.lock().unwrap().push(data.to_vec());
            Poll::Ready(Ok(data.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn what_tasks_write_that_can_run_together_is_sent_at_once() {
        let noted = Noted::default();
        let mut stream = GatheredWrites::new(noted.clone());
        for bytes in [[1, 2, 3], [4, 5, 6]] {
            for byte in bytes {
                stream.write_all(&[byte]).await.unwrap();
                // As a connection does for the first of them, and is then at the end of the queue.
                if byte == bytes[0] {
                    assert!(stream.flush().now_or_never().is_none());
                }
            }
            stream.flush().await.unwrap();
        }
        assert_eq!(noted.writes(), [[1, 2, 3], [4, 5, 6]]);
    }

    /// Counts the writes to a connection.
    struct Counted(DuplexStream, Arc<AtomicUsize>);

    impl AsyncWrite for Counted {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            data: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.1.fetch_add(1, Ordering::Relaxed);
            Pin::new(&mut self.0).poll_write(cx, data)
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_flush(cx)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_shutdown(cx)
        }
    }

    impl AsyncRead for Counted {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_read(cx, buffer)
        }
    }

    #[tokio::test]
    async fn the_head_of_a_call_and_its_message_leave_together() {
        let (ours, theirs) = duplex(MOST);
        let (_, health) = tonic_health::server::health_reporter();
        let incoming = tokio_stream::once(Ok::<_, io::Error>(theirs));
        tokio::spawn(Server::builder().add_service(health).serve_with_incoming(incoming));
        let writes = Arc::<AtomicUsize>::default();
        let stream = GatheredWrites::new(Counted(ours, writes.clone()));
        let builder = http2::Builder::new(TokioExecutor::new());
        let (mut client, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        // The first brings the settings of both sides, too.
        for expected in [None, Some(1), Some(1)] {
            let before = writes.load(Ordering::Relaxed);
            let check = Request::post("http://mesh/grpc.health.v1.Health/Check")
                .header("content-type", "application/grpc")
                .body(Full::new(Bytes::from_static(&[0; 5])))
                .unwrap();
            let answer = client.send_request(check).await.unwrap();
            answer.into_body().collect().await.unwrap();
            let written = writes.load(Ordering::Relaxed) - before;
            assert!(expected.is_none_or(|expected| expected == written), "{written} writes");
        }
    }

    #[tokio::test]
    async fn large_writes_are_not_copied_and_do_not_overtake() {
        let noted = Noted::default();
        let mut stream = GatheredWrites::new(noted.clone());
        stream.write_all(&[1]).await.unwrap();
        stream.write_all(&[2; LARGE]).await.unwrap();
        assert_eq!(noted.writes(), [vec![1], vec![2; LARGE]]);
    }

    #[tokio::test]
    async fn nothing_is_lost_however_slowly_the_peer_reads() {
        let (ours, mut theirs) = duplex(7);
        let data: Vec<u8> = (0..=u8::MAX).cycle().take(3 * MOST).collect();
        let sent = data.clone();
        let sender = tokio::spawn(async move {
            let mut stream = GatheredWrites::new(ours);
            for piece in sent.chunks(LARGE / 3) {
                stream.write_all(piece).await.unwrap();
                assert!(stream.waiting.len() <= MOST);
            }
            // What waits is sent before the end, though nobody has flushed.
            stream.shutdown().await.unwrap();
        });
        let mut received = Vec::new();
        theirs.read_to_end(&mut received).await.unwrap();
        sender.await.unwrap();
        assert!(received == data);
    }
}
