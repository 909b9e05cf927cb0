//! A TaskService that answers from a script, at a port of its own.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
};

use futures::Stream;
use tasker_client::v1::{
    CancelTaskRequest, CancelTaskResponse, CreateTaskRequest, CreateTaskResponse, GetTaskRequest,
    GetTaskResponse, GiveUpTaskRequest, GiveUpTaskResponse, ListTasksRequest, ListTasksResponse,
    ListTransitionsRequest, ListTransitionsResponse, PauseTaskRequest, PauseTaskResponse,
    RerunTaskRequest, RerunTaskResponse, ResolveTaskRequest, ResolveTaskResponse,
    ResumeTaskRequest, ResumeTaskResponse, WaitForTaskRequest, WaitForTaskResponse,
    WatchTaskRequest, WatchTaskResponse,
    task_service_server::{TaskService, TaskServiceServer},
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, metadata::MetadataMap, transport::Server};

type Events = Vec<Result<WatchTaskResponse, Status>>;

/// What each method answers, call by call. A call beyond the script fails.
#[derive(Default)]
pub(crate) struct Script {
    pub(crate) creates: VecDeque<Result<CreateTaskResponse, Status>>,
    pub(crate) lists: VecDeque<Result<ListTasksResponse, Status>>,
    pub(crate) waits: VecDeque<Result<WaitForTaskResponse, Status>>,
    pub(crate) watches: VecDeque<Result<Events, Status>>,
}

/// What was asked.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) creates: Vec<(MetadataMap, CreateTaskRequest)>,
    pub(crate) lists: Vec<ListTasksRequest>,
    pub(crate) waits: Vec<WaitForTaskRequest>,
    pub(crate) watches: Vec<WatchTaskRequest>,
}

#[derive(Clone, Default)]
pub(crate) struct Fake {
    script: Arc<Mutex<Script>>,
    pub(crate) seen: Arc<Mutex<Seen>>,
}

impl Fake {
    pub(crate) async fn start(script: Script) -> (Self, SocketAddr) {
        let fake = Self { script: Arc::new(Mutex::new(script)), ..Self::default() };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server::builder().add_service(TaskServiceServer::new(fake.clone()));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        (fake, address)
    }

    fn answer<T>(
        &self,
        of: impl FnOnce(&mut Script) -> &mut VecDeque<Result<T, Status>>,
    ) -> Result<T, Status> {
        let beyond = || Err(Status::failed_precondition("beyond the script"));
        of(&mut self.script.lock().unwrap()).pop_front().unwrap_or_else(beyond)
    }
}

#[tonic::async_trait]
impl TaskService for Fake {
    async fn create_task(
        &self,
        request: Request<CreateTaskRequest>,
    ) -> Result<Response<CreateTaskResponse>, Status> {
        let (metadata, _, message) = request.into_parts();
        self.seen.lock().unwrap().creates.push((metadata, message));
        self.answer(|script| &mut script.creates).map(Response::new)
    }

    async fn get_task(
        &self,
        _: Request<GetTaskRequest>,
    ) -> Result<Response<GetTaskResponse>, Status> {
        // Never answers.
        std::future::pending().await
    }

    async fn list_tasks(
        &self,
        request: Request<ListTasksRequest>,
    ) -> Result<Response<ListTasksResponse>, Status> {
        self.seen.lock().unwrap().lists.push(request.into_inner());
        self.answer(|script| &mut script.lists).map(Response::new)
    }

    async fn wait_for_task(
        &self,
        request: Request<WaitForTaskRequest>,
    ) -> Result<Response<WaitForTaskResponse>, Status> {
        self.seen.lock().unwrap().waits.push(request.into_inner());
        self.answer(|script| &mut script.waits).map(Response::new)
    }

    type WatchTaskStream = Pin<Box<dyn Stream<Item = Result<WatchTaskResponse, Status>> + Send>>;

    async fn watch_task(
        &self,
        request: Request<WatchTaskRequest>,
    ) -> Result<Response<Self::WatchTaskStream>, Status> {
        self.seen.lock().unwrap().watches.push(request.into_inner());
        let events = self.answer(|script| &mut script.watches)?;
        Ok(Response::new(Box::pin(futures::stream::iter(events))))
    }

    async fn cancel_task(
        &self,
        _: Request<CancelTaskRequest>,
    ) -> Result<Response<CancelTaskResponse>, Status> {
        Err(Status::unimplemented("not asked for here"))
    }

    async fn pause_task(
        &self,
        _: Request<PauseTaskRequest>,
    ) -> Result<Response<PauseTaskResponse>, Status> {
        Err(Status::unimplemented("not asked for here"))
    }

    async fn resume_task(
        &self,
        _: Request<ResumeTaskRequest>,
    ) -> Result<Response<ResumeTaskResponse>, Status> {
        Err(Status::unimplemented("not asked for here"))
    }

    async fn list_transitions(
        &self,
        _: Request<ListTransitionsRequest>,
    ) -> Result<Response<ListTransitionsResponse>, Status> {
        Err(Status::unimplemented("not asked for here"))
    }

    async fn resolve_task(
        &self,
        _: Request<ResolveTaskRequest>,
    ) -> Result<Response<ResolveTaskResponse>, Status> {
        Err(Status::unimplemented("not asked for here"))
    }

    async fn give_up_task(
        &self,
        _: Request<GiveUpTaskRequest>,
    ) -> Result<Response<GiveUpTaskResponse>, Status> {
        Err(Status::unimplemented("not asked for here"))
    }

    async fn rerun_task(
        &self,
        _: Request<RerunTaskRequest>,
    ) -> Result<Response<RerunTaskResponse>, Status> {
        Err(Status::unimplemented("not asked for here"))
    }
}
