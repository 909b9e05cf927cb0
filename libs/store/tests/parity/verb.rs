//! The verbs of a step: each one statement, each passing its events in one commit.

use std::time::Duration;

use tasker_domain::{Ordinal, StepEvent, StepState, TaskEvent, TaskId, usage::Limited};
use tasker_store::{
    Completion, Expiry, Failure, HeldStep, Payload, Place, Remedy, Said, StoreError, ToAdmit,
    ToEnd, ToEnqueue, ToFail, ToLock, ToQueue, ToRelease, ToRepair, ToStart, ToYield, WaitingStep,
};
use uuid::Uuid;

use crate::bench::{AStep, Bench};

/// So long that nothing moves by itself while the test runs.
const AN_HOUR_MS: i64 = 3_600_000;
const ACTOR: &str = "parity";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Enqueue,
    EnqueueToWorker,
    /// By the result of its parent, which brings a place.
    StartAfterParent,
    /// Of a step that limits held.
    Admit,
    Start,
    Release,
    Yield,
    Expire,
    QueueResult,
    QueueFailure,
    Complete,
    CompleteQueued,
    FailForNow,
    FailForGood,
    FailQueuedForNow,
    FailQueuedForGood,
    CompleteTheLongWay,
    FailTheLongWay,
    /// A good result that was queued, and is found to be none.
    RefuseQueued,
    /// With the others of its batch that have not begun.
    FailBatch,
    Retry,
    /// With its task.
    Cancel,
    ResetForRetry,
    /// With its failed task, by the repair of its parent.
    Reopen,
    CompleteManually,
    ResolveManually,
}

impl Verb {
    pub(crate) const ALL: [Self; 26] = [
        Self::Enqueue,
        Self::EnqueueToWorker,
        Self::StartAfterParent,
        Self::Admit,
        Self::Start,
        Self::Release,
        Self::Yield,
        Self::Expire,
        Self::QueueResult,
        Self::QueueFailure,
        Self::Complete,
        Self::CompleteQueued,
        Self::FailForNow,
        Self::FailForGood,
        Self::FailQueuedForNow,
        Self::FailQueuedForGood,
        Self::CompleteTheLongWay,
        Self::FailTheLongWay,
        Self::RefuseQueued,
        Self::FailBatch,
        Self::Retry,
        Self::Cancel,
        Self::ResetForRetry,
        Self::Reopen,
        Self::CompleteManually,
        Self::ResolveManually,
    ];

    /// What it passes, from this state.
    pub(crate) fn events(self, from: StepState) -> &'static [StepEvent] {
        use StepEvent as On;
        match self {
            // Given back, and held anew.
            Self::Admit if from == StepState::Enqueued => &[On::Start],
            Self::Enqueue => &[On::Enqueue],
            Self::EnqueueToWorker | Self::StartAfterParent | Self::Admit => {
                &[On::Enqueue, On::Start]
            }
            Self::Start => &[On::Start],
            Self::Release | Self::Yield => &[On::Release],
            Self::Expire => &[On::LeaseExpired],
            Self::QueueResult => &[On::EnqueueForOrchestration],
            Self::QueueFailure => &[On::EnqueueAsErrorForOrchestration],
            Self::Complete | Self::CompleteTheLongWay => {
                &[On::EnqueueForOrchestration, On::Complete]
            }
            Self::CompleteQueued => &[On::Complete],
            Self::FailForNow => &[On::EnqueueAsErrorForOrchestration, On::WaitForRetry],
            Self::FailForGood | Self::FailTheLongWay => {
                &[On::EnqueueAsErrorForOrchestration, On::Fail]
            }
            Self::FailQueuedForNow => &[On::WaitForRetry],
            Self::FailQueuedForGood | Self::RefuseQueued | Self::FailBatch => &[On::Fail],
            Self::Retry => &[On::Retry],
            Self::Cancel => &[On::Cancel],
            Self::ResetForRetry => &[On::ResetForRetry],
            Self::Reopen => &[On::Reopen],
            Self::CompleteManually => &[On::CompleteManually],
            Self::ResolveManually => &[On::ResolveManually],
        }
    }

    /// Where the machine in Rust says that the verb leads.
    pub(crate) fn expected(self, state: StepState) -> Option<StepState> {
        // `Fail` alone is also legal for steps that never began. A failure from the queue is of one
        // that did: a late copy of its message must not fail the step that is pending again.
        let queued = StepState::EnqueuedAsErrorForOrchestration;
        if self == Self::FailQueuedForGood && state != queued {
            return None;
        }
        if self == Self::RefuseQueued
            && state != queued
            && state != StepState::EnqueuedForOrchestration
        {
            return None;
        }
        // Nor one that has begun.
        if self == Self::FailBatch && !state.is_before_start() {
            return None;
        }
        // Legal, but an end cancels what is open: what has failed may be reset if the task is.
        if self == Self::Cancel && state == StepState::Error {
            return None;
        }
        self.events(state).iter().try_fold(state, |state, event| state.after(*event).ok())
    }

    /// Whether the step's result is in the queue already.
    pub(crate) fn judges_from_the_queue(self) -> bool {
        matches!(
            self,
            Self::CompleteQueued
                | Self::FailQueuedForNow
                | Self::FailQueuedForGood
                | Self::RefuseQueued
        )
    }

    /// Whether it comes to a step by another, on which that depends.
    pub(crate) fn comes_by_a_parent(self) -> bool {
        matches!(self, Self::StartAfterParent | Self::Reopen)
    }

    /// Passes the verb, by the statement that services use.
    pub(crate) async fn apply(self, bench: &Bench, step: &AStep) {
        let store = &bench.store;
        let done = match self {
            Self::Enqueue | Self::EnqueueToWorker => {
                let to = (self == Self::EnqueueToWorker)
                    .then(|| (Uuid::now_v7(), Uuid::now_v7(), AN_HOUR_MS));
                let item = ToEnqueue {
                    ready: step.ready.clone(),
                    to,
                    traceparent: String::new(),
                    queue: "parity".to_owned(),
                    callable: "any".to_owned(),
                    held_to: None,
                };
                store.enqueue_steps(&[item], ACTOR).await.map(drop)
            }
            Self::Start => {
                let item = ToStart {
                    waiting: waiting(bench, step).await,
                    delivery_id: Uuid::now_v7(),
                    session_id: Uuid::now_v7(),
                    timeout_ms: AN_HOUR_MS,
                };
                store.start_steps(&step.ready.namespace, &[item], ACTOR).await.map(drop)
            }
            Self::Release => {
                let item = ToRelease { held: step.held, session: None, reason: String::new() };
                store.release_steps(&[item], ACTOR).await.map(drop)
            }
            Self::Yield => {
                let item = ToYield {
                    held: step.held,
                    checkpoint: Some(b"half".to_vec()),
                    delay_ms: AN_HOUR_MS,
                    worker_id: ACTOR.to_owned(),
                    traceparent: String::new(),
                };
                store.yield_steps(&[item]).await.map(drop)
            }
            Self::Expire => {
                let item = Expiry {
                    held: step.held,
                    session: None,
                    error_type: "LEASE_EXPIRED",
                    error_message: "the worker is lost".to_owned(),
                };
                store.expire_leases(&[item], ACTOR).await.map(drop)
            }
            Self::QueueResult => {
                store.queue_results(&[to_queue(step, Ok(payload()))]).await.map(drop)
            }
            Self::QueueFailure => {
                let failure = Err(("broken".to_owned(), "it broke".to_owned(), true));
                store.queue_results(&[to_queue(step, failure)]).await.map(drop)
            }
            Self::Admit => {
                let item = ToAdmit {
                    step: held(step),
                    limits: Vec::new(),
                    delivery_id: Uuid::now_v7(),
                    session_id: Uuid::now_v7(),
                    timeout_ms: AN_HOUR_MS,
                };
                store.admit_steps(&step.ready.namespace, &[item], &[], ACTOR).await.map(drop)
            }
            Self::StartAfterParent => {
                let place = Place {
                    ordinal: step.held.ordinal,
                    delivery_id: Uuid::now_v7(),
                    session_id: Uuid::now_v7(),
                    timeout_ms: AN_HOUR_MS,
                };
                let item = Completion {
                    message_id: None,
                    held: step.parent.unwrap(),
                    payload: payload(),
                    said: Said::Nothing,
                    worker_id: ACTOR.to_owned(),
                    traceparent: String::new(),
                    places: vec![place],
                };
                store.complete_steps(&[item], ACTOR).await.map(drop)
            }
            Self::Complete | Self::CompleteQueued => {
                store.complete_steps(&[completion(step)], ACTOR).await.map(drop)
            }
            Self::FailForNow | Self::FailQueuedForNow => {
                store.fail_steps(&[failure(step, true)], ACTOR).await.map(drop)
            }
            Self::FailForGood | Self::FailQueuedForGood => {
                store.fail_steps(&[failure(step, false)], ACTOR).await.map(drop)
            }
            Self::CompleteTheLongWay | Self::FailTheLongWay | Self::RefuseQueued => {
                self.settle(bench, step).await
            }
            Self::FailBatch => fail_batch(bench, step).await,
            Self::Retry => store.retry_steps(1_000, ACTOR).await.map(drop),
            Self::Cancel => store.end_tasks(&[to_end(step)]).await.map(drop),
            Self::ResetForRetry => repair(bench, to_repair(step, "only", Remedy::Reset)).await,
            Self::Reopen => repair(bench, to_repair(step, "parent", Remedy::Reset)).await,
            Self::CompleteManually => {
                repair(bench, to_repair(step, "only", Remedy::Complete(payload()))).await
            }
            Self::ResolveManually => repair(bench, to_repair(step, "only", Remedy::Resolve)).await,
        };
        done.unwrap_or_else(|error| panic!("{self:?}: {error:?}"));
    }

    /// As result-processor does, where more than the step is concerned.
    async fn settle(self, bench: &Bench, step: &AStep) -> Result<(), StoreError> {
        let mut settlement = bench.store.begin_settlement().await?;
        let to_lock = ToLock { message_id: step.message_id, held: step.held };
        settlement.lock(&[to_lock]).await?;
        if self == Self::CompleteTheLongWay {
            settlement.complete(&[completion(step)], ACTOR).await?;
        } else {
            settlement.fail(&[failure(step, false)], ACTOR).await?;
        }
        settlement.commit().await
    }
}

pub(crate) fn completion(step: &AStep) -> Completion {
    Completion {
        message_id: step.message_id,
        held: step.held,
        payload: payload(),
        said: Said::Nothing,
        worker_id: ACTOR.to_owned(),
        traceparent: String::new(),
        places: Vec::new(),
    }
}

async fn fail_batch(bench: &Bench, step: &AStep) -> Result<(), StoreError> {
    let mut settlement = bench.store.begin_settlement().await?;
    settlement.lock(&[ToLock { message_id: None, held: step.held }]).await?;
    let batch = ToFail {
        task_id: step.held.task_id,
        declared: step.held.ordinal,
        first: 0,
        traceparent: String::new(),
    };
    settlement.fail_batches(&[batch], ACTOR).await?;
    settlement.commit().await
}

fn held(step: &AStep) -> HeldStep {
    HeldStep {
        task_id: step.held.task_id,
        ordinal: step.held.ordinal,
        declared: Ordinal(step.held.ordinal),
        template_id: step.ready.template_id,
        priority: 0,
        callable: "any".to_owned(),
        limit_values: Vec::new(),
        by: Limited { name: String::new(), value: String::new() },
        traceparent: String::new(),
        waited: Duration::ZERO,
    }
}

async fn waiting(bench: &Bench, step: &AStep) -> WaitingStep {
    WaitingStep {
        message_id: bench.send_to_worker_queue(step).await,
        task_id: step.held.task_id,
        ordinal: step.held.ordinal,
        template_id: step.ready.template_id,
        priority: 0,
        callable: "any".to_owned(),
        declared: None,
        traceparent: String::new(),
        waited: Duration::ZERO,
    }
}

fn to_queue(step: &AStep, outcome: Result<Payload, (String, String, bool)>) -> ToQueue {
    ToQueue {
        held: step.held,
        outcome,
        said: None,
        retry_after_ms: 0,
        worker_id: ACTOR.to_owned(),
        traceparent: String::new(),
    }
}

pub(crate) fn failure(step: &AStep, retryable: bool) -> Failure {
    Failure {
        message_id: step.message_id,
        held: step.held,
        error_type: "broken".to_owned(),
        error_message: "it broke".to_owned(),
        retryable,
        wait_ms: AN_HOUR_MS,
        worker_id: ACTOR.to_owned(),
        traceparent: String::new(),
        passed_over: false,
    }
}

fn to_end(step: &AStep) -> ToEnd {
    ToEnd {
        task_id: TaskId(step.held.task_id),
        event: TaskEvent::Cancel,
        actor: ACTOR.to_owned(),
        reason: String::new(),
    }
}

fn to_repair(step: &AStep, name: &str, remedy: Remedy) -> ToRepair {
    ToRepair {
        task_id: TaskId(step.held.task_id),
        step: Some(name.to_owned()),
        remedy,
        said: None,
        actor: ACTOR.to_owned(),
        reason: String::new(),
    }
}

async fn repair(bench: &Bench, item: ToRepair) -> Result<(), StoreError> {
    let mut settlement = bench.store.begin_repairs(&[item.task_id.0]).await?;
    bench.store.repair_steps(&mut settlement, &[item], vec![Ok(None)]).await?;
    settlement.commit().await
}

fn payload() -> Payload {
    Payload { content_type: "application/json".to_owned(), data: "1".into(), ..Payload::default() }
}
