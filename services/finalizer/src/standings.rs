//! How open tasks stand towards the limits of their templates.

use std::{collections::HashMap, time::Duration};

use tasker_domain::{
    TaskId, TaskState,
    template::lifecycle::{Health, Lifecycle, Limit, Standing, Stay, WhenStale},
};
use tasker_stage::Database;
use tasker_store::{LimitedTask, StoreError};

/// Reads them, by the database's clock.
#[derive(Clone)]
pub struct Standings {
    pub database: Database,
}

/// How a task stands.
pub struct Found {
    pub task: LimitedTask,
    /// `None`: nothing that lasts now is limited.
    pub standing: Option<Standing>,
    /// After how long to look again.
    pub again: Duration,
    pub when_stale: WhenStale,
}

impl Found {
    pub fn health(&self) -> Health {
        self.standing.map_or(Health::Healthy, |standing| standing.health)
    }
}

impl Standings {
    /// How those of the tasks stand that are open and whose templates limit them.
    pub async fn of(&self, tasks: &[TaskId]) -> Result<Vec<Found>, StoreError> {
        let store = &self.database.store;
        let mut limited = Vec::with_capacity(tasks.len());
        for task in store.limited_tasks(tasks).await? {
            let lifecycle = match store.template(task.template_id).await {
                Ok(template) if template.lifecycle.limits.is_empty() => continue,
                Ok(template) => template.lifecycle.clone(),
                Err(error) if error.is_unavailable() => return Err(error),
                // The others must not wait for it.
                Err(error) => {
                    let id = task.task_id;
                    tracing::error!(task.id = %id, "the limits of task {id} cannot be read: {error}");
                    Lifecycle::default()
                }
            };
            limited.push((task, lifecycle));
        }
        let may_wait = |(task, lifecycle): &(LimitedTask, Lifecycle)| {
            lifecycle.limits.contains_key(&Limit::WaitingForWorker).then_some(task.task_id)
        };
        let may_wait: Vec<TaskId> = limited.iter().filter_map(may_wait).collect();
        let without_worker: HashMap<TaskId, Duration> = if may_wait.is_empty() {
            HashMap::new()
        } else {
            store.tasks_without_worker(&may_wait).await?.into_iter().collect()
        };
        let found = limited.into_iter().map(|(task, lifecycle)| {
            let stays = stays(&task, without_worker.get(&task.task_id).copied());
            Found {
                standing: lifecycle.judge(&stays),
                again: lifecycle.next_look(&stays),
                when_stale: lifecycle.when_stale,
                task,
            }
        });
        Ok(found.collect())
    }
}

/// What lasts now, of what may be limited.
fn stays(task: &LimitedTask, without_worker: Option<Duration>) -> Vec<Stay> {
    let in_state = match task.state {
        // Who paused it has it wait as long as he likes.
        TaskState::WaitingForDependencies => {
            let lasted = task.in_state.saturating_sub(task.paused);
            Some(Stay { limit: Limit::WaitingForDependencies, lasted })
        }
        TaskState::WaitingForRetry => {
            Some(Stay { limit: Limit::WaitingForRetry, lasted: task.in_state })
        }
        TaskState::BlockedByFailures => Some(Stay { limit: Limit::Blocked, lasted: task.in_state }),
        TaskState::Pending
        | TaskState::Initializing
        | TaskState::EnqueuingSteps
        | TaskState::StepsInProcess
        | TaskState::EvaluatingResults
        | TaskState::Complete
        | TaskState::Error
        | TaskState::Cancelled
        | TaskState::ResolvedManually => None,
    };
    let mut stays = vec![Stay { limit: Limit::Duration, lasted: task.lasted }];
    stays.extend(in_state);
    stays.extend(without_worker.map(|lasted| Stay { limit: Limit::WaitingForWorker, lasted }));
    stays
}
