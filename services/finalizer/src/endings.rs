//! Tasks that operators end: decodes, calls the verb, says what became of it.

use tasker_api::{Invalid, field, status, v1};
use tasker_domain::{TaskEvent, TaskId, TaskState};
use tasker_stack::gather::{Gather, Refused};
use tasker_stage::{refused, wire};
use tasker_store::{Ending, ToEnd};
use tonic::{Code, Status};

use crate::{end_tasks::EndTasks, watch::Watcher};

/// Has tasks ended.
pub struct Endings {
    pub tasks: Gather<EndTasks>,
    /// Reads how they stand then.
    pub watcher: Watcher,
}

impl Endings {
    /// Ends a task by an event that leads to one end, and returns it as it stands then. One that has
    /// ended so already is left as it is.
    pub async fn end(
        &self,
        event: TaskEvent,
        task_id: &str,
        operator: String,
        reason: String,
    ) -> Result<v1::Task, Status> {
        let mut invalid = Invalid::new();
        let task = invalid.take(field::task_id(task_id));
        let by = invalid.take(field::operator(operator, reason));
        let (Some(task_id), Some(by)) = (task, by) else { return Err(invalid.into()) };
        let item = ToEnd { task_id, event, actor: by.actor, reason: by.reason };
        let answer = self.tasks.call([item]).await.pop().unwrap_or(Err(Refused::Closed));
        match answer.map_err(|error| refused(&error))? {
            Ending::Ended(_) => {}
            Ending::Stands(state) if state == event.leads_to() => {}
            Ending::Stands(state) => return Err(stands(task_id, state)),
            Ending::Unknown => return Err(status::not_found("task", &task_id.to_string())),
        }
        self.watcher.row(task_id).await.map(wire::task)
    }
}

fn stands(task: TaskId, state: TaskState) -> Status {
    let (reason, message) = if state.is_end() {
        ("TASK_ENDED", format!("task {task} has ended: it is {state}"))
    } else {
        ("TASK_NOT_BLOCKED", format!("task {task} is not blocked by failures: it is {state}"))
    };
    let about = [("task_id", task.to_string()), ("state", state.to_string())];
    status::with_reason(Code::FailedPrecondition, reason, about, message)
}
