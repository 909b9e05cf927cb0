//! The client itself: a connection, and how calls go over it.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;
use tonic::{Request, Response, Status, transport::Channel};

use crate::{
    call::{Calls, RetryPolicy},
    endpoint::endpoint,
    error::Error,
};

/// A payload has 4 MiB at most; what surrounds it is small.
pub(crate) const LARGEST_MESSAGE: usize = 16 * 1024 * 1024;

/// A client of one gateway. Clones share one connection and one retry budget.
#[derive(Clone, Debug)]
pub struct Client {
    channel: Channel,
    pub(crate) calls: Arc<Calls>,
}

impl Client {
    /// Connects to the gateway at `url`, for example `http://127.0.0.1:7700`.
    ///
    /// # Errors
    /// [`Error::Address`] if `url` is not an address, [`Error::Connect`] if nobody answers there
    /// within five seconds.
    pub async fn connect(url: &str) -> Result<Self, Error> {
        Ok(Self::over(endpoint(url)?.connect().await.map_err(Error::Connect)?))
    }

    /// Connects when the first call is made, which is tried again while nobody answers.
    ///
    /// # Errors
    /// [`Error::Address`] if `url` is not an address.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub fn connect_lazy(url: &str) -> Result<Self, Error> {
        Ok(Self::over(endpoint(url)?.connect_lazy()))
    }

    /// Calls over a connection that was made elsewhere.
    #[must_use]
    pub fn over(channel: Channel) -> Self {
        Self { channel, calls: Arc::new(Calls::new(RetryPolicy::default())) }
    }

    /// Tries again by another policy than the default one.
    #[must_use]
    pub fn with_retry_policy(self, policy: RetryPolicy) -> Self {
        Self { calls: Arc::new(Calls::new(policy)), ..self }
    }

    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Calls within the policy's deadline.
    pub(crate) async fn call<M, R, F>(
        &self,
        message: M,
        rpc: impl Fn(Channel, Request<M>) -> F,
    ) -> Result<R, Error>
    where
        M: Clone,
        F: Future<Output = Result<Response<R>, Status>>,
    {
        self.call_within(self.calls.policy.deadline, message, rpc).await
    }

    pub(crate) async fn call_within<M, R, F>(
        &self,
        time: Duration,
        message: M,
        rpc: impl Fn(Channel, Request<M>) -> F,
    ) -> Result<R, Error>
    where
        M: Clone,
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let deadline = Instant::now() + time;
        self.calls.call(deadline, message, |request| rpc(self.channel(), request)).await
    }
}
