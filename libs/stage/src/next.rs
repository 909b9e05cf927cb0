//! The stages that others call.

use tasker_api::mesh::v1::{
    EnqueueReadyStepsRequest, FinalizeTasksRequest,
    finalizer_service_client::FinalizerServiceClient,
    step_enqueuer_service_client::StepEnqueuerServiceClient,
};
use tasker_runtime::{
    config::{Error, Mesh},
    mesh,
};
use tasker_store::{Finalization, ReadyStep};
use tokio_util::sync::CancellationToken;

use crate::{Hints, wire};

/// Tells step-enqueuer of ready steps.
///
/// # Errors
/// The endpoints are none.
pub fn step_enqueuer(config: &Mesh, drain: &CancellationToken) -> Result<Hints<ReadyStep>, Error> {
    let channel = mesh::channel("step-enqueuer", &config.step_enqueuer, drain)?;
    let client = StepEnqueuerServiceClient::new(channel);
    if !config.makes_calls() {
        return Ok(Hints::silent());
    }
    Ok(Hints::new(move |steps: Vec<ReadyStep>| {
        let mut client = client.clone();
        async move {
            let steps = steps.into_iter().map(wire::ready_step).collect();
            client.enqueue_ready_steps(EnqueueReadyStepsRequest { steps }).await.map(|_| ())
        }
    }))
}

/// Tells finalizer of tasks in which nothing moves any more.
///
/// # Errors
/// The endpoints are none.
pub fn finalizer(config: &Mesh, drain: &CancellationToken) -> Result<Hints<Finalization>, Error> {
    let channel = mesh::channel("finalizer", &config.finalizer, drain)?;
    let client = FinalizerServiceClient::new(channel);
    if !config.makes_calls() {
        return Ok(Hints::silent());
    }
    Ok(Hints::new(move |finalizations: Vec<Finalization>| {
        let mut client = client.clone();
        async move {
            let finalizations = finalizations.into_iter().map(wire::finalization).collect();
            client.finalize_tasks(FinalizeTasksRequest { finalizations }).await.map(|_| ())
        }
    }))
}
