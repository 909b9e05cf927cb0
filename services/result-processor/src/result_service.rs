//! `tasker.mesh.v1.ResultProcessorService`: decodes, calls the verbs, encodes.

use tasker_api::{
    mesh::v1::{
        JudgeQueuedResultsRequest, JudgeQueuedResultsResponse, SubmitStepResultsRequest,
        SubmitStepResultsResponse, result_processor_service_server::ResultProcessorService,
    },
    v1::{ResultVerdict, ResultVerdictFor},
};
use tasker_stack::{
    gather::{Gather, Refused},
    sweep::Wake,
};
use tasker_stage::{
    refused,
    result::{self, CheckedResult, sentence},
};
use tasker_store::{Completion, Failure, StoreError, Verdict};
use tokio::sync::oneshot;
use tonic::{Request, Response, Status};

use crate::{
    complete_steps::CompleteSteps,
    fail_steps::{FailSteps, Failed},
};

/// The service's answers.
pub struct Results {
    pub good: Gather<CompleteSteps>,
    pub bad: Gather<FailSteps>,
    /// Has the queue read.
    pub wake: Wake,
}

type Answer = oneshot::Receiver<Result<Verdict, Refused<StoreError>>>;

#[tonic::async_trait]
impl ResultProcessorService for Results {
    async fn submit_step_results(
        &self,
        request: Request<SubmitStepResultsRequest>,
    ) -> Result<Response<SubmitStepResultsResponse>, Status> {
        let mut waiting = Vec::new();
        for submitted in request.into_inner().results {
            let token = submitted.result.as_ref().map(|result| result.delivery_token.clone());
            let answer = match result::check(submitted) {
                Ok(result) => Ok(self.submit(result).map_err(|error| refused(&error))?),
                Err(invalid) => Err(invalid),
            };
            waiting.push((token.unwrap_or_default(), answer));
        }
        let mut verdicts = Vec::with_capacity(waiting.len());
        for (delivery_token, answer) in waiting {
            let (verdict, reason) = match answer {
                Ok(answer) => judged(answer.await.unwrap_or(Err(Refused::Closed)))?,
                Err(invalid) => (ResultVerdict::Invalid, sentence(&invalid)),
            };
            verdicts.push(ResultVerdictFor { delivery_token, verdict: verdict.into(), reason });
        }
        Ok(Response::new(SubmitStepResultsResponse { verdicts }))
    }

    async fn judge_queued_results(
        &self,
        _request: Request<JudgeQueuedResultsRequest>,
    ) -> Result<Response<JudgeQueuedResultsResponse>, Status> {
        self.wake.wake();
        Ok(Response::new(JudgeQueuedResultsResponse {}))
    }
}

impl Results {
    fn submit(&self, result: CheckedResult) -> Result<Answer, Refused<StoreError>> {
        let CheckedResult { held, attempt, outcome, retry_after, worker_id, traceparent } = result;
        let message_id = None;
        match outcome {
            Ok(payload) => {
                self.good.submit(Completion { message_id, held, payload, worker_id, traceparent })
            }
            Err(failure) => self.bad.submit(Failed {
                attempt,
                retry_after,
                at_once: false,
                failure: Failure {
                    message_id,
                    held,
                    error_type: failure.error_type,
                    error_message: failure.message,
                    retryable: failure.retryable,
                    wait_ms: 0,
                    worker_id,
                    traceparent,
                },
            }),
        }
    }
}

/// A verdict for the wire. What the database refuses for the result's own sake is the worker's to mend.
fn judged(answer: Result<Verdict, Refused<StoreError>>) -> Result<(ResultVerdict, String), Status> {
    match answer {
        Ok(Verdict::Committed) => Ok((ResultVerdict::Committed, String::new())),
        Ok(Verdict::Duplicate) => Ok((ResultVerdict::Duplicate, String::new())),
        Ok(Verdict::LeaseLost) => {
            Ok((ResultVerdict::LeaseLost, "the lease is not the step's current one".to_owned()))
        }
        Err(error) => match &error {
            Refused::Failed(inner) if !inner.is_unavailable() => {
                Ok((ResultVerdict::Invalid, refused(&error).message().to_owned()))
            }
            Refused::Panicked => Ok((ResultVerdict::Invalid, refused(&error).message().to_owned())),
            _ => Err(refused(&error)),
        },
    }
}
