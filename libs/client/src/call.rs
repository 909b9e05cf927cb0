//! One unary call: its deadline, its trace, and its second tries.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tasker_trace::TraceContext;
use tokio::time::{Instant, sleep_until};
use tonic::{Code, Request, Response, Status};
use tracing::Span;

use crate::{back_off::FullJitter, error::Error};

/// How often and how long a call is tried again, after it failed for a reason that passes.
#[derive(Clone, Debug)]
pub struct RetryPolicy {
    /// From the first try to the last answer. Default 30 s.
    pub deadline: Duration,
    /// The longest first wait. Default 50 ms.
    pub first_wait: Duration,
    /// The longest wait, unless the mesh asks for a longer one. Default 2 s.
    pub longest_wait: Duration,
    /// Of all calls of a client together; more wait their turn, within their deadlines. Default 100.
    pub retries_per_second: u32,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(30),
            first_wait: Duration::from_millis(50),
            longest_wait: Duration::from_secs(2),
            retries_per_second: 100,
        }
    }
}

/// What the calls of one client share.
#[derive(Debug)]
pub(crate) struct Calls {
    pub(crate) policy: RetryPolicy,
    budget: Budget,
}

impl Calls {
    pub(crate) fn new(policy: RetryPolicy) -> Self {
        let budget = Budget::new(policy.retries_per_second);
        Self { policy, budget }
    }

    pub(crate) fn back_off(&self) -> FullJitter {
        FullJitter::new(self.policy.first_wait, self.policy.longest_wait)
    }

    /// Calls until there is an answer, a failure that does not pass, or no time left.
    ///
    /// A try that the deadline cut off says nothing that its caller does not know: the reason the
    /// mesh gave for the try before it is returned, if there was one.
    pub(crate) async fn call<M, R, F>(
        &self,
        deadline: Instant,
        message: M,
        rpc: impl Fn(Request<M>) -> F,
    ) -> Result<R, Error>
    where
        M: Clone,
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let mut back_off = self.back_off();
        let mut reason = None;
        loop {
            let mut request = traced(message.clone());
            request.set_timeout(deadline.saturating_duration_since(Instant::now()));
            let error = match rpc(request).await {
                Ok(answer) => return Ok(answer.into_inner()),
                Err(status) => Error::from(status),
            };
            if error.code() == Code::DeadlineExceeded {
                return Err(reason.unwrap_or(error));
            }
            let again = self.next_try(&error, &mut back_off);
            if !error.is_transient() || again >= deadline {
                return Err(error);
            }
            reason = Some(error);
            sleep_until(again).await;
        }
    }

    /// When to try again after `error`.
    pub(crate) fn next_try(&self, error: &Error, back_off: &mut FullJitter) -> Instant {
        let asked = error.failure().and_then(|failure| failure.retry_after).unwrap_or_default();
        let wait = asked + back_off.next_wait();
        self.budget.take(Instant::now() + wait)
    }
}

/// Makes a request that goes on with the current trace.
pub(crate) fn traced<M>(message: M) -> Request<M> {
    let mut request = Request::new(message);
    let here = TraceContext::default().or_of(&Span::current());
    here.write_to(request.metadata_mut().as_mut());
    request
}

/// Spreads the second tries of many calls, so that a mesh that comes back is not run over.
#[derive(Debug)]
struct Budget {
    /// Between two tries, once a second's worth is used up.
    interval: Duration,
    /// When the tries taken so far would be over at the full rate.
    taken_until: Mutex<Instant>,
}

impl Budget {
    fn new(per_second: u32) -> Self {
        let interval = Duration::from_secs(1) / per_second.max(1);
        Self { interval, taken_until: Mutex::new(Instant::now()) }
    }

    /// Takes the next place, and returns when it may be used: at `wanted`, or later.
    fn take(&self, wanted: Instant) -> Instant {
        const BURST: Duration = Duration::from_secs(1);
        let now = Instant::now();
        let mut taken_until = self.taken_until.lock().unwrap_or_else(PoisonError::into_inner);
        let place = wanted.max(*taken_until);
        *taken_until = (*taken_until).max(now.checked_sub(BURST).unwrap_or(now)) + self.interval;
        place
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn second_tries_beyond_the_rate_wait_their_turn() {
        let budget = Budget::new(10);
        tokio::time::advance(Duration::from_secs(60)).await;
        let now = Instant::now();
        let places: Vec<_> = (0..21).map(|_| budget.take(now)).collect();
        assert!(places[..11].iter().all(|place| *place == now), "a second's worth goes at once");
        assert_eq!(places[20] - now, Duration::from_secs(1));
    }
}
