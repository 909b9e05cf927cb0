//! A service behind the gateway, which tells what it sees.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures::{Stream, StreamExt as _, stream};
use tasker_api::v1::{
    self, task_service_server::TaskService, work_request, work_response,
    worker_service_server::WorkerService,
};
use tokio::sync::mpsc::UnboundedSender;
use tonic::{Code, Request, Response, Status, Streaming, metadata::MetadataMap};
use tonic_types::{ErrorDetails, StatusExt as _};

/// What happened at the service.
#[derive(Debug)]
pub(super) enum Seen {
    Called(MetadataMap),
    /// A call ended before the service was done with it.
    Dropped,
}

/// Answers `CreateTask` with its request id, unless that is `refused`; waits for ever in
/// `WaitForTask`; sends one event in `WatchTask`, then none; answers each ping in `Work`.
#[derive(Clone)]
pub(super) struct Fake {
    pub(super) seen: UnboundedSender<Seen>,
}

impl Fake {
    fn called<T>(&self, request: &Request<T>) {
        self.seen.send(Seen::Called(request.metadata().clone())).ok();
    }

    fn until_dropped(&self) -> UntilDropped {
        UntilDropped(self.seen.clone())
    }
}

struct UntilDropped(UnboundedSender<Seen>);

impl Drop for UntilDropped {
    fn drop(&mut self) {
        self.0.send(Seen::Dropped).ok();
    }
}

impl Stream for UntilDropped {
    type Item = Result<v1::WatchTaskResponse, Status>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Pending
    }
}

#[tonic::async_trait]
impl TaskService for Fake {
    type WatchTaskStream =
        Pin<Box<dyn Stream<Item = Result<v1::WatchTaskResponse, Status>> + Send>>;

    async fn create_task(
        &self,
        request: Request<v1::CreateTaskRequest>,
    ) -> Result<Response<v1::CreateTaskResponse>, Status> {
        self.called(&request);
        let task_id = request.into_inner().request_id;
        if task_id == "refused" {
            let details = ErrorDetails::with_bad_request_violation("template.name", "is empty");
            return Err(Status::with_error_details(
                Code::InvalidArgument,
                "a bad request",
                details,
            ));
        }
        let mut response = Response::new(v1::CreateTaskResponse { task_id, template: None });
        response.metadata_mut().insert("answered-by", "fake".parse().unwrap());
        Ok(response)
    }

    async fn wait_for_task(
        &self,
        request: Request<v1::WaitForTaskRequest>,
    ) -> Result<Response<v1::WaitForTaskResponse>, Status> {
        let _guard = self.until_dropped();
        self.called(&request);
        std::future::pending().await
    }

    async fn watch_task(
        &self,
        request: Request<v1::WatchTaskRequest>,
    ) -> Result<Response<Self::WatchTaskStream>, Status> {
        self.called(&request);
        let event = v1::WatchTaskResponse { cursor: "1".to_owned(), ..Default::default() };
        Ok(Response::new(stream::iter([Ok(event)]).chain(self.until_dropped()).boxed()))
    }

    async fn get_task(
        &self,
        _: Request<v1::GetTaskRequest>,
    ) -> Result<Response<v1::GetTaskResponse>, Status> {
        Err(Status::not_found("no such task"))
    }

    async fn list_tasks(
        &self,
        _: Request<v1::ListTasksRequest>,
    ) -> Result<Response<v1::ListTasksResponse>, Status> {
        Ok(Response::new(Default::default()))
    }

    async fn cancel_task(
        &self,
        _: Request<v1::CancelTaskRequest>,
    ) -> Result<Response<v1::CancelTaskResponse>, Status> {
        Err(Status::unimplemented("not asked for here"))
    }

    async fn pause_task(
        &self,
        _: Request<v1::PauseTaskRequest>,
    ) -> Result<Response<v1::PauseTaskResponse>, Status> {
        Err(Status::unimplemented("not asked for here"))
    }

    async fn resume_task(
        &self,
        _: Request<v1::ResumeTaskRequest>,
    ) -> Result<Response<v1::ResumeTaskResponse>, Status> {
        Err(Status::unimplemented("not asked for here"))
    }

    async fn list_transitions(
        &self,
        _: Request<v1::ListTransitionsRequest>,
    ) -> Result<Response<v1::ListTransitionsResponse>, Status> {
        Err(Status::unimplemented("not asked for here"))
    }

    async fn resolve_task(
        &self,
        _: Request<v1::ResolveTaskRequest>,
    ) -> Result<Response<v1::ResolveTaskResponse>, Status> {
        Err(Status::unimplemented("not asked for here"))
    }

    async fn give_up_task(
        &self,
        _: Request<v1::GiveUpTaskRequest>,
    ) -> Result<Response<v1::GiveUpTaskResponse>, Status> {
        Err(Status::unimplemented("not asked for here"))
    }

    async fn rerun_task(
        &self,
        _: Request<v1::RerunTaskRequest>,
    ) -> Result<Response<v1::RerunTaskResponse>, Status> {
        Err(Status::unimplemented("not asked for here"))
    }
}

#[tonic::async_trait]
impl WorkerService for Fake {
    type WorkStream = Pin<Box<dyn Stream<Item = Result<v1::WorkResponse, Status>> + Send>>;

    async fn work(
        &self,
        request: Request<Streaming<v1::WorkRequest>>,
    ) -> Result<Response<Self::WorkStream>, Status> {
        self.called(&request);
        let pongs = request.into_inner().filter_map(|message| async {
            match message.ok()?.message? {
                work_request::Message::Ping(v1::Ping { sequence }) => {
                    let pong = work_response::Message::Pong(v1::Pong { sequence });
                    Some(Ok(v1::WorkResponse { message: Some(pong) }))
                }
                _ => None,
            }
        });
        Ok(Response::new(pongs.boxed()))
    }

    async fn poll_steps(
        &self,
        _: Request<v1::PollStepsRequest>,
    ) -> Result<Response<v1::PollStepsResponse>, Status> {
        Ok(Response::new(Default::default()))
    }

    async fn report_results(
        &self,
        _: Request<v1::ReportResultsRequest>,
    ) -> Result<Response<v1::ReportResultsResponse>, Status> {
        Ok(Response::new(Default::default()))
    }

    async fn save_progress(
        &self,
        _: Request<v1::SaveProgressRequest>,
    ) -> Result<Response<v1::SaveProgressResponse>, Status> {
        Ok(Response::new(Default::default()))
    }

    async fn renew_leases(
        &self,
        _: Request<v1::RenewLeasesRequest>,
    ) -> Result<Response<v1::RenewLeasesResponse>, Status> {
        Ok(Response::new(Default::default()))
    }
}
