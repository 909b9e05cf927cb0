//! Tasks: submit, read, list, wait.

use std::time::Duration;

use futures::Stream;
use tasker_api::v1::{
    CreateTaskRequest, CreateTaskResponse, GetTaskRequest, ListTasksRequest, ListTasksResponse,
    PauseTaskRequest, ResumeTaskRequest, Task, WaitForTaskRequest,
    task_service_client::TaskServiceClient,
};
use tokio::time::Instant;
use tonic::{Status, transport::Channel};
use uuid::Uuid;

use crate::{
    client::{Client, LARGEST_MESSAGE},
    error::Error,
    pages,
    progress::has_settled,
    repairs::Operator,
};

/// Asked for in one call of WaitForTask: short enough for proxies that close what seems idle.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// For the answer to come back after the server's wait.
const SLACK: Duration = Duration::from_secs(5);

pub(crate) fn tasks(channel: Channel) -> TaskServiceClient<Channel> {
    TaskServiceClient::new(channel).max_decoding_message_size(LARGEST_MESSAGE)
}

impl Client {
    /// Makes a task from a template; returns when it is durable.
    ///
    /// Safe to try again: the submission is named by its `request_id`, a new UUIDv7 if there is none.
    ///
    /// # Errors
    /// `NotFound`: no such template or version. `AlreadyExists`: submitted before, by the template's
    /// identity strategy; the failure's metadata names the `task_id`. `InvalidArgument`: see
    /// [`Error::violations`].
    pub async fn create_task(
        &self,
        task: impl Into<CreateTaskRequest>,
    ) -> Result<CreateTaskResponse, Error> {
        let mut task = task.into();
        if task.request_id.is_empty() {
            task.request_id = Uuid::now_v7().to_string();
        }
        self.call(task, |to, task| async move { tasks(to).create_task(task).await }).await
    }

    /// Returns one task, with its context.
    ///
    /// # Errors
    /// `NotFound`: no such task.
    pub async fn get_task(&self, task_id: &str) -> Result<Task, Error> {
        let request = GetTaskRequest { task_id: task_id.into() };
        let answer =
            self.call(request, |to, request| async move { tasks(to).get_task(request).await });
        answer.await?.task.ok_or_else(no_task)
    }

    /// Streams the tasks that `filter` describes, newest first, page by page.
    pub fn list_tasks(
        &self,
        filter: ListTasksRequest,
    ) -> impl Stream<Item = Result<Task, Error>> + Send + use<> {
        let client = self.clone();
        pages::items(move |page_token| {
            let (client, request) =
                (client.clone(), ListTasksRequest { page_token, ..filter.clone() });
            async move {
                let page = client.list_tasks_page(request).await?;
                Ok((page.tasks, page.next_page_token))
            }
        })
    }

    /// Returns one page of tasks.
    ///
    /// # Errors
    /// `InvalidArgument`: see [`Error::violations`].
    pub async fn list_tasks_page(
        &self,
        request: ListTasksRequest,
    ) -> Result<ListTasksResponse, Error> {
        self.call(request, |to, request| async move { tasks(to).list_tasks(request).await }).await
    }

    /// Has no further step of a task begin; what runs goes on. Who asks for it, and why, is kept.
    ///
    /// # Errors
    /// `NotFound`: no such task. `FailedPrecondition`: it has ended.
    pub async fn pause_task(&self, task_id: &str, by: &Operator) -> Result<Task, Error> {
        let request = PauseTaskRequest {
            task_id: task_id.into(),
            operator: by.name.clone(),
            reason: by.reason.clone(),
        };
        let rpc = |to, request| async move { tasks(to).pause_task(request).await };
        self.call(request, rpc).await?.task.ok_or_else(no_task)
    }

    /// Lets a paused task go on, at once.
    ///
    /// # Errors
    /// `NotFound`: no such task. `FailedPrecondition`: it has ended.
    pub async fn resume_task(&self, task_id: &str, by: &Operator) -> Result<Task, Error> {
        let request = ResumeTaskRequest {
            task_id: task_id.into(),
            operator: by.name.clone(),
            reason: by.reason.clone(),
        };
        let rpc = |to, request| async move { tasks(to).resume_task(request).await };
        self.call(request, rpc).await?.task.ok_or_else(no_task)
    }

    /// Waits until the task ends or is blocked by failures, at most for `time`.
    ///
    /// A task that has not come so far by then is returned as it stands: look at its state.
    ///
    /// # Errors
    /// `NotFound`: no such task. `DeadlineExceeded` or `Unavailable`: no answer from the mesh within
    /// `time` and five seconds.
    pub async fn wait_for_task(&self, task_id: &str, time: Duration) -> Result<Task, Error> {
        let deadline = Instant::now() + time;
        loop {
            let wait = deadline.saturating_duration_since(Instant::now()).min(LONGEST_WAIT);
            let request =
                WaitForTaskRequest { task_id: task_id.into(), timeout: Some(proto(wait)) };
            let answer = self.call_within(wait + SLACK, request, |to, request| async move {
                tasks(to).wait_for_task(request).await
            });
            let task = answer.await?.task.ok_or_else(no_task)?;
            if has_settled(task.state()) || Instant::now() >= deadline {
                return Ok(task);
            }
        }
    }
}

fn no_task() -> Error {
    Status::internal("the answer holds no task").into()
}

fn proto(time: Duration) -> prost_types::Duration {
    prost_types::Duration::try_from(time).expect("a minute at most")
}
