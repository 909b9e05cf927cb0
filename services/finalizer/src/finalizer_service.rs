//! `tasker.mesh.v1.FinalizerService`: decodes, calls the verbs or the watch, encodes.

use std::time::Duration;

use futures::StreamExt as _;
use tasker_api::{
    Invalid, field,
    mesh::v1::{
        CancelTaskRequest, CancelTaskResponse, FinalizeTasksRequest, FinalizeTasksResponse,
        GiveUpTaskRequest, GiveUpTaskResponse, ResolveTaskRequest, ResolveTaskResponse,
        TellWaitersRequest, TellWaitersResponse, WaitForTaskRequest, WaitForTaskResponse,
        WatchTaskRequest, WatchTaskResponse, finalizer_service_server::FinalizerService,
    },
    time, v1,
};
use tasker_domain::TaskEvent;
use tasker_stack::{gather::Gather, sweep::Wake};
use tasker_stage::{refused, wire};
use tonic::{Request, Response, Status};

use crate::{endings::Endings, finalize_tasks::FinalizeTasks, watch::Watcher};

/// What an unset timeout means, and the longest.
const WAIT: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(300));

/// The service's answers.
pub struct Finalizations {
    pub tasks: Gather<FinalizeTasks>,
    /// Has the queue read.
    pub wake: Wake,
    pub watcher: Watcher,
    pub endings: Endings,
}

#[tonic::async_trait]
impl FinalizerService for Finalizations {
    async fn finalize_tasks(
        &self,
        request: Request<FinalizeTasksRequest>,
    ) -> Result<Response<FinalizeTasksResponse>, Status> {
        let finalizations = request.into_inner().finalizations;
        if finalizations.is_empty() {
            self.wake.wake();
        }
        for finalization in finalizations {
            if let Err(error) = self.tasks.submit(wire::from_finalization(finalization)?) {
                // The rest is read from the queue.
                self.wake.wake();
                return Err(refused(&error));
            }
        }
        Ok(Response::new(FinalizeTasksResponse {}))
    }

    async fn tell_waiters(
        &self,
        request: Request<TellWaitersRequest>,
    ) -> Result<Response<TellWaitersResponse>, Status> {
        let TellWaitersRequest { task_ids, tasks } = request.into_inner();
        let tasks = tasks.iter().map(wire::from_completed_task).collect::<Result<Vec<_>, _>>()?;
        if tasks.len() < task_ids.len() {
            // A result-processor of a version that does not say how they have ended: it announces them.
            return Err(Invalid::field("tasks", "one for each of task_ids").into());
        }
        self.watcher.tell(tasks).await?;
        Ok(Response::new(TellWaitersResponse {}))
    }

    type WatchTaskStream = futures::stream::BoxStream<'static, Result<WatchTaskResponse, Status>>;

    async fn watch_task(
        &self,
        request: Request<WatchTaskRequest>,
    ) -> Result<Response<Self::WatchTaskStream>, Status> {
        let events = self.watcher.watch(request.into_inner().request.unwrap_or_default()).await?;
        let events =
            events.map(|event| event.map(|event| WatchTaskResponse { event: Some(event) }));
        Ok(Response::new(events.boxed()))
    }

    async fn wait_for_task(
        &self,
        request: Request<WaitForTaskRequest>,
    ) -> Result<Response<WaitForTaskResponse>, Status> {
        let request = request.into_inner().request.unwrap_or_default();
        let task = field::task_id(&request.task_id)?;
        let bound = match request.timeout {
            None => WAIT.0,
            some => time::from_duration("timeout", some)?,
        };
        if bound > WAIT.1 {
            return Err(Invalid::field("timeout", "give at most 5 min, and call again").into());
        }
        let row = self.watcher.wait(task, bound).await?;
        let task = Some(wire::task(row));
        let response = Some(v1::WaitForTaskResponse { task });
        Ok(Response::new(WaitForTaskResponse { response }))
    }

    async fn cancel_task(
        &self,
        request: Request<CancelTaskRequest>,
    ) -> Result<Response<CancelTaskResponse>, Status> {
        let v1::CancelTaskRequest { task_id, operator, reason } =
            request.into_inner().request.unwrap_or_default();
        let task = self.endings.end(TaskEvent::Cancel, &task_id, operator, reason).await?;
        let response = Some(v1::CancelTaskResponse { task: Some(task) });
        Ok(Response::new(CancelTaskResponse { response }))
    }

    async fn resolve_task(
        &self,
        request: Request<ResolveTaskRequest>,
    ) -> Result<Response<ResolveTaskResponse>, Status> {
        let v1::ResolveTaskRequest { task_id, operator, reason } =
            request.into_inner().request.unwrap_or_default();
        let task =
            self.endings.end(TaskEvent::ManualResolution, &task_id, operator, reason).await?;
        let response = Some(v1::ResolveTaskResponse { task: Some(task) });
        Ok(Response::new(ResolveTaskResponse { response }))
    }

    async fn give_up_task(
        &self,
        request: Request<GiveUpTaskRequest>,
    ) -> Result<Response<GiveUpTaskResponse>, Status> {
        let v1::GiveUpTaskRequest { task_id, operator, reason } =
            request.into_inner().request.unwrap_or_default();
        let task = self.endings.end(TaskEvent::GiveUp, &task_id, operator, reason).await?;
        let response = Some(v1::GiveUpTaskResponse { task: Some(task) });
        Ok(Response::new(GiveUpTaskResponse { response }))
    }
}
