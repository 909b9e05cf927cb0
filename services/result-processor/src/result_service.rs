//! `tasker.mesh.v1.ResultProcessorService`: decodes, calls the verbs, encodes.

use prost::Message as _;
use tasker_api::{
    Invalid,
    mesh::v1::{
        JudgeQueuedResultsRequest, JudgeQueuedResultsResponse, StartedStep,
        SubmitStepResultsRequest, SubmitStepResultsResponse,
        result_processor_service_server::ResultProcessorService,
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
    wire,
};
use tasker_store::{Completion, Failure, Place, Said, StoreError, Verdict};
use tokio::sync::oneshot;
use tonic::{Request, Response, Status};

use crate::{
    complete_steps::{CompleteSteps, Completed},
    fail_steps::{FailSteps, Failed},
    settle_steps::{Fast, SettleSteps, Unsettled},
};

/// The service's answers.
pub struct Results {
    pub good: Gather<CompleteSteps>,
    pub bad: Gather<FailSteps>,
    /// The long way, for what is not plain.
    pub any: Gather<SettleSteps>,
    /// Has the queue read.
    pub wake: Wake,
}

/// Where a result is on its way to.
enum Answer {
    Good(Waiting<Fast<Completed>>),
    Bad(Waiting<Fast<Verdict>>),
    /// The long way from the beginning.
    Any(Waiting<Completed>),
    Invalid(Invalid),
}

/// What has become of it on the fast way.
enum AfterFast {
    Ended(Result<Completed, Refused<StoreError>>),
    /// It has gone on, the long way.
    GoneOn(Waiting<Completed>),
    Invalid(Invalid),
}

type Waiting<T> = oneshot::Receiver<Result<T, Refused<StoreError>>>;

#[tonic::async_trait]
impl ResultProcessorService for Results {
    async fn submit_step_results(
        &self,
        request: Request<SubmitStepResultsRequest>,
    ) -> Result<Response<SubmitStepResultsResponse>, Status> {
        let results = request.into_inner().results;
        let places = results.iter().map(|submitted| wire::places(&submitted.places));
        let places = places.collect::<Result<Vec<_>, _>>()?;
        let mut waiting = Vec::new();
        for (submitted, places) in results.into_iter().zip(places) {
            let token = submitted.result.as_ref().map(|result| result.delivery_token.clone());
            let answer = match result::check(submitted) {
                Ok(result) => self.submit(result, places).map_err(|error| refused(&error))?,
                Err(invalid) => Answer::Invalid(invalid),
            };
            waiting.push((token.unwrap_or_default(), answer));
        }
        // All that goes the long way is on it before any of it is waited for: it goes together.
        let mut after_fast = Vec::with_capacity(waiting.len());
        for (token, answer) in waiting {
            after_fast.push((token, self.after_fast(answer).await));
        }
        let mut response = SubmitStepResultsResponse::default();
        for (delivery_token, answer) in after_fast {
            let completed = match answer {
                AfterFast::Ended(completed) => Ok(completed),
                AfterFast::GoneOn(answer) => Ok(answer.await.unwrap_or(Err(Refused::Closed))),
                AfterFast::Invalid(invalid) => Err(invalid),
            };
            let (verdict, reason) = match completed {
                Ok(completed) => judged(completed.map(|completed| {
                    response.started.extend(started(&completed));
                    completed.verdict
                }))?,
                Err(invalid) => (ResultVerdict::Invalid, sentence(&invalid)),
            };
            let verdict = verdict.into();
            response.verdicts.push(ResultVerdictFor { delivery_token, verdict, reason });
        }
        Ok(Response::new(response))
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
    /// Waits for the fast way, and sends on what is not plain.
    async fn after_fast(&self, answer: Answer) -> AfterFast {
        let fast = match answer {
            Answer::Good(answer) => answer.await.unwrap_or(Err(Refused::Closed)),
            Answer::Bad(answer) => {
                let verdict = answer.await.unwrap_or(Err(Refused::Closed));
                verdict.map(|fast| match fast {
                    Fast::Judged(verdict) => Fast::Judged(Completed::without_next(verdict)),
                    Fast::NotPlain(item) => Fast::NotPlain(item),
                })
            }
            Answer::Any(answer) => return AfterFast::GoneOn(answer),
            Answer::Invalid(invalid) => return AfterFast::Invalid(invalid),
        };
        match fast {
            Ok(Fast::Judged(completed)) => AfterFast::Ended(Ok(completed)),
            Ok(Fast::NotPlain(item)) => match self.any.submit(*item) {
                Ok(answer) => AfterFast::GoneOn(answer),
                Err(refused) => AfterFast::Ended(Err(refused)),
            },
            Err(refused) => AfterFast::Ended(Err(refused)),
        }
    }

    fn submit(
        &self,
        result: CheckedResult,
        places: Vec<Place>,
    ) -> Result<Answer, Refused<StoreError>> {
        let CheckedResult {
            held,
            attempt,
            outcome,
            expansion,
            retry_after,
            worker_id,
            traceparent,
            ..
        } = result;
        let message_id = None;
        match outcome {
            Ok(payload) => {
                let said = match expansion {
                    Some(said) => Said::This(said.encode_to_vec().into()),
                    None => Said::Nothing,
                };
                let item =
                    Completion { message_id, held, payload, said, worker_id, traceparent, places };
                match item.said {
                    Said::Nothing => self.good.submit(item).map(Answer::Good),
                    Said::This(_) | Said::Stored => {
                        self.any.submit(Unsettled::good(item)).map(Answer::Any)
                    }
                }
            }
            Err(failure) => self
                .bad
                .submit(Failed {
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
                        passed_over: false,
                    },
                })
                .map(Answer::Bad),
        }
    }
}

/// What has begun in the places that came with a result.
fn started(completed: &Completed) -> impl Iterator<Item = StartedStep> {
    completed.started.iter().map(|step| StartedStep {
        task_id: step.held.task_id.to_string(),
        ordinal: step.held.ordinal,
        delivery_id: step.held.delivery_id.to_string(),
        name: step.name.clone(),
        attempt: step.attempt,
        max_attempts: step.max_attempts,
        traceparent: completed.traceparent.clone(),
    })
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
