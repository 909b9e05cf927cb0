//! Results go to result-processor; if it cannot be reached, into its queue, behind the same fence.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use prost::Message as _;
use tasker_api::{
    MAX_MESSAGE_BYTES,
    mesh::v1::{
        StartedStep, SubmitStepResultsRequest, SubmitStepResultsResponse,
        result_processor_service_client::ResultProcessorServiceClient,
    },
    v1::{ResultVerdict, ResultVerdictFor},
};
use tasker_runtime::mesh::TracedBalance;
use tasker_stack::gather::{Gap, Stage};
use tasker_stage::result::{self, sentence};
use tasker_store::{Announcement, StoreError, ToQueue, Verdict};
use tokio::time::{sleep, timeout};
use tonic::{Code, Status};

use crate::{
    deliver::Deliveries,
    next::{Next, Submission},
};

/// How long a call may take.
const ANSWER: Duration = Duration::from_secs(10);
/// How often, and after what time, an overloaded result-processor is asked again.
const AGAIN: (u32, Duration) = (5, Duration::from_millis(100));

/// The verb.
pub struct ForwardResults {
    pub deliveries: Deliveries,
    pub results: ResultProcessorServiceClient<TracedBalance>,
    /// Whether calls are made at all.
    pub makes_calls: bool,
}

/// What became of a result.
pub struct Forwarded {
    pub verdict: ResultVerdictFor,
    /// What it has unlocked: for its caller to deliver, after the verdict.
    pub next: Next,
}

impl Stage for ForwardResults {
    type Item = Submission;
    type Answer = Forwarded;
    type Error = StoreError;
    type Key = String;

    const MAX_WEIGHT: usize = MAX_MESSAGE_BYTES;
    // Answers and what they unlock go to workers, whose next results come back together: worth a wait only where
    // calls are large.
    const GAP: Gap = Gap::FromAnswers(Duration::from_millis(3));

    fn weight(item: &Submission) -> usize {
        item.result.encoded_len()
    }

    fn key(item: &Submission) -> String {
        let result = item.result.result.as_ref();
        result.map(|result| result.delivery_token.clone()).unwrap_or_default()
    }

    async fn apply(&self, items: &[Submission]) -> Result<Vec<Forwarded>, StoreError> {
        let mut next = Vec::new();
        if self.makes_calls {
            let mut wanted = HashSet::new();
            let keep = |item: &Submission| item.keep_places(&self.deliveries, &mut wanted);
            next = items.iter().map(keep).collect();
            match self.call(items, &next).await {
                Ok(answer) if answer.verdicts.len() == items.len() => {
                    return Ok(self.forwarded(answer, next));
                }
                Ok(_) => tracing::error!("result-processor did not answer each result"),
                Err(status) => {
                    tracing::warn!(
                        "result-processor did not take results, they are queued: {}",
                        status.message()
                    );
                }
            }
        }
        let queued = self.queue(items).await;
        // Not before: the same rows are locked there, so a call that may still go on has ended by now, or
        // finds its results taken. Only then is it known what has begun.
        drop(next);
        let verdicts = queued.inspect_err(|error| self.deliveries.database.noticed(error))?;
        let nothing = |verdict| Forwarded { verdict, next: Next::none(&self.deliveries) };
        Ok(verdicts.into_iter().map(nothing).collect())
    }

    fn may_be_one_items_fault(error: &StoreError) -> bool {
        !error.is_unavailable()
    }
}

impl ForwardResults {
    async fn call(
        &self,
        items: &[Submission],
        next: &[Next],
    ) -> Result<SubmitStepResultsResponse, Status> {
        let results = items.iter().zip(next).map(|(item, next)| {
            let mut result = item.result.clone();
            result.places = next.places();
            result
        });
        let request = SubmitStepResultsRequest { results: results.collect() };
        let mut tries = AGAIN.0;
        loop {
            let request = request.clone();
            let answer = timeout(ANSWER, self.results.clone().submit_step_results(request)).await;
            match answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time"))) {
                Err(status) if status.code() == Code::ResourceExhausted && tries > 0 => {
                    tries -= 1;
                    sleep(AGAIN.1).await;
                }
                answer => return Ok(answer?.into_inner()),
            }
        }
    }

    /// Each verdict with what its result has unlocked.
    fn forwarded(&self, answer: SubmitStepResultsResponse, next: Vec<Next>) -> Vec<Forwarded> {
        let mut started: HashMap<String, StartedStep> =
            answer.started.into_iter().map(|step| (step.delivery_id.clone(), step)).collect();
        let forwarded = |(verdict, mut next): (ResultVerdictFor, Next)| {
            if verdict.verdict() == ResultVerdict::Committed {
                next.begin(&mut started);
                Forwarded { verdict, next }
            } else {
                // Of a try before, whose answer was lost, something may have begun: dropped, it goes back.
                Forwarded { verdict, next: Next::none(&self.deliveries) }
            }
        };
        answer.verdicts.into_iter().zip(next).map(forwarded).collect()
    }

    async fn queue(&self, items: &[Submission]) -> Result<Vec<ResultVerdictFor>, StoreError> {
        let checked: Vec<_> = items.iter().map(|item| result::check(item.result.clone())).collect();
        let good: Vec<ToQueue> = checked.iter().flatten().cloned().map(to_queue).collect();
        let mut verdicts = if good.is_empty() {
            Vec::new().into_iter()
        } else {
            let verdicts = self.deliveries.database.store.queue_results(&good).await?;
            // The call has just failed: nobody else may tell that they wait.
            let results = verdicts.contains(&Verdict::Committed);
            self.deliveries.announcer.announce(Announcement { results, ..Announcement::default() });
            verdicts.into_iter()
        };
        let verdict = |(item, checked): (&Submission, &Result<_, tasker_api::Invalid>)| {
            let (verdict, reason) = match checked {
                Ok(_) => (of(verdicts.next().unwrap_or(Verdict::LeaseLost)), String::new()),
                Err(invalid) => (ResultVerdict::Invalid, sentence(invalid)),
            };
            ResultVerdictFor { delivery_token: Self::key(item), verdict: verdict.into(), reason }
        };
        Ok(items.iter().zip(&checked).map(verdict).collect())
    }
}

/// A verdict for the wire.
pub fn of(verdict: Verdict) -> ResultVerdict {
    match verdict {
        Verdict::Committed => ResultVerdict::Committed,
        Verdict::Duplicate => ResultVerdict::Duplicate,
        Verdict::LeaseLost => ResultVerdict::LeaseLost,
    }
}

fn to_queue(checked: result::CheckedResult) -> ToQueue {
    ToQueue {
        held: checked.held,
        outcome: checked
            .outcome
            .map_err(|failure| (failure.error_type, failure.message, failure.retryable)),
        said: checked.expansion.map(|said| said.encode_to_vec().into()),
        retry_after_ms: i64::try_from(checked.retry_after.as_millis()).unwrap_or(i64::MAX),
        worker_id: checked.worker_id,
        traceparent: checked.traceparent,
    }
}
