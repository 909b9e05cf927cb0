//! The body of an answer on its way to the client, which the gateway may have to end itself.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::Frame;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::{Status, body::Body};

use crate::{frames::Refused, refusal};

/// What may end an answer before its service does.
pub(crate) struct Bounds {
    deadline: Option<Pin<Box<Sleep>>>,
    stop: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    refused: Refused,
}

impl Bounds {
    pub(crate) fn new(
        deadline: Option<Instant>,
        stop: Option<CancellationToken>,
        refused: Refused,
    ) -> Self {
        let deadline = deadline.map(|at| Box::pin(sleep_until(at)));
        let stop = stop.map(|stop| Box::pin(stop.cancelled_owned()));
        Self { deadline, stop, refused }
    }

    /// How the gateway has to end the answer now.
    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<Status> {
        if let Poll::Ready(status) = Pin::new(&mut self.refused).poll(cx) {
            return Poll::Ready(status);
        }
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(refusal::deadline_exceeded());
        }
        match &mut self.stop {
            Some(stop) => stop.as_mut().poll(cx).map(|()| refusal::stopping()),
            None => Poll::Pending,
        }
    }
}

/// Passes an answer on until it ends, is out of its bounds, or its service is lost.
///
/// The client hears how it ended in the trailers: a reset stream would tell it nothing. To drop the
/// service's body is to reset the call there.
pub(crate) struct Answer {
    /// Gone when there is nothing more to say.
    inner: Option<Body>,
    owner: String,
    /// Whether the status has been said, in the head or in trailers.
    concluded: bool,
    bounds: Bounds,
}

impl Answer {
    /// `concluded` if the status stands in the head, so that none needs to follow.
    pub(crate) fn new(inner: Body, owner: &str, concluded: bool, bounds: Bounds) -> Self {
        Self { inner: Some(inner), owner: owner.to_owned(), concluded, bounds }
    }

    fn end(&mut self, status: &Status) -> Frame<Bytes> {
        self.inner = None;
        self.concluded = true;
        Frame::trailers(refusal::trailers(status))
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        // First, or a stream that always has something to say would outlive its deadline.
        if !self.concluded
            && let Poll::Ready(status) = self.bounds.poll_over(cx)
        {
            return Poll::Ready(Some(Ok(self.end(&status))));
        }
        let Some(inner) = &mut self.inner else { return Poll::Ready(None) };
        match ready!(Pin::new(inner).poll_frame(cx)) {
            Some(Ok(frame)) => {
                self.concluded |= frame.is_trailers();
                Poll::Ready(Some(Ok(frame)))
            }
            None | Some(Err(_)) if self.concluded => {
                self.inner = None;
                Poll::Ready(None)
            }
            Some(Err(error)) => {
                let status = refusal::lost(&self.owner, error);
                Poll::Ready(Some(Ok(self.end(&status))))
            }
            // No status has come: whatever has been said may not be all.
            None => {
                let status = refusal::unavailable(&self.owner);
                Poll::Ready(Some(Ok(self.end(&status))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(|inner| self.concluded && inner.is_end_stream())
    }
}
