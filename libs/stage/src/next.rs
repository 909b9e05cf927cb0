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
use tasker_store::{CompletedTask, Finalization, ReadyStep};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::Status;

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

/// Finalizer, as others call it.
#[derive(Debug, Clone)]
pub struct Finalizer {
    /// None where no calls are made.
    client: Option<FinalizerServiceClient<TracedBalance>>,
}

impl Finalizer {
    /// At its endpoints.
    ///
    /// # Errors
    /// The endpoints are none.
    pub fn at(config: &Mesh, drain: &CancellationToken) -> Result<Self, Error> {
        let channel = mesh::channel("finalizer", &config.finalizer, drain)?;
        let client = config.makes_calls().then(|| FinalizerServiceClient::new(channel));
        Ok(Self { client })
    }

    /// Tells it of tasks in which nothing moves any more.
    #[must_use]
    pub fn finalizations(&self) -> Hints<Finalization> {
        let Some(client) = self.client.clone() else { return Hints::silent() };
        Hints::new(move |finalizations: Vec<Finalization>| {
            let mut client = client.clone();
            async move {
                let finalizations = finalizations.into_iter().map(wire::finalization).collect();
                client.finalize_tasks(FinalizeTasksRequest { finalizations }).await.map(|_| ())
            }
        })
    }

    /// Tells it of completed tasks that a call waits for. Where it cannot be told, all replicas are, by announcement.
    /// Those of whom too many wait to be told look by themselves.
    #[must_use]
    pub fn waiters(&self, announcer: Announcer) -> Hints<CompletedTask> {
        let client = self.client.clone();
        Hints::new(move |tasks: Vec<CompletedTask>| {
            let (client, announcer) = (client.clone(), announcer.clone());
            async move {
                if !tell_waiters(client, &tasks).await {
                    announcer.rest(tasks.into_iter().map(|task| task.task_id));
                }
                Ok(())
            }
        })
    }
}

async fn tell_waiters(
    client: Option<FinalizerServiceClient<TracedBalance>>,
    tasks: &[CompletedTask],
) -> bool {
    let Some(mut client) = client else { return false };
    let task_ids = tasks.iter().map(|task| task.task_id.to_string()).collect();
    let tasks = tasks.iter().copied().map(wire::completed_task).collect();
    let told = timeout(TOLD, client.tell_waiters(TellWaitersRequest { task_ids, tasks })).await;
    let told = told.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time")));
    if let Err(status) = &told {
        tracing::debug!("who waits is told by announcement: {}", status.message());
    }
    told.is_ok()
}

#[cfg(test)]
mod tests {
    use tasker_runtime::config::DeploymentMode;
    use uuid::Uuid;

    use super::*;

    #[tokio::test]
    async fn who_waits_is_told_by_announcement_if_finalizer_cannot_be_told() {
        let listener = || std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let nobody = listener().local_addr().unwrap();
        // Connections wait there for ever.
        let silent = listener();
        for (endpoint, mode) in [
            (nobody, DeploymentMode::Hybrid),
            (silent.local_addr().unwrap(), DeploymentMode::Hybrid),
            (nobody, DeploymentMode::PollingOnly),
        ] {
            let config = Mesh { finalizer: vec![endpoint.to_string()], mode, ..Mesh::default() };
            let finalizer = Finalizer::at(&config, &CancellationToken::new()).unwrap();
            let (announcer, task_id) = (Announcer::unheard(), Uuid::now_v7());
            let ended_at = Default::default();
            let task = CompletedTask { task_id, ended_at, steps: 1, paused: false };
            finalizer.waiters(announcer.clone()).tell([task]);
            let tasks = timeout(10 * TOLD, announcer.next()).await.expect("it is announced").tasks;
            assert!(tasks.into_iter().eq([task_id]));
        }
    }
}
