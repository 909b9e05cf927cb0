//! Counts a request as in flight until its response has ended or nobody wants it any more.

use std::{
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tonic::Status;

use super::{ready::Replica, unavailable};

/// One request at one replica, counted as long as this lives.
pub(super) struct InFlight {
    service: &'static str,
    replica: Arc<Replica>,
}

impl InFlight {
    pub(super) fn at(service: &'static str, replica: Arc<Replica>) -> Self {
        replica.in_flight.fetch_add(1, Ordering::Relaxed);
        Self { service, replica }
    }

    pub(super) fn replica(&self) -> &Arc<Replica> {
        &self.replica
    }

    /// What a failure of the connection means to the caller.
    pub(super) fn status_of(&self, error: hyper::Error) -> Status {
        unavailable::or_refused(self.service, self.replica.address, error)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.replica.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A response body that keeps its request counted.
pub(super) struct CountedBody {
    body: Incoming,
    request: Option<InFlight>,
}

impl CountedBody {
    pub(super) fn new(body: Incoming, request: InFlight) -> Self {
        Self { body, request: Some(request) }
    }
}

impl Body for CountedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        let frame = match frame {
            Some(Ok(frame)) if frame.is_data() => return Poll::Ready(Some(Ok(frame))),
            // Trailers, an error or the end: nothing follows. A reader need not poll again.
            last => last,
        };
        let request = self.request.take();
        Poll::Ready(frame.map(|frame| {
            frame.map_err(|error| match request {
                Some(request) => request.status_of(error),
                None => Status::from_error(error.into()),
            })
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
