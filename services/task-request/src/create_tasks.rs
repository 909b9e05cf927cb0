//! Gives birth to tasks, once for each identity.

use std::collections::{HashMap, HashSet};

use tasker_domain::{TaskId, identity};
use tasker_stack::gather::Stage;
use tasker_stage::{Database, Hints};
use tasker_store::{Finalization, NewTask, ReadyStep, StoreError};

/// How often a batch is tried while other replicas bring the same tasks.
const LOOKS: u32 = 3;

/// A request that has been found good.
#[derive(Debug, Clone)]
pub struct Request {
    /// The task to be born.
    pub task: NewTask,
    /// What repeats of the request share.
    pub repetition: Option<identity::Key>,
    /// What the template's identity strategy makes the same task.
    pub identity: Option<identity::Key>,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The task is born, now or by an earlier try of the same request.
    Born(TaskId),
    /// Another request has brought the same task.
    Exists(TaskId),
}

/// The verb.
pub struct CreateTasks {
    pub database: Database,
    /// Who is named in the history.
    pub actor: String,
    pub step_enqueuer: Hints<ReadyStep>,
    pub finalizer: Hints<Finalization>,
}

impl Stage for CreateTasks {
    type Item = Request;
    type Answer = Outcome;
    type Error = StoreError;
    type Key = TaskId;

    fn key(request: &Request) -> TaskId {
        request.task.task_id
    }

    async fn apply(&self, requests: &[Request]) -> Result<Vec<Outcome>, StoreError> {
        let mut looks = LOOKS;
        loop {
            looks -= 1;
            match self.create(requests).await {
                // Another replica was first, and has committed: the next look finds its task.
                Err(StoreError::Conflict { .. }) if looks > 0 => {}
                done => return done.inspect_err(|error| self.database.noticed(error)),
            }
        }
    }

    fn may_be_one_items_fault(error: &StoreError) -> bool {
        !error.is_unavailable()
    }
}

impl CreateTasks {
    async fn create(&self, requests: &[Request]) -> Result<Vec<Outcome>, StoreError> {
        let keys: Vec<_> = requests.iter().flat_map(Request::keys).collect();
        let mut known: HashMap<identity::Key, TaskId> = if keys.is_empty() {
            HashMap::new()
        } else {
            self.database.store.tasks_by_identity(&keys).await?.into_iter().collect()
        };
        let mut outcomes = Vec::with_capacity(requests.len());
        let mut births = Vec::with_capacity(requests.len());
        let mut new = HashSet::new();
        for request in requests {
            let outcome = request.outcome(&known);
            if outcome == Outcome::Born(request.task.task_id) && new.insert(request.task.task_id) {
                // Later requests of the batch find it.
                known.extend(request.keys().map(|key| (key, request.task.task_id)));
                births.push(request.task.clone());
            }
            outcomes.push(outcome);
        }
        if !births.is_empty() {
            let born = self.database.store.create_tasks(&births, &self.actor).await?;
            self.step_enqueuer.tell(born.ready);
            self.finalizer.tell(born.finalizations);
        }
        Ok(outcomes)
    }
}

impl Request {
    fn keys(&self) -> impl Iterator<Item = identity::Key> {
        self.repetition.into_iter().chain(self.identity)
    }

    /// What the keys that are known say; a repeat is asked for first, since it may have brought the identity.
    fn outcome(&self, known: &HashMap<identity::Key, TaskId>) -> Outcome {
        let find = |key: Option<identity::Key>| known.get(&key?).copied();
        if let Some(task) = find(self.repetition) {
            return Outcome::Born(task);
        }
        match find(self.identity) {
            Some(task) => Outcome::Exists(task),
            None => Outcome::Born(self.task.task_id),
        }
    }
}
