//! Results go to result-processor; if it cannot be reached, into its queue, behind the same fence.

use std::time::Duration;

use tasker_api::{
    mesh::v1::{
        SubmitStepResultsRequest, SubmittedResult,
        result_processor_service_client::ResultProcessorServiceClient,
    },
    v1::{ResultVerdict, ResultVerdictFor},
};
use tasker_runtime::mesh::TracedBalance;
use tasker_stack::gather::Stage;
use tasker_stage::{
    Database,
    result::{self, sentence},
};
use tasker_store::{StoreError, ToQueue, Verdict};
use tokio::time::{sleep, timeout};
use tonic::{Code, Status};

/// How long a call may take.
const ANSWER: Duration = Duration::from_secs(10);
/// How often, and after what time, an overloaded result-processor is asked again.
const AGAIN: (u32, Duration) = (5, Duration::from_millis(100));

/// The verb.
pub struct ForwardResults {
    pub database: Database,
    pub results: ResultProcessorServiceClient<TracedBalance>,
    /// Whether calls are made at all.
    pub makes_calls: bool,
}

impl Stage for ForwardResults {
    type Item = SubmittedResult;
    type Answer = ResultVerdictFor;
    type Error = StoreError;
    type Key = String;

    fn key(item: &SubmittedResult) -> String {
        item.result.as_ref().map(|result| result.delivery_token.clone()).unwrap_or_default()
    }

    async fn apply(&self, items: &[SubmittedResult]) -> Result<Vec<ResultVerdictFor>, StoreError> {
        if self.makes_calls {
            match self.call(items).await {
                Ok(verdicts) if verdicts.len() == items.len() => return Ok(verdicts),
                Ok(_) => tracing::error!("result-processor did not answer each result"),
                Err(status) => {
                    tracing::warn!(
                        "result-processor did not take results, they are queued: {}",
                        status.message()
                    );
                }
            }
        }
        self.queue(items).await.inspect_err(|error| self.database.noticed(error))
    }

    fn may_be_one_items_fault(error: &StoreError) -> bool {
        !error.is_unavailable()
    }
}

impl ForwardResults {
    async fn call(&self, items: &[SubmittedResult]) -> Result<Vec<ResultVerdictFor>, Status> {
        let mut tries = AGAIN.0;
        loop {
            let request = SubmitStepResultsRequest { results: items.to_vec() };
            let answer = timeout(ANSWER, self.results.clone().submit_step_results(request)).await;
            match answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time"))) {
                Err(status) if status.code() == Code::ResourceExhausted && tries > 0 => {
                    tries -= 1;
                    sleep(AGAIN.1).await;
                }
                answer => return Ok(answer?.into_inner().verdicts),
            }
        }
    }

    async fn queue(&self, items: &[SubmittedResult]) -> Result<Vec<ResultVerdictFor>, StoreError> {
        let checked: Vec<_> = items.iter().cloned().map(result::check).collect();
        let good: Vec<ToQueue> = checked.iter().flatten().cloned().map(to_queue).collect();
        let mut verdicts = if good.is_empty() {
            Vec::new().into_iter()
        } else {
            self.database.store.queue_results(&good).await?.into_iter()
        };
        let verdict = |(item, checked): (&SubmittedResult, &Result<_, tasker_api::Invalid>)| {
            let (verdict, reason) = match checked {
                Ok(_) => (of(verdicts.next().unwrap_or(Verdict::LeaseLost)), String::new()),
                Err(invalid) => (ResultVerdict::Invalid, sentence(invalid)),
            };
            ResultVerdictFor { delivery_token: Self::key(item), verdict: verdict.into(), reason }
        };
        Ok(items.iter().zip(&checked).map(verdict).collect())
    }
}

fn of(verdict: Verdict) -> ResultVerdict {
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
        retry_after_ms: i64::try_from(checked.retry_after.as_millis()).unwrap_or(i64::MAX),
        worker_id: checked.worker_id,
        traceparent: checked.traceparent,
    }
}
