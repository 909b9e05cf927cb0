//! `tasker.v1.TaskService`: decodes, calls the verb or the read, encodes.

use futures::StreamExt as _;
use tasker_api::{
    Invalid, field,
    mesh::{self, v1::finalizer_service_client::FinalizerServiceClient},
    page, states, status, time,
    v1::{
        CancelTaskRequest, CancelTaskResponse, CreateTaskRequest, CreateTaskResponse,
        GetTaskRequest, GetTaskResponse, GiveUpTaskRequest, GiveUpTaskResponse, ListTasksRequest,
        ListTasksResponse, ListTransitionsRequest, ListTransitionsResponse, PauseTaskRequest,
        PauseTaskResponse, RerunTaskRequest, RerunTaskResponse, ResolveTaskRequest,
        ResolveTaskResponse, ResumeTaskRequest, ResumeTaskResponse, Task, TemplateRef,
        WaitForTaskRequest, WaitForTaskResponse, WatchTaskRequest, WatchTaskResponse,
        task_service_server::TaskService,
    },
};
use tasker_domain::{TaskId, Template};
use tasker_runtime::mesh::TracedBalance;
use tasker_stack::gather::{Gather, Refused};
use tasker_stage::{Database, refused, store_error, wire};
use tasker_store::{ByHand, TaskFilter};
use tasker_trace::TraceContext;
use tonic::{Code, Request, Response, Status};
use tracing::{Instrument as _, Span};

use crate::{
    backlog::Backlog,
    create_tasks::{CreateTasks, Outcome},
    history,
    pauses::{self, Pauses},
    repeats::Repeats,
    reruns::Reruns,
    resolve,
};

/// How often a request is tried while newer versions of its template come in between.
pub const TRIES: u32 = 5;

/// The service's answers about tasks.
pub struct Tasks {
    pub database: Database,
    pub backlog: Backlog,
    pub births: Gather<CreateTasks>,
    pub repeats: Repeats,
    pub pauses: Pauses,
    pub reruns: Reruns,
    /// Watches tasks, and ends them.
    pub finalizer: FinalizerServiceClient<TracedBalance>,
}

#[tonic::async_trait]
impl TaskService for Tasks {
    async fn create_task(
        &self,
        request: Request<CreateTaskRequest>,
    ) -> Result<Response<CreateTaskResponse>, Status> {
        // The whole task is one trace, and begins here.
        let span = tracing::info_span!(
            "task.create",
            task.id = tracing::field::Empty,
            namespace = tracing::field::Empty
        );
        let caller = TraceContext::from_headers(&request.metadata().clone().into_headers());
        let trace = caller.or_of(&span);
        self.create(request.into_inner(), trace).instrument(span).await.map(Response::new)
    }

    async fn get_task(
        &self,
        request: Request<GetTaskRequest>,
    ) -> Result<Response<GetTaskResponse>, Status> {
        let id = field::task_id(&request.into_inner().task_id)?;
        let store = &self.database.store;
        let (row, details) = tokio::try_join!(store.task(id), store.task_details(id))
            .inspect_err(|error| self.database.noticed(error))
            .map_err(|error| store_error(&error))?;
        let (Some(row), Some(details)) = (row, details) else {
            return Err(status::not_found("task", &id.to_string()));
        };
        Ok(Response::new(GetTaskResponse { task: Some(wire::task_with_details(row, details)) }))
    }

    async fn list_tasks(
        &self,
        request: Request<ListTasksRequest>,
    ) -> Result<Response<ListTasksResponse>, Status> {
        let request = request.into_inner();
        let mut invalid = Invalid::new();
        let size = invalid.take(page::size(request.page_size));
        let after = invalid.take(
            page::key::<1>(&request.page_token)
                .and_then(|key| key.map(|[id]| field::id("page_token", &id)).transpose()),
        );
        let read_time = |path: &str, time: Option<_>| {
            time.map(|time| time::from_timestamp(path, time)).transpose()
        };
        let states = invalid.take(states::task_states("states", &request.states));
        let created_after = invalid.take(read_time("created_after", request.created_after));
        let created_before = invalid.take(read_time("created_before", request.created_before));
        let filters = [
            ("namespace", &request.namespace),
            ("name", &request.name),
            ("version", &request.version),
            ("correlation_id", &request.correlation_id),
        ];
        for (path, filter) in filters {
            invalid.take(field::text(path, filter.clone(), 128));
        }
        invalid.clone().check()?;
        let filter = TaskFilter {
            namespace: request.namespace,
            name: request.name,
            version: request.version,
            states: states.unwrap_or_default(),
            created_after: created_after.flatten(),
            created_before: created_before.flatten(),
            correlation_id: request.correlation_id,
        };
        let size = size.expect("a wrong size is a violation");
        let rows = self.database.store.list_tasks(&filter, after.flatten(), size + 1).await;
        let mut rows = rows
            .inspect_err(|error| self.database.noticed(error))
            .map_err(|error| store_error(&error))?;
        let more = rows.len() > usize::try_from(size).expect("a page is small");
        rows.truncate(usize::try_from(size).expect("a page is small"));
        let last = rows.last().filter(|_| more);
        let next_page_token =
            last.map(|row| page::token(&[&row.task_id.to_string()])).unwrap_or_default();
        let tasks = rows.into_iter().map(wire::task).collect();
        Ok(Response::new(ListTasksResponse { tasks, next_page_token }))
    }

    async fn list_transitions(
        &self,
        request: Request<ListTransitionsRequest>,
    ) -> Result<Response<ListTransitionsResponse>, Status> {
        history::list(&self.database, request.into_inner()).await.map(Response::new)
    }

    async fn wait_for_task(
        &self,
        request: Request<WaitForTaskRequest>,
    ) -> Result<Response<WaitForTaskResponse>, Status> {
        let request =
            request.map(|request| mesh::v1::WaitForTaskRequest { request: Some(request) });
        let answer = self.finalizer.clone().wait_for_task(request).await?.into_inner();
        Ok(Response::new(answer.response.unwrap_or_default()))
    }

    type WatchTaskStream = futures::stream::BoxStream<'static, Result<WatchTaskResponse, Status>>;

    async fn watch_task(
        &self,
        request: Request<WatchTaskRequest>,
    ) -> Result<Response<Self::WatchTaskStream>, Status> {
        let request = request.map(|request| mesh::v1::WatchTaskRequest { request: Some(request) });
        let events = self.finalizer.clone().watch_task(request).await?.into_inner();
        let events = events.map(|event| event.map(|event| event.event.unwrap_or_default()));
        Ok(Response::new(events.boxed()))
    }

    async fn pause_task(
        &self,
        request: Request<PauseTaskRequest>,
    ) -> Result<Response<PauseTaskResponse>, Status> {
        let PauseTaskRequest { task_id, operator, reason } = request.into_inner();
        let (task, by) = task_by_hand(&task_id, operator, reason)?;
        self.pauses.pause_task(task, &by).await?;
        Ok(Response::new(PauseTaskResponse { task: Some(self.stands(task).await?) }))
    }

    async fn resume_task(
        &self,
        request: Request<ResumeTaskRequest>,
    ) -> Result<Response<ResumeTaskResponse>, Status> {
        let ResumeTaskRequest { task_id, operator, reason } = request.into_inner();
        let (task, by) = task_by_hand(&task_id, operator, reason)?;
        self.pauses.resume_task(task, &by).await?;
        Ok(Response::new(ResumeTaskResponse { task: Some(self.stands(task).await?) }))
    }

    async fn cancel_task(
        &self,
        request: Request<CancelTaskRequest>,
    ) -> Result<Response<CancelTaskResponse>, Status> {
        let request = request.map(|request| mesh::v1::CancelTaskRequest { request: Some(request) });
        let answer = self.finalizer.clone().cancel_task(request).await?.into_inner();
        Ok(Response::new(answer.response.unwrap_or_default()))
    }

    async fn rerun_task(
        &self,
        request: Request<RerunTaskRequest>,
    ) -> Result<Response<RerunTaskResponse>, Status> {
        // A new task, and so a new trace.
        let span = tracing::info_span!("task.rerun", task.id = request.get_ref().task_id);
        let caller = TraceContext::from_headers(&request.metadata().clone().into_headers());
        let trace = caller.or_of(&span);
        self.reruns.rerun(request.into_inner(), trace).instrument(span).await.map(Response::new)
    }

    async fn resolve_task(
        &self,
        request: Request<ResolveTaskRequest>,
    ) -> Result<Response<ResolveTaskResponse>, Status> {
        let request =
            request.map(|request| mesh::v1::ResolveTaskRequest { request: Some(request) });
        let answer = self.finalizer.clone().resolve_task(request).await?.into_inner();
        Ok(Response::new(answer.response.unwrap_or_default()))
    }

    async fn give_up_task(
        &self,
        request: Request<GiveUpTaskRequest>,
    ) -> Result<Response<GiveUpTaskResponse>, Status> {
        let request = request.map(|request| mesh::v1::GiveUpTaskRequest { request: Some(request) });
        let answer = self.finalizer.clone().give_up_task(request).await?.into_inner();
        Ok(Response::new(answer.response.unwrap_or_default()))
    }
}

/// Which task somebody means, who it is, and why.
fn task_by_hand(
    task_id: &str,
    operator: String,
    reason: String,
) -> Result<(TaskId, ByHand), Invalid> {
    let mut invalid = Invalid::new();
    let task = invalid.take(field::task_id(task_id));
    let by = invalid.take(pauses::by_hand(operator, reason));
    task.zip(by).ok_or(invalid)
}

impl Tasks {
    async fn create(
        &self,
        request: CreateTaskRequest,
        trace: TraceContext,
    ) -> Result<CreateTaskResponse, Status> {
        for _ in 0..TRIES {
            let found = resolve::template(&self.database, request.template.clone()).await?;
            let task = resolve::request(&found, request.clone(), trace.clone());
            let task = task.map_err(Status::from).and_then(|task| {
                self.backlog.admit(&found.template.namespace, self.births.waiting())?;
                Ok(task)
            });
            let task = match task {
                Ok(task) => task,
                Err(why) => return self.known_or(&request.request_id, why).await,
            };
            let task_id = task.task_id;
            Span::current().record("task.id", tracing::field::display(task_id));
            Span::current().record("namespace", &found.template.namespace);
            let mut answers = self.births.call([task]).await;
            let outcome = answers.pop().unwrap_or(Err(Refused::Closed));
            return match outcome.map_err(|error| refused(&error))? {
                Outcome::Born => Ok(born(task_id, &found.template)),
                Outcome::Repeated(task_id) => self.first_answer(task_id).await,
                Outcome::Exists(task_id) => Err(exists(task_id)),
                Outcome::Unsettled | Outcome::Gone => {
                    self.database.store.forget_template_name(&found.name).await;
                    continue;
                }
            };
        }
        Err(status::with_reason(
            Code::Unavailable,
            "TEMPLATE_CHANGES",
            [],
            "a newer version of the template came with each try: try again",
        ))
    }

    /// What cannot be a task now may have been one when it was first asked for: the newest version may ask
    /// for more since, and the backlog may be longer.
    async fn known_or(&self, request_id: &str, why: Status) -> Result<CreateTaskResponse, Status> {
        match self.repeats.of(request_id).await.map_err(|error| refused(&error))? {
            Some(task) => self.first_answer(task).await,
            None => Err(why),
        }
    }

    /// A repeat is told what the first try was: the newest version may be another one since.
    async fn first_answer(&self, task: TaskId) -> Result<CreateTaskResponse, Status> {
        let template = self.stands(task).await?.template;
        Ok(CreateTaskResponse { task_id: task.to_string(), template })
    }

    /// A task as it stands, without its details.
    async fn stands(&self, task: TaskId) -> Result<Task, Status> {
        let row = self.database.store.task(task).await;
        let row = row
            .inspect_err(|error| self.database.noticed(error))
            .map_err(|error| store_error(&error))?;
        row.map(wire::task).ok_or_else(|| status::not_found("task", &task.to_string()))
    }
}

fn born(task_id: TaskId, template: &Template) -> CreateTaskResponse {
    let Template { namespace, name, version, .. } = template;
    let (namespace, name, version) = (namespace.clone(), name.clone(), version.to_string());
    CreateTaskResponse {
        task_id: task_id.to_string(),
        template: Some(TemplateRef { namespace, name, version }),
    }
}

fn exists(task_id: TaskId) -> Status {
    status::with_reason(
        Code::AlreadyExists,
        "TASK_EXISTS",
        [("task_id", task_id.to_string())],
        format!("this task was submitted before: it is {task_id}"),
    )
}
