//! Repairs that operators ask for: decodes, calls the verb, says what became of it.

use bytes::Bytes;
use prost::Message as _;
use tasker_api::{Invalid, expansion, field, status, time, v1};
use tasker_domain::{StepState, TaskId, TaskState};
use tasker_stack::gather::{Gather, Refused};
use tasker_stage::{Database, purged, refused, store_error};
use tasker_store::{
    FailedSteps, Outcome, Payload, Refusal, Remedy, StoreError, TaskFilter, ToRepair, Unfit,
};
use tokio::sync::mpsc;
use tonic::{Code, Status};

use crate::repair_steps::RepairSteps;

/// Tasks of one response, repaired in one go.
const PAGE: i64 = 100;
/// How many tasks one call may be about, and what 0 means.
const MOST_TASKS: i32 = 10_000;
const TASKS: i32 = 1_000;
/// Filters on text, in bytes.
const MAX_FILTER: usize = 128;
/// Where a task is that may be repaired with many others.
const FAILED: [TaskState; 2] = [TaskState::BlockedByFailures, TaskState::Error];

/// Has steps repaired.
#[derive(Clone)]
pub struct Repairs {
    pub database: Database,
    pub steps: Gather<RepairSteps>,
}

/// A repair of many tasks that can be done.
pub struct Many {
    filter: TaskFilter,
    remedy: Remedy,
    most: i64,
    preview: bool,
    by: field::Operator,
}

/// What an operator wants done about a step.
pub struct Wanted {
    pub remedy: Remedy,
    /// What its result says of what comes into being by it.
    pub said: Option<Bytes>,
}

/// Where the responses to a repair of many go.
pub type Told = mpsc::Sender<Result<v1::RepairTasksResponse, Status>>;

impl Repairs {
    /// Repairs one step. A step that is resolved already is left so.
    pub async fn step(
        &self,
        task_id: TaskId,
        step: String,
        wanted: Wanted,
        by: field::Operator,
    ) -> Result<(), Status> {
        let name = step.clone();
        let resolves = wanted.remedy == Remedy::Resolve;
        match self.repair(repair(task_id, Some(step), wanted, by)).await? {
            Outcome::Repaired(_) | Outcome::NothingFailed => Ok(()),
            Outcome::Refused(Refusal::StepStands(StepState::ResolvedManually)) if resolves => {
                Ok(())
            }
            Outcome::Refused(refusal) => Err(refused_for(refusal, task_id, &name)),
        }
    }

    /// Repairs all failed steps of a task, and returns their names.
    pub async fn task(
        &self,
        task_id: TaskId,
        remedy: Remedy,
        by: field::Operator,
    ) -> Result<Vec<String>, Status> {
        match self.repair(repair(task_id, None, remedy.into(), by)).await? {
            Outcome::Repaired(names) => Ok(names),
            Outcome::NothingFailed => Ok(Vec::new()),
            Outcome::Refused(refusal) => Err(refused_for(refusal, task_id, "")),
        }
    }

    /// Repairs many tasks, and tells of them page by page, until all is done or nobody listens.
    pub async fn many(&self, many: Many, told: Told) {
        if let Err(status) = self.pages(many, &told).await {
            // Whoever has gone is not told.
            told.send(Err(status)).await.ok();
        }
    }

    async fn pages(&self, many: Many, told: &Told) -> Result<(), Status> {
        let (mut tasks, mut steps) = (0, 0);
        let mut before = None;
        loop {
            let wanted = PAGE.min(many.most - i64::from(tasks));
            let store = &self.database.store;
            let found = store.list_tasks(&many.filter, before, wanted + 1).await;
            let mut found = found.map_err(|error| self.failed(&error))?;
            let more = i64::try_from(found.len()).is_ok_and(|found| found > wanted);
            found.truncate(usize::try_from(wanted).expect("a page is small"));
            before = found.last().map(|task| task.task_id);
            let ids: Vec<TaskId> = found.iter().map(|task| task.task_id).collect();
            let (repaired, outage) = if many.preview {
                (self.preview(&many, &ids).await?, None)
            } else {
                self.page(&many, &ids).await
            };
            tasks += count(repaired.iter().filter(|task| task.skipped.is_empty()).count());
            steps += repaired.iter().map(|task| count(task.step_names.len())).sum::<i32>();
            let last = !more || i64::from(tasks) >= many.most;
            let response = v1::RepairTasksResponse {
                tasks: repaired,
                task_count: tasks,
                step_count: steps,
                more: more && last,
            };
            if told.send(Ok(response)).await.is_err() {
                return Ok(());
            }
            // Not before it was told what has been repaired until then.
            match outage {
                Some(outage) => return Err(outage),
                None if last => return Ok(()),
                None => {}
            }
        }
    }

    /// What a repair would come to, by what it judges by.
    async fn preview(
        &self,
        many: &Many,
        tasks: &[TaskId],
    ) -> Result<Vec<v1::RepairedTask>, Status> {
        let failed = self.database.store.failed_steps(tasks).await;
        let mut failed = failed.map_err(|error| self.failed(&error))?;
        let gone = self.database.store.purged(tasks).await.map_err(|error| self.failed(&error))?;
        let would = |task: &TaskId| {
            let FailedSteps { names, expands, reopens } = failed.remove(task).unwrap_or_default();
            let resets = many.remedy == Remedy::Reset;
            let outcome = match expands {
                _ if gone.contains(task) => Outcome::Refused(Refusal::Purged),
                Some(step) if !resets => Outcome::Refused(Refusal::Undecided(step)),
                _ if names.is_empty() && !(reopens && resets) => Outcome::NothingFailed,
                _ => Outcome::Repaired(names),
            };
            told_of(*task, outcome)
        };
        Ok(tasks.iter().map(would).collect())
    }

    /// Repairs the tasks of a page. One that cannot be repaired does not keep the others from it; if nobody can
    /// be, says why, beside what has been done.
    async fn page(&self, many: &Many, tasks: &[TaskId]) -> (Vec<v1::RepairedTask>, Option<Status>) {
        let mut outage = None;
        let item = |task: &TaskId| repair(*task, None, many.remedy.clone().into(), many.by.clone());
        let answers = self.steps.call_in_turn(tasks.iter().map(item)).await;
        let mut repaired = Vec::with_capacity(tasks.len());
        for (task, answer) in tasks.iter().zip(answers) {
            repaired.push(match answer {
                Ok(outcome) => told_of(*task, outcome),
                Err(error) => {
                    let status = refused(&error);
                    let skipped = status.message().to_owned();
                    if status.code() == Code::Unavailable {
                        outage.get_or_insert(status);
                    }
                    skipped_for(*task, skipped)
                }
            });
        }
        (repaired, outage)
    }

    async fn repair(&self, item: ToRepair) -> Result<Outcome, Status> {
        let answer = self.steps.call([item]).await.pop().unwrap_or(Err(Refused::Closed));
        answer.map_err(|error| refused(&error))
    }

    fn failed(&self, error: &StoreError) -> Status {
        self.database.noticed(error);
        store_error(error)
    }
}

impl Many {
    /// Reads a request.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn read(request: v1::RepairTasksRequest) -> Result<Self, Invalid> {
        let mut invalid = Invalid::new();
        let remedy = invalid.take(remedy(request.remedy()));
        let states = invalid.take(states(&request.states));
        let read_time =
            |path: &str, at: Option<_>| at.map(|at| time::from_timestamp(path, at)).transpose();
        let created_after = invalid.take(read_time("created_after", request.created_after));
        let created_before = invalid.take(read_time("created_before", request.created_before));
        let mut text =
            |path, text| invalid.take(field::text(path, text, MAX_FILTER)).unwrap_or_default();
        let filter = TaskFilter {
            namespace: text("namespace", request.namespace),
            name: text("name", request.name),
            version: text("version", request.version),
            correlation_id: text("correlation_id", request.correlation_id),
            states: states.unwrap_or_default(),
            created_after: created_after.flatten(),
            created_before: created_before.flatten(),
        };
        let most = match request.max_tasks {
            0 => TASKS,
            most @ 1..=MOST_TASKS => most,
            other => {
                invalid.add("max_tasks", format!("{other}: give 0 to {MOST_TASKS}"));
                TASKS
            }
        };
        let by = invalid.take(field::operator(request.operator, request.reason));
        let (Some(remedy), Some(by)) = (remedy, by) else { return Err(invalid) };
        invalid.check()?;
        Ok(Self { filter, remedy, most: most.into(), preview: request.preview, by })
    }
}

/// Reads what to do about failed steps.
pub fn remedy(remedy: v1::Remedy) -> Result<Remedy, Invalid> {
    match remedy {
        v1::Remedy::Reset => Ok(Remedy::Reset),
        v1::Remedy::Resolve => Ok(Remedy::Resolve),
        v1::Remedy::Unspecified => {
            Err(Invalid::field("remedy", "say what to do: reset or resolve"))
        }
    }
}

/// Reads an operator's result, and what it says of what comes into being by it.
pub fn result(result: Option<v1::Payload>, said: Option<v1::Expansion>) -> Result<Wanted, Invalid> {
    let mut invalid = Invalid::new();
    let result = invalid.take(field::payload("result", result));
    let said = said.map(|said| expansion::check("expansion", said)).transpose();
    let (Some(result), Some(said)) = (result, invalid.take(said)) else { return Err(invalid) };
    let field::Payload { content_type, data, metadata } = result;
    Ok(Wanted {
        remedy: Remedy::Complete(Payload { content_type, data, metadata }),
        said: said.map(|said| said.encode_to_vec().into()),
    })
}

fn states(states: &[i32]) -> Result<Vec<TaskState>, Invalid> {
    if states.is_empty() {
        return Ok(FAILED.to_vec());
    }
    let states = tasker_api::states::task_states("states", states)?;
    if states.iter().all(|state| FAILED.contains(state)) {
        Ok(states)
    } else {
        Err(Invalid::field("states", "only tasks in blocked_by_failures or error are repaired"))
    }
}

impl From<Remedy> for Wanted {
    fn from(remedy: Remedy) -> Self {
        Self { remedy, said: None }
    }
}

fn repair(task_id: TaskId, step: Option<String>, wanted: Wanted, by: field::Operator) -> ToRepair {
    let Wanted { remedy, said } = wanted;
    ToRepair { task_id, step, remedy, said, actor: by.actor, reason: by.reason }
}

/// What an operator is told of one of many tasks.
fn told_of(task: TaskId, outcome: Outcome) -> v1::RepairedTask {
    match outcome {
        Outcome::Repaired(step_names) => {
            let task_id = task.to_string();
            v1::RepairedTask { task_id, step_names, skipped: String::new() }
        }
        Outcome::NothingFailed => skipped_for(task, "no step has failed".to_owned()),
        Outcome::Refused(refusal) => {
            skipped_for(task, refused_for(refusal, task, "").message().to_owned())
        }
    }
}

fn skipped_for(task: TaskId, skipped: String) -> v1::RepairedTask {
    v1::RepairedTask { task_id: task.to_string(), step_names: Vec::new(), skipped }
}

/// What an operator is told who cannot have it.
fn refused_for(refusal: Refusal, task: TaskId, step: &str) -> Status {
    let stands = |reason, state: String, message| {
        let about = [("task_id", task.to_string()), ("step", step.to_owned()), ("state", state)];
        status::with_reason(Code::FailedPrecondition, reason, about, message)
    };
    let undecided = |step: String| {
        let message = format!(
            "step {step} of task {task} says what comes into being, and to resolve it says nothing: \
            complete it with that (CompleteStep with `expansion`), or have it run again (ResetStep)"
        );
        let about = [("task_id", task.to_string()), ("step", step)];
        status::with_reason(Code::FailedPrecondition, "OUTCOME_NEEDED", about, message)
    };
    match refusal {
        Refusal::NoTask => status::not_found("task", &task.to_string()),
        Refusal::NoStep => status::not_found("step", &format!("{task}/{step}")),
        Refusal::Purged => purged(task),
        Refusal::Undecided(step) => undecided(step),
        Refusal::Unfit(Unfit { field, error_type, message }) => {
            Invalid::field(field, message).because(error_type).into()
        }
        Refusal::TaskStands(state) => {
            let message = format!("task {task} has ended: it is {state}");
            stands("TASK_ENDED", state.to_string(), message)
        }
        Refusal::StepStands(state) => {
            let message = format!("step {step} of task {task} is {state}, which does not allow it");
            stands("STEP_STANDS", state.to_string(), message)
        }
    }
}

fn count(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}
