//! Measures the messages in a request as they stream through, without decoding them.
//!
//! Each gRPC message is preceded by five bytes: a flag, and its length. Nothing is gathered: the
//! gateway never holds more of a message than has just arrived.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::Frame;
use http_body_util::BodyExt as _;
use tokio::sync::oneshot;
use tonic::{Status, body::Body};

use crate::refusal;

const PREFIX: usize = 5;

/// Told of a message that is too large; waits for ever if there is none.
pub(crate) struct Refused {
    /// Gone when the request is complete.
    told: Option<oneshot::Receiver<Status>>,
}

impl Future for Refused {
    type Output = Status;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Status> {
        let Some(told) = &mut self.told else { return Poll::Pending };
        let told = ready!(Pin::new(told).poll(cx));
        self.told = None;
        told.map_or(Poll::Pending, Poll::Ready)
    }
}

/// The body of a request, whose messages are within a limit.
///
/// A message over the limit ends it with an error, which resets the request at the service, and
/// tells the [`Refused`] of it why.
pub(crate) struct MeasuredBody {
    inner: Body,
    /// Read ahead, and still to be passed on. At most a few: see [`MeasuredBody::first_message`].
    ahead: VecDeque<Frame<Bytes>>,
    ruler: Ruler,
    refuse: Option<oneshot::Sender<Status>>,
}

impl MeasuredBody {
    /// Lets messages of at most `limit` bytes pass.
    pub(crate) fn new(inner: Body, limit: u64) -> (Self, Refused) {
        let (refuse, refused) = oneshot::channel();
        let ruler = Ruler::new(limit);
        let body = Self { inner, ahead: VecDeque::new(), ruler, refuse: Some(refuse) };
        (body, Refused { told: Some(refused) })
    }

    /// Waits until the length of the first message is known, or there is none.
    ///
    /// So that a unary request that is too large never reaches the service. Not for streams: their
    /// client may want to hear from the service before it says anything.
    pub(crate) async fn first_message(&mut self) -> Result<(), Status> {
        while !self.ruler.has_measured() {
            let Some(frame) = self.inner.frame().await else { break };
            let frame = frame?;
            if let Some(data) = frame.data_ref() {
                self.ruler.measure(data)?;
            }
            // Nothing is learned from an empty one, and they would gather without end.
            if frame.data_ref().is_none_or(|data| !data.is_empty()) {
                self.ahead.push_back(frame);
            }
        }
        Ok(())
    }
}

impl http_body::Body for MeasuredBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(frame) = self.ahead.pop_front() {
            return Poll::Ready(Some(Ok(frame)));
        }
        let Some(frame) = ready!(Pin::new(&mut self.inner).poll_frame(cx)?) else {
            return Poll::Ready(None);
        };
        if let Some(data) = frame.data_ref()
            && let Err(status) = self.ruler.measure(data)
        {
            if let Some(refuse) = self.refuse.take() {
                // Nobody hears it if the call has ended by now.
                refuse.send(status.clone()).ok();
            }
            return Poll::Ready(Some(Err(status)));
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.ahead.is_empty() && self.inner.is_end_stream()
    }
}

/// Follows the prefixes in a stream of bytes, however it is cut into pieces.
#[derive(Debug)]
struct Ruler {
    limit: u64,
    prefix: [u8; PREFIX],
    /// Of `prefix`, how many bytes have come.
    have: usize,
    /// Of the message, how many bytes are still to come.
    rest: u64,
    measured: bool,
}

impl Ruler {
    fn new(limit: u64) -> Self {
        Self { limit, prefix: [0; PREFIX], have: 0, rest: 0, measured: false }
    }

    /// Whether the length of a message has been seen.
    fn has_measured(&self) -> bool {
        self.measured
    }

    fn measure(&mut self, mut data: &[u8]) -> Result<(), Status> {
        while !data.is_empty() {
            if self.rest > 0 {
                let skipped = usize::try_from(self.rest).unwrap_or(usize::MAX).min(data.len());
                self.rest -= skipped as u64;
                data = &data[skipped..];
                continue;
            }
            let taken = (PREFIX - self.have).min(data.len());
            self.prefix[self.have..self.have + taken].copy_from_slice(&data[..taken]);
            self.have += taken;
            data = &data[taken..];
            if self.have == PREFIX {
                self.begin_message()?;
            }
        }
        Ok(())
    }

    fn begin_message(&mut self) -> Result<(), Status> {
        let [_, length @ ..] = self.prefix;
        self.rest = u32::from_be_bytes(length).into();
        self.have = 0;
        self.measured = true;
        if self.rest > self.limit {
            return Err(refusal::message_too_large(self.rest, self.limit));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(lengths: &[u32]) -> Vec<u8> {
        let message =
            |&length: &u32| [&[0], &length.to_be_bytes()[..], &vec![7; length as usize]].concat();
        lengths.iter().flat_map(message).collect()
    }

    #[test]
    fn messages_within_the_limit_pass_however_they_are_cut() {
        let bytes = messages(&[10, 0, 3, 10]);
        for size in 1..=bytes.len() {
            let mut ruler = Ruler::new(10);
            assert!(bytes.chunks(size).all(|piece| ruler.measure(piece).is_ok()), "by {size}");
        }
    }

    #[test]
    fn a_message_over_the_limit_is_refused_however_it_is_cut() {
        let bytes = messages(&[10, 11]);
        for size in 1..=bytes.len() {
            let mut ruler = Ruler::new(10);
            let refused = bytes.chunks(size).find_map(|piece| ruler.measure(piece).err());
            assert_eq!(refused.unwrap().code(), tonic::Code::InvalidArgument, "by {size}");
        }
    }

    #[tokio::test]
    async fn looking_ahead_loses_nothing() {
        let bytes = messages(&[4, 2]);
        let body = Body::new(http_body_util::Full::new(Bytes::from(bytes.clone())));
        let (mut body, _refused) = MeasuredBody::new(body, 10);
        body.first_message().await.unwrap();
        assert_eq!(body.collect().await.unwrap().to_bytes(), bytes);
    }
}
