//! The stages that others call.

use std::time::Duration;

use tasker_api::mesh::v1::{
    EnqueueReadyStepsRequest, FinalizeTasksRequest, TellWaitersRequest,
    finalizer_service_client::FinalizerServiceClient,
    step_enqueuer_service_client::StepEnqueuerServiceClient,
};
use tasker_runtime::{
    config::{Error, Mesh},
    mesh::{self, TracedBalance},
};
use tasker_store::{Announcement, Finalization, ReadyStep};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{Announcer, Hints, wire};

/// How long a call that tells waiters may take: longer, and an announcement is the shorter way.
const TOLD: Duration = Duration::from_millis(500);

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

/// Tells finalizer of tasks at rest that a call waits for. Where it cannot be told, all replicas are, by
/// announcement.
///
/// # Errors
/// The endpoints are none.
pub fn waiters(
    config: &Mesh,
    drain: &CancellationToken,
    announcer: Announcer,
) -> Result<Hints<Uuid>, Error> {
    let channel = mesh::channel("finalizer", &config.finalizer, drain)?;
    let client = config.makes_calls().then(|| FinalizerServiceClient::new(channel));
    Ok(Hints::new(move |tasks: Vec<Uuid>| {
        let (client, announcer) = (client.clone(), announcer.clone());
        async move {
            if tasks.is_empty() {
                // There were too many to be named.
                announcer.announce(Announcement { everything: true, ..Announcement::default() });
            } else if !tell_waiters(client, &tasks).await {
                announcer.rest(tasks);
            }
            Ok(())
        }
    }))
}

async fn tell_waiters(
    client: Option<FinalizerServiceClient<TracedBalance>>,
    tasks: &[Uuid],
) -> bool {
    let Some(mut client) = client else { return false };
    let task_ids = tasks.iter().map(Uuid::to_string).collect();
    let told = timeout(TOLD, client.tell_waiters(TellWaitersRequest { task_ids })).await;
    told.is_ok_and(|told| told.is_ok())
}
