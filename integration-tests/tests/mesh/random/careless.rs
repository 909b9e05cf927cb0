//! A worker that answers twice, late or not at all.

use std::{collections::BTreeMap, time::Duration};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tasker_client::v1::{
    Delivery, PollStepsRequest, ReportResultsRequest, ResultVerdict, StepError, StepResult,
    StepYield, step_result::Outcome, worker_service_client::WorkerServiceClient,
};
use tasker_integration_tests::{End, Turn, script_line, script_turn};
use tasker_worker::{Checkpoint, StepContext};
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::{Response, Status, transport::Channel};

use super::{NAMESPACE, PATIENCE};

/// So many deliveries of a hundred are kept until their leases are lost.
const KEPT: u32 = 8;
/// Of those that it sends again.
const AT_ONCE: usize = 100;
/// More than other workers take, so that it is given its share.
const MOST: i32 = 64;
const PAUSE: Duration = Duration::from_millis(20);

/// It polls, so that no stream has to live: calls go on through whatever is killed.
pub(super) struct Careless {
    stop: CancellationToken,
    work: JoinHandle<Answers>,
}

/// What it answered in the course of a test.
pub(super) struct Answers {
    worker: WorkerServiceClient<Channel>,
    /// By delivery: how often a result of it was taken as the first.
    committed: BTreeMap<String, u32>,
    sent: Vec<StepResult>,
    kept: Vec<StepResult>,
}

impl Careless {
    pub(super) fn start(gateway: &str, seed: u64) -> Self {
        let channel = Channel::from_shared(gateway.to_owned()).expect("our own address is one");
        let worker = WorkerServiceClient::new(channel.connect_lazy());
        let stop = CancellationToken::new();
        let work = tokio::spawn(work(worker, StdRng::seed_from_u64(seed), stop.clone()));
        Self { stop, work }
    }

    pub(super) async fn stop(self) -> Answers {
        self.stop.cancel();
        self.work.await.expect("it does not panic")
    }
}

async fn work(
    worker: WorkerServiceClient<Channel>,
    mut random: StdRng,
    stop: CancellationToken,
) -> Answers {
    let (committed, sent, kept) = (BTreeMap::new(), Vec::new(), Vec::new());
    let mut answers = Answers { worker, committed, sent, kept };
    while !stop.is_cancelled() {
        // Where a call is cut off, what it may have been given is lost with its session.
        let polled = answer(|| {
            let mut worker = answers.worker.clone();
            async move { worker.poll_steps(poll()).await }
        });
        for delivery in polled.await.deliveries {
            let result = result_of(delivery);
            match random.random_range(0..100) {
                0..KEPT => answers.kept.push(result),
                nth => {
                    answers.report(&result).await;
                    if nth % 2 == 0 {
                        answers.report(&result).await;
                    }
                    answers.sent.push(result);
                }
            }
        }
    }
    answers
}

/// Calls until there is an answer: nobody tells when a killed service is back.
async fn answer<T, F>(mut call: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<Response<T>, Status>>,
{
    let answered = async {
        loop {
            match call().await {
                Ok(answer) => return answer.into_inner(),
                Err(_) => sleep(PAUSE).await,
            }
        }
    };
    timeout(PATIENCE, answered).await.expect("the mesh answers in time")
}

/// Opens a session each time, and never comes back to it.
fn poll() -> PollStepsRequest {
    PollStepsRequest {
        worker_id: "careless".to_owned(),
        namespaces: vec![NAMESPACE.to_owned()],
        handlers: vec!["follow".to_owned()],
        max_steps: MOST,
        wait: Some(prost_types::Duration { seconds: 0, nanos: 200_000_000 }),
        ..PollStepsRequest::default()
    }
}

fn result_of(delivery: Delivery) -> StepResult {
    let token = delivery.delivery_token.clone();
    let step = StepContext::new(delivery);
    let result = StepResult { delivery_token: token, ..StepResult::default() };
    match script_turn(&step).expect("every step has a script") {
        Turn::Page(progress) => {
            let checkpoint = Checkpoint::at(&progress).expect("it can be written").into();
            let yielded = StepYield { checkpoint: Some(checkpoint), ..StepYield::default() };
            StepResult { outcome: Some(Outcome::Yielded(yielded)), ..result }
        }
        Turn::Good(output) => StepResult {
            outcome: Some(Outcome::Success(output.payload().clone())),
            expansion: output.expansion().cloned(),
            ..result
        },
        Turn::Bad(error) => StepResult {
            outcome: Some(Outcome::Failure(StepError::from(error))),
            retry_after: retry_after(&step),
            ..result
        },
    }
}

fn retry_after(step: &StepContext) -> Option<prost_types::Duration> {
    match script_line(step).expect("every attempt has a line").end {
        End::Retryable { retry_after_ms } => {
            let wait = Duration::from_millis(retry_after_ms);
            Some(wait.try_into().expect("it is short"))
        }
        End::Success | End::Misfit | End::Permanent => None,
    }
}

impl Answers {
    /// Sends a result until somebody says what became of it.
    async fn report(&mut self, result: &StepResult) -> ResultVerdict {
        let answered = answer(|| {
            let mut worker = self.worker.clone();
            let report = ReportResultsRequest { results: vec![result.clone()] };
            async move { worker.report_results(report).await }
        });
        let verdict = answered.await.verdicts[0].verdict();
        if verdict == ResultVerdict::Committed {
            *self.committed.entry(result.delivery_token.clone()).or_default() += 1;
        }
        verdict
    }

    /// Sends everything again after the end, and what it has kept, and checks that nothing was taken
    /// twice or late. Returns how many results it has sent.
    pub(super) async fn come_to_nothing(mut self) -> usize {
        for late in std::mem::take(&mut self.kept) {
            assert_eq!(self.report(&late).await, ResultVerdict::LeaseLost, "{late:?}");
            self.sent.push(late);
        }
        for again in self.sent.chunks(AT_ONCE) {
            let answered = answer(|| {
                let mut worker = self.worker.clone();
                let report = ReportResultsRequest { results: again.to_vec() };
                async move { worker.report_results(report).await }
            });
            for verdict in answered.await.verdicts {
                assert_ne!(verdict.verdict(), ResultVerdict::Committed, "{verdict:?}");
            }
        }
        assert!(self.committed.values().all(|times| *times == 1), "{:?}", self.committed);
        self.committed.len()
    }
}
