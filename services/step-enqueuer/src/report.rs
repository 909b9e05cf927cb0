//! What workers report of their deliveries: yields are taken here, results go on to be judged.

use tasker_api::{
    Invalid, time,
    v1::{ResultVerdict, ResultVerdictFor, StepResult, StepYield, step_result::Outcome},
};
use tasker_stack::gather::{Gather, Refused};
use tasker_stage::result::{self, sentence};
use tasker_store::{StoreError, ToYield, Verdict};
use tokio::sync::oneshot;

use crate::{
    checkpoint,
    deliver::Deliveries,
    forward::{self, ForwardResults, Forwarded},
    hello,
    next::{Next, Submission},
    yield_steps::YieldSteps,
};

type Answer<T> = oneshot::Receiver<Result<T, Refused<StoreError>>>;

/// Where reports go in.
#[derive(Clone)]
pub struct Reports {
    pub deliveries: Deliveries,
    pub results: Gather<ForwardResults>,
    pub yields: Gather<YieldSteps>,
    pub max_checkpoint_bytes: usize,
}

/// A report on its way to its verdict.
pub enum Reported {
    Result(Answer<Forwarded>),
    Yield(String, Answer<Verdict>),
    Invalid(ResultVerdictFor),
}

/// A report, by where it goes.
enum Sorted {
    Result(Box<Submission>),
    Yield(String, ToYield),
    Invalid(ResultVerdictFor),
}

impl Reports {
    /// Hands a report in.
    ///
    /// # Errors
    /// Too many wait, or the service ends.
    pub fn submit(&self, report: Submission) -> Result<Reported, Refused<StoreError>> {
        Ok(match self.sort(report) {
            Sorted::Result(result) => Reported::Result(self.results.submit(*result)?),
            Sorted::Yield(token, item) => Reported::Yield(token, self.yields.submit(item)?),
            Sorted::Invalid(verdict) => Reported::Invalid(verdict),
        })
    }

    /// Hands a report in as soon as there is a place.
    ///
    /// # Errors
    /// The service ends.
    pub async fn submit_in_turn(
        &self,
        report: Submission,
    ) -> Result<Reported, Refused<StoreError>> {
        Ok(match self.sort(report) {
            Sorted::Result(result) => Reported::Result(self.results.submit_in_turn(*result).await?),
            Sorted::Yield(token, item) => {
                Reported::Yield(token, self.yields.submit_in_turn(item).await?)
            }
            Sorted::Invalid(verdict) => Reported::Invalid(verdict),
        })
    }

    /// What became of a report, after the commit.
    ///
    /// # Errors
    /// Nobody knows: it is to be sent again.
    pub async fn verdict(&self, reported: Reported) -> Result<Forwarded, Refused<StoreError>> {
        let verdict = match reported {
            Reported::Result(answer) => return answer.await.unwrap_or(Err(Refused::Closed)),
            Reported::Yield(delivery_token, answer) => {
                let verdict = forward::of(answer.await.unwrap_or(Err(Refused::Closed))?);
                ResultVerdictFor { delivery_token, verdict: verdict.into(), reason: String::new() }
            }
            Reported::Invalid(verdict) => verdict,
        };
        Ok(Forwarded { verdict, next: Next::none(&self.deliveries) })
    }

    fn sort(&self, report: Submission) -> Sorted {
        let Some(StepResult {
            delivery_token, outcome: Some(Outcome::Yielded(step)), trace, ..
        }) = &report.result.result
        else {
            return Sorted::Result(Box::new(report));
        };
        let traceparent = trace.as_ref().map(|trace| trace.traceparent.clone()).unwrap_or_default();
        let worker_id = report.result.worker_id.clone();
        match self.check(delivery_token, step, worker_id, traceparent) {
            Ok(item) => Sorted::Yield(delivery_token.clone(), item),
            Err(invalid) => Sorted::Invalid(ResultVerdictFor {
                delivery_token: delivery_token.clone(),
                verdict: ResultVerdict::Invalid.into(),
                reason: sentence(&invalid),
            }),
        }
    }

    fn check(
        &self,
        token: &str,
        step: &StepYield,
        worker_id: String,
        traceparent: String,
    ) -> Result<ToYield, Invalid> {
        let token = result::token(token)?;
        let check =
            |given| checkpoint::check("yielded.checkpoint", given, self.max_checkpoint_bytes);
        let delay = time::from_duration("yielded.delay", step.delay)?.min(result::MAX_WAIT);
        Ok(ToYield {
            held: hello::held(&token),
            checkpoint: step.checkpoint.as_ref().map(check).transpose()?,
            delay_ms: i64::try_from(delay.as_millis()).unwrap_or(i64::MAX),
            worker_id,
            traceparent: result::traceparent(traceparent),
        })
    }
}
