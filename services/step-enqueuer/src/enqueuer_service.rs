//! `tasker.mesh.v1.StepEnqueuerService`: decodes, calls the verb, encodes.

use std::time::Duration;

use futures::{Stream, StreamExt as _, stream::BoxStream};
use tasker_api::{
    Invalid,
    mesh::v1::{
        EnqueueReadyStepsRequest, EnqueueReadyStepsResponse, StartFirstStepsRequest,
        StartFirstStepsResponse, start_first_steps_request::Message,
        step_enqueuer_service_server::StepEnqueuerService,
    },
};
use tasker_stack::{gather::Gather, sweep::Wake};
use tasker_stage::{refused, store_error, wire, work_off};
use tasker_store::{Store, StoreError};
use tokio::time::timeout;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    deliver::Deliveries,
    enqueue_steps::EnqueueSteps,
    first::{self, Newborn},
    next::Next,
};

/// What is read where no call came.
pub const QUEUE: &str = "orchestration_ready_steps";

/// How long places are kept for tasks that are being born: longer than three tries of a statement that meets
/// its time-out.
const BIRTH: Duration = Duration::from_secs(120);

/// The service's answers.
pub struct ReadySteps {
    pub steps: Gather<EnqueueSteps>,
    /// Has the queue read.
    pub wake: Wake,
    pub deliveries: Deliveries,
}

#[tonic::async_trait]
impl StepEnqueuerService for ReadySteps {
    async fn enqueue_ready_steps(
        &self,
        request: Request<EnqueueReadyStepsRequest>,
    ) -> Result<Response<EnqueueReadyStepsResponse>, Status> {
        let steps = request.into_inner().steps;
        if steps.is_empty() {
            self.wake.wake();
        }
        for step in steps {
            if let Err(error) = self.steps.submit(wire::from_ready_step(step)?) {
                // The rest is read from the queue.
                self.wake.wake();
                return Err(refused(&error));
            }
        }
        Ok(Response::new(EnqueueReadyStepsResponse {}))
    }

    type StartFirstStepsStream = BoxStream<'static, Result<StartFirstStepsResponse, Status>>;

    async fn start_first_steps(
        &self,
        request: Request<Streaming<StartFirstStepsRequest>>,
    ) -> Result<Response<Self::StartFirstStepsStream>, Status> {
        let mut asked = request.into_inner();
        let first = asked.message().await?.and_then(|request| request.message);
        let Some(Message::Tasks(tasks)) = first else {
            return Err(Invalid::field("tasks", "send the tasks first").into());
        };
        let tasks: Result<Vec<Newborn>, _> =
            tasks.tasks.into_iter().map(Newborn::try_from).collect();
        let kept = first::keep_places(&self.deliveries, tasks?).await.map_err(|error| {
            self.deliveries.database.noticed(&error);
            store_error(&error)
        })?;
        let answer = StartFirstStepsResponse { places: first::by_task(&kept) };
        let answers =
            futures::stream::once(async move { Ok(answer) }).chain(delivered(kept, asked));
        Ok(Response::new(answers.boxed()))
    }
}

/// Ends when what has begun is delivered. Dropped before, it gives the places back.
fn delivered(
    mut kept: Next,
    mut asked: Streaming<StartFirstStepsRequest>,
) -> impl Stream<Item = Result<StartFirstStepsResponse, Status>> {
    let deliver = async move {
        let second = timeout(BIRTH, asked.message()).await;
        let Ok(Ok(Some(StartFirstStepsRequest { message: Some(Message::Started(started)) }))) =
            second
        else {
            return;
        };
        kept.begin(&mut first::by_delivery(started));
        kept.deliver().await;
    };
    futures::stream::once(deliver).filter_map(|()| async { None })
}

/// Works off one batch of the queue. Says whether there may be more.
pub async fn read(
    store: &Store,
    steps: &Gather<EnqueueSteps>,
    batch: usize,
) -> Result<bool, StoreError> {
    let items = store.read_ready_steps(i32::try_from(batch).unwrap_or(i32::MAX)).await?;
    let full = items.len() == batch;
    let items = items.into_iter().map(|item| (item.message_id, item)).collect();
    Ok(work_off(store, QUEUE, items, steps).await?.all_well && full)
}
