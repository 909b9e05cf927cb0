//! What operators do: end, repair and rerun tasks.

use futures::{Stream, TryStreamExt as _, stream};
use tasker_api::v1::{
    CancelTaskRequest, CompleteStepRequest, Expansion, GiveUpTaskRequest, Payload, Remedy,
    RepairTaskRequest, RepairTaskResponse, RepairTasksRequest, RepairTasksResponse,
    RerunTaskRequest, RerunTaskResponse, ResetStepRequest, ResolveStepRequest, ResolveTaskRequest,
    Step, Task,
};
use tonic::Status;
use uuid::Uuid;

use crate::{call::traced, client::Client, error::Error, steps::steps, tasks::tasks};

/// Who acts by hand, and why: both are kept in the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    /// 1 to 128 bytes.
    pub name: String,
    /// At most 1 KiB; may be empty.
    pub reason: String,
}

impl Operator {
    /// Somebody, with a reason.
    pub fn new(name: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { name: name.into(), reason: reason.into() }
    }

    fn parts(&self) -> (String, String) {
        (self.name.clone(), self.reason.clone())
    }
}

impl Client {
    /// Ends a task, and cancels what is open of it. To cancel a cancelled task again is a success.
    ///
    /// # Errors
    /// `NotFound`: no such task. `FailedPrecondition`, reason `TASK_ENDED`: it has ended otherwise.
    pub async fn cancel_task(&self, task_id: &str, by: &Operator) -> Result<Task, Error> {
        let (operator, reason) = by.parts();
        let request = CancelTaskRequest { task_id: task_id.into(), operator, reason };
        let answer = self.call(request, |to, it| async move { tasks(to).cancel_task(it).await });
        answer.await?.task.ok_or_else(|| holds_no("task"))
    }

    /// Ends a task that is blocked by failures as resolved manually.
    ///
    /// # Errors
    /// `NotFound`: no such task. `FailedPrecondition`, reason `TASK_NOT_BLOCKED` or `TASK_ENDED`.
    pub async fn resolve_task(&self, task_id: &str, by: &Operator) -> Result<Task, Error> {
        let (operator, reason) = by.parts();
        let request = ResolveTaskRequest { task_id: task_id.into(), operator, reason };
        let answer = self.call(request, |to, it| async move { tasks(to).resolve_task(it).await });
        answer.await?.task.ok_or_else(|| holds_no("task"))
    }

    /// Ends a task that is blocked by failures as failed.
    ///
    /// # Errors
    /// `NotFound`: no such task. `FailedPrecondition`, reason `TASK_NOT_BLOCKED` or `TASK_ENDED`.
    pub async fn give_up_task(&self, task_id: &str, by: &Operator) -> Result<Task, Error> {
        let (operator, reason) = by.parts();
        let request = GiveUpTaskRequest { task_id: task_id.into(), operator, reason };
        let answer = self.call(request, |to, it| async move { tasks(to).give_up_task(it).await });
        answer.await?.task.ok_or_else(|| holds_no("task"))
    }

    /// Runs a task again from a step on, as a new task; without a `context`, with the older's.
    ///
    /// Safe to try again: the request is named by a new UUIDv7.
    ///
    /// # Errors
    /// `NotFound`: no such task or step.
    pub async fn rerun_task(
        &self,
        task_id: &str,
        from_step: &str,
        context: Option<Payload>,
        by: &Operator,
    ) -> Result<RerunTaskResponse, Error> {
        let (operator, reason) = by.parts();
        self.rerun_task_as(RerunTaskRequest {
            task_id: task_id.into(),
            from_step: from_step.into(),
            context,
            request_id: Uuid::now_v7().to_string(),
            operator,
            reason,
        })
        .await
    }

    /// Like [`Client::rerun_task`], with a `request_id` of the caller's.
    ///
    /// # Errors
    /// As there.
    pub async fn rerun_task_as(
        &self,
        request: RerunTaskRequest,
    ) -> Result<RerunTaskResponse, Error> {
        self.call(request, |to, it| async move { tasks(to).rerun_task(it).await }).await
    }

    /// Has a failed step run again, with all its attempts; its task goes on.
    ///
    /// # Errors
    /// `NotFound`: no such task or step. `FailedPrecondition`, reason `STEP_STANDS` or `TASK_ENDED`.
    pub async fn reset_step(
        &self,
        task_id: &str,
        step_name: &str,
        by: &Operator,
    ) -> Result<Step, Error> {
        let ((operator, reason), step_name) = (by.parts(), step_name.into());
        let request = ResetStepRequest { task_id: task_id.into(), step_name, operator, reason };
        let answer = self.call(request, |to, it| async move { steps(to).reset_step(it).await });
        answer.await?.step.ok_or_else(|| holds_no("step"))
    }

    /// Settles a step outside: its dependants run without its result.
    ///
    /// # Errors
    /// `NotFound`: no such task or step. `FailedPrecondition`, reason `STEP_STANDS` or `TASK_ENDED`; reason
    /// `OUTCOME_NEEDED`: a decision or batchable step is completed with what comes into being by it.
    pub async fn resolve_step(
        &self,
        task_id: &str,
        step_name: &str,
        by: &Operator,
    ) -> Result<Step, Error> {
        let ((operator, reason), step_name) = (by.parts(), step_name.into());
        let request = ResolveStepRequest { task_id: task_id.into(), step_name, operator, reason };
        let answer = self.call(request, |to, it| async move { steps(to).resolve_step(it).await });
        answer.await?.step.ok_or_else(|| holds_no("step"))
    }

    /// Completes a step with a result of the operator's: its dependants run with it.
    ///
    /// # Errors
    /// `NotFound`: no such task or step. `FailedPrecondition`, reason `STEP_STANDS` or `TASK_ENDED`: also
    /// if a try before has done it, and its answer was lost.
    pub async fn complete_step(
        &self,
        task_id: &str,
        step_name: &str,
        result: Payload,
        by: &Operator,
    ) -> Result<Step, Error> {
        self.complete(task_id, step_name, result, None, by).await
    }

    /// Like [`Client::complete_step`], of a decision or batchable step: `expansion` says what comes into
    /// being by it.
    ///
    /// # Errors
    /// As there. `InvalidArgument`: the step cannot say so.
    pub async fn complete_step_with(
        &self,
        task_id: &str,
        step_name: &str,
        result: Payload,
        expansion: Expansion,
        by: &Operator,
    ) -> Result<Step, Error> {
        self.complete(task_id, step_name, result, Some(expansion), by).await
    }

    async fn complete(
        &self,
        task_id: &str,
        step_name: &str,
        result: Payload,
        expansion: Option<Expansion>,
        by: &Operator,
    ) -> Result<Step, Error> {
        let (operator, reason) = by.parts();
        let request = CompleteStepRequest {
            task_id: task_id.into(),
            step_name: step_name.into(),
            result: Some(result),
            operator,
            reason,
            expansion,
        };
        let answer = self.call(request, |to, it| async move { steps(to).complete_step(it).await });
        answer.await?.step.ok_or_else(|| holds_no("step"))
    }

    /// Resets or resolves all failed steps of a task; it goes on.
    ///
    /// # Errors
    /// `NotFound`: no such task. `FailedPrecondition`, reason `TASK_ENDED`.
    pub async fn repair_task(
        &self,
        task_id: &str,
        remedy: Remedy,
        by: &Operator,
    ) -> Result<RepairTaskResponse, Error> {
        let ((operator, reason), remedy) = (by.parts(), remedy.into());
        let request = RepairTaskRequest { task_id: task_id.into(), remedy, operator, reason };
        self.call(request, |to, it| async move { steps(to).repair_task(it).await }).await
    }

    /// Resets or resolves all failed steps of many tasks, and streams what was done; with `preview`, what
    /// would be done. Not tried again by itself: what was told is done, and may be asked for again.
    pub fn repair_tasks(
        &self,
        request: RepairTasksRequest,
    ) -> impl Stream<Item = Result<RepairTasksResponse, Error>> + Send + use<> {
        let channel = self.channel();
        let told = async move {
            let told = steps(channel).repair_tasks(traced(request)).await?.into_inner();
            Ok::<_, Error>(told.map_err(Error::from))
        };
        stream::once(told).try_flatten()
    }
}

fn holds_no(what: &str) -> Error {
    Status::internal(format!("the answer holds no {what}")).into()
}
