//! Pauses: nothing new begins of a task, or of a template's tasks, until they are resumed.

use tasker_api::{Invalid, field, status};
use tasker_domain::{Rank, TaskId};
use tasker_stage::{Announcer, Database, Hints, store_error};
use tasker_store::{Announcement, ByHand, LetGo, ReadyStep, Stood, StoreError, TemplateName};
use tonic::{Code, Status};
use uuid::Uuid;

use crate::resolve;

/// What it takes to pause and to resume.
#[derive(Clone)]
pub struct Pauses {
    pub database: Database,
    pub step_enqueuer: Hints<ReadyStep>,
    pub announcer: Announcer,
}

/// Reads who asks for something, and why.
pub fn by_hand(operator: String, reason: String) -> Result<ByHand, Invalid> {
    let checked = field::operator(operator.clone(), reason)?;
    Ok(ByHand { operator, reason: checked.reason })
}

impl Pauses {
    /// Has no further step of a task begin.
    pub async fn pause_task(&self, task: TaskId, by: &ByHand) -> Result<(), Status> {
        let stood = self.database.store.pause_task(task, by).await;
        self.told(task, stood.map_err(|error| self.failed(&error))?)
    }

    /// Lets a task go on, at once.
    pub async fn resume_task(&self, task: TaskId, by: &ByHand) -> Result<(), Status> {
        let resumed = self.database.store.resume_task(task, by).await;
        let (stood, let_go) = resumed.map_err(|error| self.failed(&error))?.unzip();
        self.tell(let_go.unwrap_or_default());
        self.told(task, stood)
    }

    /// Tells who watches the task. Refuses one that is not there, or has ended.
    fn told(&self, task: TaskId, stood: Option<Stood>) -> Result<(), Status> {
        if stood.is_some_and(|stood| stood.watched) {
            self.announcer.moved([task.0]);
        }
        open(task, stood.map(|stood| stood.ended))
    }

    /// Has no further step begin of tasks that are made from a template.
    pub async fn pause_template(&self, template: &TemplateName, by: &ByHand) -> Result<(), Status> {
        let known = self.database.store.pause_template(template, by).await;
        let known = known.map_err(|error| self.failed(&error))?;
        if known { Ok(()) } else { Err(resolve::unknown(template)) }
    }

    /// Ends a pause of a template: what it held goes on.
    pub async fn resume_template(
        &self,
        template: &TemplateName,
        by: &ByHand,
    ) -> Result<(), Status> {
        let store = &self.database.store;
        let known = store.resume_template(template, by).await;
        if !known.map_err(|error| self.failed(&error))? {
            return Err(resolve::unknown(template));
        }
        // Whatever is left here if this ends halfway, the next resume or the reconciler lets go.
        let mut after = Uuid::nil();
        loop {
            let next = store.let_go_of_template(template, after, by).await;
            let (last, let_go) = next.map_err(|error| self.failed(&error))?;
            self.tell(let_go);
            match last {
                Some(last) => after = last,
                None => return Ok(()),
            }
        }
    }

    fn tell(&self, let_go: LetGo) {
        self.step_enqueuer.tell(let_go.ready);
        self.announcer.moved(let_go.watched);
        let waiting = let_go.queued.into_iter().map(|namespace| (namespace, Rank::FIRST)).collect();
        self.announcer.announce(Announcement { waiting, ..Announcement::default() });
    }

    fn failed(&self, error: &StoreError) -> Status {
        self.database.noticed(error);
        store_error(error)
    }
}

/// Whether there is such a task, and it may go on.
fn open(task: TaskId, ended: Option<bool>) -> Result<(), Status> {
    match ended {
        None => Err(status::not_found("task", &task.to_string())),
        Some(true) => Err(status::with_reason(
            Code::FailedPrecondition,
            "TASK_ENDED",
            [("task_id", task.to_string())],
            format!("task {task} has ended: nothing of it begins any more"),
        )),
        Some(false) => Ok(()),
    }
}
