//! Results by queue: of lost leases, and of those that came while no call could be made.

use std::time::Duration;

use tasker_stack::gather::Gather;
use tasker_stage::{Database, work_off};
use tasker_store::{Completion, Failure, Held, Payload, QueuedResult, Said, StoreError};

use crate::{
    complete_steps::CompleteSteps,
    fail_steps::{FailSteps, Failed},
    settle_steps::{Fast, SettleSteps, Unsettled},
};

/// What is read where no call came.
pub const QUEUE: &str = "orchestration_step_results";

/// Reads the queue.
pub struct QueuedResults {
    pub database: Database,
    pub good: Gather<CompleteSteps>,
    pub bad: Gather<FailSteps>,
    /// The long way.
    pub any: Gather<SettleSteps>,
    pub batch: usize,
}

impl QueuedResults {
    /// Works off one batch. Says whether there may be more.
    pub async fn read(&self) -> Result<bool, StoreError> {
        let count = i32::try_from(self.batch).unwrap_or(i32::MAX);
        let results = self.database.store.read_queued_results(count).await?;
        let full = results.len() == self.batch;
        let (bad, good): (Vec<_>, Vec<_>) = results.into_iter().partition(|result| result.failed);
        // What says of more than its own step is for nobody else.
        let (says, good): (Vec<_>, Vec<_>) = good.into_iter().partition(|result| result.says);
        let says = says.into_iter().map(|result| (result.message_id, completion(result)));
        let says = says.map(|(id, item)| (id, Unsettled::good(item)));
        let good = good.into_iter().map(|result| (result.message_id, completion(result))).collect();
        let bad = bad.into_iter().map(|result| (result.message_id, failed(result))).collect();
        let store = &self.database.store;
        let (good, bad) = tokio::try_join!(
            work_off(store, QUEUE, good, &self.good),
            work_off(store, QUEUE, bad, &self.bad)
        )?;
        let good_rest = good.answers.into_iter().filter_map(|(id, it)| Some((id, rest(it)?)));
        let bad_rest = bad.answers.into_iter().filter_map(|(id, it)| Some((id, rest(it)?)));
        let any =
            work_off(store, QUEUE, good_rest.chain(bad_rest).chain(says).collect(), &self.any)
                .await?;
        Ok(full && good.all_well && bad.all_well && any.all_well)
    }
}

/// What the fast way has left.
fn rest<T>(answer: Fast<T>) -> Option<Unsettled> {
    match answer {
        Fast::Judged(_) => None,
        Fast::NotPlain(item) => Some(*item),
    }
}

fn held(result: &QueuedResult) -> Held {
    Held { task_id: result.task_id, ordinal: result.ordinal, delivery_id: result.delivery_id }
}

/// Its payload is stored already.
fn completion(result: QueuedResult) -> Completion {
    Completion {
        message_id: Some(result.message_id),
        held: held(&result),
        payload: Payload::default(),
        said: if result.says { Said::Stored } else { Said::Nothing },
        worker_id: result.worker_id,
        traceparent: result.traceparent,
        places: Vec::new(),
    }
}

fn failed(result: QueuedResult) -> Failed {
    let retry_after = result.retry_after_ms.and_then(|ms| u64::try_from(ms).ok()).unwrap_or(0);
    Failed {
        attempt: result.attempt,
        retry_after: Duration::from_millis(retry_after),
        at_once: result.at_once,
        failure: Failure {
            message_id: Some(result.message_id),
            held: held(&result),
            error_type: result.error_type,
            error_message: String::new(),
            retryable: result.retryable,
            wait_ms: 0,
            worker_id: result.worker_id,
            traceparent: result.traceparent,
            passed_over: false,
        },
    }
}
