//! Gives birth to tasks, once for each identity.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use tasker_domain::{Rank, TaskId, identity};
use tasker_stack::gather::Stage;
use tasker_stage::{Announcer, Database, Hints};
use tasker_store::{
    Announcement, Born, Content, Finalization, NewTask, Place, ReadyStep, StoreError, ToRelease,
    Unborn,
};
use uuid::Uuid;

use crate::{backlog::Backlog, first_steps::FirstSteps};

/// How often a batch is tried while other replicas bring the same tasks.
const LOOKS: u32 = 3;

/// The most steps that are born in one statement, unless one task alone has more: about a second of work
/// for the database, far from the statement's time-out.
const MAX_STEPS: usize = 20_000;
/// How many bytes of a context weigh as much as a step.
const STEP_BYTES: usize = 1 << 10;

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The task is born.
    Born,
    /// An earlier try of the same request has brought this task.
    Repeated(TaskId),
    /// Another request has brought this task, which is the same.
    Exists(TaskId),
    /// Nothing yet: its template is no longer what its name stands for, or nobody knows what became of
    /// a request beside it that may be the same. Find the template anew, and ask again.
    Unsettled,
    /// Its message was gone: it is another replica's.
    Gone,
}

/// The verb.
pub struct CreateTasks {
    pub database: Database,
    pub backlog: Backlog,
    /// Who is named in the history.
    pub actor: String,
    pub step_enqueuer: Hints<ReadyStep>,
    pub first_steps: FirstSteps,
    pub announcer: Announcer,
    pub finalizer: Hints<Finalization>,
}

impl Stage for CreateTasks {
    type Item = NewTask;
    type Answer = Outcome;
    type Error = StoreError;
    type Key = TaskId;

    const MAX_WEIGHT: usize = MAX_STEPS;

    fn weight(task: &NewTask) -> usize {
        task.steps.max(1) + task.context.data.len() / STEP_BYTES
    }

    fn key(task: &NewTask) -> TaskId {
        task.task_id
    }

    async fn apply(&self, tasks: &[NewTask]) -> Result<Vec<Outcome>, StoreError> {
        let first = firsts(tasks);
        let kept = self.first_steps.keep(&first).await;
        let born = self.create(&first, &kept.places).await;
        let born = born.inspect_err(|error| self.database.noticed(error))?;
        let untold = kept.begin(&born.started, &first);
        if !untold.is_empty() {
            self.give_back(&untold).await;
        }
        self.step_enqueuer.tell(with_contents(born.ready, &first));
        self.finalizer.tell(born.finalizations);
        Ok(outcomes(tasks, &first, &born.unborn.into_iter().collect()))
    }

    fn may_be_one_items_fault(error: &StoreError) -> bool {
        !error.is_unavailable()
    }

    fn rest_after(&self, took: Duration) -> Duration {
        self.backlog.way_after(took)
    }
}

impl CreateTasks {
    /// Puts first steps back whose places went as they began. The tasks are born all the same: an error has
    /// these steps found by whoever looks at sessions.
    async fn give_back(&self, untold: &[ToRelease]) {
        match self.database.store.release_steps(untold, &self.actor).await {
            Ok((queued, _)) => {
                let waiting =
                    queued.into_iter().map(|namespace| (namespace, Rank::FIRST)).collect();
                self.announcer.announce(Announcement { waiting, ..Announcement::default() });
            }
            Err(error) => {
                self.database.noticed(&error);
                tracing::warn!("first steps could not be given back yet: {error}");
            }
        }
    }

    async fn create(
        &self,
        tasks: &[&NewTask],
        places: &HashMap<Uuid, Vec<Place>>,
    ) -> Result<Born, StoreError> {
        let (store, mut looks) = (&self.database.store, LOOKS);
        loop {
            looks -= 1;
            let tasks = tasks.iter().copied();
            match store.create_tasks_in_places(tasks, places, &self.actor).await {
                // Another replica was first, and has committed: the next look finds its task.
                Err(StoreError::Conflict { .. }) if looks > 0 => {}
                done => return done,
            }
        }
    }
}

/// The largest context that goes with a call, in bytes: times the calls that may wait, the most memory
/// that this takes.
const CARRIED_CONTEXT: usize = 2 << 10;

/// Ready steps with what their deliveries carry, where that is small: nobody has to read it.
fn with_contents(mut ready: Vec<ReadyStep>, tasks: &[&NewTask]) -> Vec<ReadyStep> {
    let tasks: HashMap<_, &NewTask> = tasks.iter().map(|task| (task.task_id, *task)).collect();
    for step in &mut ready {
        step.content = tasks.get(&TaskId(step.task_id)).and_then(|task| small_content(task));
    }
    ready
}

/// What the deliveries of a task carry, where that is small.
pub fn small_content(task: &NewTask) -> Option<Content> {
    let is_small = task.context.data.len() <= CARRIED_CONTEXT && task.context.metadata.is_empty();
    is_small.then(|| Content {
        context: task.context.clone(),
        correlation_id: task.correlation_id.clone(),
        ..Content::default()
    })
}

/// The tasks that share no key with one before them. The others are answered from what becomes of these.
fn firsts(tasks: &[NewTask]) -> Vec<&NewTask> {
    let mut taken: HashSet<identity::Key> = HashSet::new();
    let mut first = Vec::with_capacity(tasks.len());
    for task in tasks {
        let keys = || task.repetition.into_iter().chain(task.identity);
        if keys().all(|key| !taken.contains(&key)) {
            taken.extend(keys());
            first.push(task);
        }
    }
    first
}

/// What became of each task, those that were not tried included.
fn outcomes(
    tasks: &[NewTask],
    tried: &[&NewTask],
    unborn: &HashMap<TaskId, Unborn>,
) -> Vec<Outcome> {
    let tried: HashMap<TaskId, Outcome> = tried
        .iter()
        .map(|task| {
            let outcome = match unborn.get(&task.task_id) {
                None => Outcome::Born,
                Some(Unborn::Repeated(known)) => Outcome::Repeated(*known),
                Some(Unborn::Exists(known)) => Outcome::Exists(*known),
                Some(Unborn::Outdated) => Outcome::Unsettled,
                Some(Unborn::Gone) => Outcome::Gone,
            };
            (task.task_id, outcome)
        })
        .collect();
    let mut known = Known::default();
    for task in tasks {
        if let Some(outcome) = tried.get(&task.task_id) {
            known.learn(task, *outcome);
        }
    }
    let outcome = |task: &NewTask| tried.get(&task.task_id).copied();
    tasks.iter().map(|task| outcome(task).unwrap_or_else(|| known.say(task))).collect()
}

/// What the tasks that were tried have shown about keys.
#[derive(Default)]
struct Known {
    repetitions: HashMap<identity::Key, TaskId>,
    /// With whether it was asked for as of the newest version, and was.
    identities: HashMap<identity::Key, (TaskId, bool)>,
}

impl Known {
    fn learn(&mut self, task: &NewTask, outcome: Outcome) {
        let (repeated, same) = match outcome {
            Outcome::Born => (Some(task.task_id), Some(task.task_id)),
            Outcome::Repeated(known) => (Some(known), None),
            Outcome::Exists(known) => (None, Some(known)),
            Outcome::Unsettled | Outcome::Gone => (None, None),
        };
        self.repetitions.extend(task.repetition.zip(repeated));
        self.identities.extend(task.identity.zip(same.map(|known| (known, task.newest))));
    }

    /// A repeat is asked for first, since it may have brought the identity.
    fn say(&self, task: &NewTask) -> Outcome {
        if let Some(known) = task.repetition.and_then(|key| self.repetitions.get(&key)) {
            return Outcome::Repeated(*known);
        }
        match task.identity.and_then(|key| self.identities.get(&key)) {
            // The identity is a version's: it says nothing of a task of the newest if that is another.
            Some((known, newest)) if *newest || !task.newest => Outcome::Exists(*known),
            _ => Outcome::Unsettled,
        }
    }
}

#[cfg(test)]
mod tests {
    use tasker_domain::TemplateId;
    use tasker_store::Payload;

    use super::*;

    fn task(repetition: u8, identity: u8) -> NewTask {
        let key = |n: u8| (n > 0).then_some([n; 32]);
        NewTask {
            message_id: None,
            task_id: TaskId::new(),
            template_id: TemplateId::new().0,
            newest: false,
            steps: 1,
            repetition: key(repetition),
            identity: key(identity),
            priority: 0,
            context: Payload::default(),
            idempotency_key: String::new(),
            correlation_id: String::new(),
            requested_by: String::new(),
            reason: String::new(),
            look_after: None,
            traceparent: String::new(),
            tracestate: String::new(),
        }
    }

    fn answered(tasks: &[NewTask], unborn: &[(TaskId, Unborn)]) -> Vec<Outcome> {
        outcomes(tasks, &firsts(tasks), &unborn.iter().copied().collect())
    }

    #[test]
    fn a_task_weighs_as_much_as_its_steps_and_its_context() {
        let large = Payload { data: vec![0; 4 << 20].into(), ..Payload::default() };
        let heavy = NewTask { steps: 10_000, context: large, ..task(0, 0) };
        assert_eq!(CreateTasks::weight(&task(0, 0)), 1);
        assert_eq!(CreateTasks::weight(&heavy), 10_000 + 4_096);
        // So that two such tasks are not born in one statement.
        assert!(2 * CreateTasks::weight(&heavy) > CreateTasks::MAX_WEIGHT);
    }

    #[test]
    fn tasks_without_keys_are_all_tried() {
        let tasks = [task(0, 0), task(0, 0), task(0, 0)];
        assert_eq!(firsts(&tasks).len(), 3);
        assert_eq!(answered(&tasks, &[]), [Outcome::Born; 3]);
    }

    #[test]
    fn a_batch_gives_birth_once_to_what_is_the_same() {
        let tasks = [task(1, 0), task(1, 0), task(0, 2), task(3, 2), task(4, 0)];
        let born = |nth: usize| tasks[nth].task_id;
        assert_eq!(
            answered(&tasks, &[]),
            [
                Outcome::Born,
                Outcome::Repeated(born(0)),
                Outcome::Born,
                Outcome::Exists(born(2)),
                Outcome::Born
            ]
        );
    }

    #[test]
    fn a_repeat_is_no_twin_of_the_task_it_has_brought() {
        let tasks = [task(1, 2), task(1, 2)];
        let first = tasks[0].task_id;
        assert_eq!(answered(&tasks, &[]), [Outcome::Born, Outcome::Repeated(first)]);
    }

    #[test]
    fn what_was_born_before_the_batch_answers_for_those_beside_it() {
        let known = TaskId::new();
        let tasks = [task(1, 2), task(1, 0), task(0, 2), task(3, 4), task(5, 4)];
        let unborn = [
            (tasks[0].task_id, Unborn::Repeated(known)),
            (tasks[3].task_id, Unborn::Exists(known)),
        ];
        assert_eq!(
            answered(&tasks, &unborn),
            [
                Outcome::Repeated(known),
                Outcome::Repeated(known),
                // The repeated request may have been for another task.
                Outcome::Unsettled,
                Outcome::Exists(known),
                Outcome::Exists(known)
            ]
        );
    }

    #[test]
    fn who_shares_a_key_with_a_task_that_came_to_nothing_asks_again() {
        for nothing in [Unborn::Outdated, Unborn::Gone] {
            let tasks = [task(1, 2), task(1, 3), task(4, 2), task(5, 0)];
            let outcomes = answered(&tasks, &[(tasks[0].task_id, nothing)]);
            assert_eq!(outcomes[1..], [Outcome::Unsettled, Outcome::Unsettled, Outcome::Born]);
        }
    }

    #[test]
    fn a_twin_of_a_version_is_none_of_the_newest_before_that_is_looked_at() {
        let newest = NewTask { newest: true, ..task(0, 2) };
        let tasks = [task(0, 2), newest.clone()];
        assert_eq!(answered(&tasks, &[]), [Outcome::Born, Outcome::Unsettled]);
        let tasks = [newest, task(0, 2)];
        assert_eq!(answered(&tasks, &[]), [Outcome::Born, Outcome::Exists(tasks[0].task_id)]);
    }
}
