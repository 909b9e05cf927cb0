//! `tasker.mesh.v1.StepEnqueuerService`: decodes, calls the verb, encodes.

use tasker_api::mesh::v1::{
    EnqueueReadyStepsRequest, EnqueueReadyStepsResponse,
    step_enqueuer_service_server::StepEnqueuerService,
};
use tasker_stack::{gather::Gather, sweep::Wake};
use tasker_stage::{refused, wire, work_off};
use tasker_store::{Store, StoreError};
use tonic::{Request, Response, Status};

use crate::enqueue_steps::EnqueueSteps;

/// What is read where no call came.
pub const QUEUE: &str = "orchestration_ready_steps";

/// The service's answers.
pub struct ReadySteps {
    pub steps: Gather<EnqueueSteps>,
    /// Has the queue read.
    pub wake: Wake,
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
