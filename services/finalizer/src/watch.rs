//! Tells clients what happens to a task.

use std::{pin::pin, time::Duration};

use chrono::{DateTime, Utc};
use futures::{Stream, stream};
use tasker_api::{
    Invalid, field, status, time,
    v1::{
        StepTransition, TaskPaused, TaskResumed, TaskTransition, WatchTaskRequest,
        WatchTaskResponse, watch_task_response::Transition as Moved,
    },
};
use tasker_domain::{ErrorKind, StepEvent, TaskEvent, TaskId, TaskState};
use tasker_stage::{Database, store_error};
use tasker_store::{Announcement, CompletedTask, StoreError, TaskRow, Transition, TransitionKind};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::watches::{Heard, Watch, Watches};

/// Transitions read at once.
const PAGE: i64 = 500;
/// How long a watcher waits to be told before it looks by itself.
const LOOK_ANYWAY: Duration = Duration::from_secs(30);

/// Follows tasks.
#[derive(Clone)]
pub struct Watcher {
    pub database: Database,
    pub watches: Watches,
    pub drain: CancellationToken,
}

/// A watch on its way: what has been told, and what is to be told.
struct Progress {
    watcher: Watcher,
    watch: Watch,
    task: TaskId,
    /// When the task was born.
    since: DateTime<Utc>,
    /// The last transition told.
    told: i64,
    /// Where the watch begins.
    from: Cursor,
    /// After the last event told that no crash can undo.
    durable: Cursor,
    /// Whether all that had happened at the last look is told: the next waits for an announcement.
    told_all: bool,
    ended: bool,
    pending: std::collections::VecDeque<WatchTaskResponse>,
}

impl Watcher {
    /// What happens to a task, from the cursor on, until it has ended.
    pub async fn watch(
        &self,
        request: WatchTaskRequest,
    ) -> Result<impl Stream<Item = Result<WatchTaskResponse, Status>> + use<>, Status> {
        let task = field::task_id(&request.task_id)?;
        let from: Cursor = match request.cursor.as_str() {
            "" => Cursor::default(),
            cursor => cursor
                .parse()
                .map_err(|NotACursor| Invalid::field("cursor", "give the cursor of an event"))?,
        };
        let (watch, since) = self.listen(task).await?;
        let progress = Progress {
            watcher: self.clone(),
            watch,
            task,
            since,
            told: from.before(),
            from,
            durable: from,
            told_all: false,
            ended: false,
            pending: std::collections::VecDeque::new(),
        };
        Ok(stream::try_unfold(progress, Progress::next))
    }

    /// Waits until a task rests, at most for `bound`. Returns it as it stands then.
    pub async fn wait(&self, task: TaskId, bound: Duration) -> Result<TaskRow, Status> {
        let mut watch = self.watches.listen(task.0);
        let asked =
            self.database.store.await_task(task).await.map_err(|error| self.failed(&error))?;
        let awaited = asked.ok_or_else(|| no_task(task))?;
        let mut is_on_its_way = awaited.will_be_told;
        if is_on_its_way {
            watch.has_asked();
        }
        let mut over = pin!(sleep(bound));
        loop {
            if !is_on_its_way {
                let row = self.row(task).await?;
                if row.state.is_end() || row.state == TaskState::BlockedByFailures {
                    return Ok(row);
                }
            }
            tokio::select! {
                () = &mut over => return self.row(task).await,
                () = self.drain.cancelled() => return Err(ending()),
                heard = timeout(LOOK_ANYWAY, watch.heard()) => match heard {
                    Ok(Heard::Completed(end)) => return Ok(awaited.completed(end)),
                    _ => is_on_its_way = false,
                },
            }
        }
    }

    /// Tells who waits for these tasks: here, or at other replicas, by announcement. Returns once that is out.
    pub async fn tell(&self, tasks: Vec<CompletedTask>) -> Result<(), Status> {
        // They connect to another replica, and have to be told there.
        if self.drain.is_cancelled() {
            return Err(ending());
        }
        let elsewhere = self.watches.completed(tasks);
        if elsewhere.is_empty() {
            return Ok(());
        }
        let tasks = elsewhere.into_iter().collect();
        let announcement = Announcement { tasks, ..Announcement::default() };
        self.database.store.announce(announcement).await.map_err(|error| self.failed(&error))
    }

    /// Listens first, then has moves announced: what is read afterwards misses nothing. Returns when the
    /// task was born.
    async fn listen(&self, task: TaskId) -> Result<(Watch, DateTime<Utc>), Status> {
        let watch = self.watches.listen(task.0);
        let born =
            self.database.store.watch_task(task).await.map_err(|error| self.failed(&error))?;
        Ok((watch, born.ok_or_else(|| no_task(task))?))
    }

    /// A task as it stands.
    pub async fn row(&self, task: TaskId) -> Result<TaskRow, Status> {
        let row = self.database.store.task(task).await.map_err(|error| self.failed(&error))?;
        row.ok_or_else(|| no_task(task))
    }

    fn failed(&self, error: &StoreError) -> Status {
        self.database.noticed(error);
        store_error(error)
    }
}

impl Progress {
    async fn next(mut self) -> Result<Option<(WatchTaskResponse, Self)>, Status> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Ok(Some((event, self)));
            }
            if self.ended {
                return Ok(None);
            }
            let announced = self.told_all && self.announced().await?;
            let store = &self.watcher.database.store;
            let happened = store.transitions(self.task, self.since, self.told, PAGE).await;
            let happened = happened.map_err(|error| self.watcher.failed(&error))?;
            self.told_all = i64::try_from(happened.len()).is_ok_and(|found| found < PAGE);
            if happened.is_empty() && !announced {
                // A cursor from the end of a task that has ended.
                if self.watcher.row(self.task).await?.state.is_end()
                    && store
                        .transitions(self.task, self.since, self.told, 1)
                        .await
                        .is_ok_and(|more| more.is_empty())
                {
                    return Ok(None);
                }
            }
            let more = i64::try_from(happened.len()).is_ok_and(|read| read == PAGE);
            for transition in happened {
                self.tell(&transition).map_err(|what| {
                    tracing::error!(task.id = %self.task, "the history of task {} is corrupt: {what}", self.task);
                    status(ErrorKind::Corrupt, "the history of the task cannot be read")
                })?;
            }
            // A task that had failed may have been repaired since.
            self.ended &= !more;
        }
    }

    /// Waits until the task may have moved. Says whether that was announced: else it is time to look anyway.
    async fn announced(&mut self) -> Result<bool, Status> {
        tokio::select! {
            () = self.watcher.drain.cancelled() => Err(ending()),
            heard = timeout(LOOK_ANYWAY, self.watch.heard()) => {
                if heard == Ok(Heard::Interrupted) {
                    self.rewind();
                }
                Ok(heard.is_ok_and(|heard| heard != Heard::Interrupted))
            }
        }
    }

    /// Goes back to what the database cannot have forgotten: it may have numbered others anew since.
    fn rewind(&mut self) {
        self.from = self.durable;
        self.told = self.durable.before();
    }

    fn tell(&mut self, transition: &Transition) -> Result<(), String> {
        self.told = transition.id;
        let events = transition.events.iter();
        let reason = transition.reason.clone().unwrap_or_default();
        let moves: Vec<Moved> = match &transition.kind {
            TransitionKind::Task => {
                let events =
                    events.map(|event| event.parse()).collect::<Result<Vec<TaskEvent>, _>>();
                let events = events.map_err(|error| error.to_string())?;
                self.ended = events.last().is_some_and(|event| event.leads_to().is_end());
                events.into_iter().map(|event| task_moved(event, &reason)).collect()
            }
            TransitionKind::Step { name, attempt } => {
                let events =
                    events.map(|event| event.parse()).collect::<Result<Vec<StepEvent>, _>>();
                let events = events.map_err(|error| error.to_string())?;
                events.into_iter().map(|event| step_moved(event, name, *attempt, &reason)).collect()
            }
            TransitionKind::Paused => vec![Moved::Paused(TaskPaused { reason })],
            TransitionKind::Resumed => vec![Moved::Resumed(TaskResumed { reason })],
        };
        let durable = is_durable(transition);
        for (events, moved) in (1..).zip(moves) {
            if durable {
                self.durable = Cursor { transition: transition.id, events };
            }
            // The rest of a transition whose beginning was told before.
            if transition.id == self.from.transition && events <= self.from.events {
                continue;
            }
            self.pending.push_back(WatchTaskResponse {
                cursor: self.durable.to_string(),
                time: Some(time::timestamp(transition.occurred_at)),
                actor: transition.actor.clone(),
                transition: Some(moved),
            });
        }
        Ok(())
    }
}

/// After so many events of a transition: a watcher may be cut off between two events of one commit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Cursor {
    transition: i64,
    events: u32,
}

#[derive(Debug, PartialEq, Eq)]
struct NotACursor;

impl Cursor {
    /// The last transition that is not to be told again.
    fn before(self) -> i64 {
        self.transition.saturating_sub(1)
    }
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.transition, self.events)
    }
}

impl std::str::FromStr for Cursor {
    type Err = NotACursor;

    fn from_str(text: &str) -> Result<Self, NotACursor> {
        let (transition, events) = text.split_once('-').ok_or(NotACursor)?;
        // No sign: only what we have written ourselves.
        let id: u64 = transition.parse().map_err(|_| NotACursor)?;
        let transition = id.try_into().map_err(|_| NotACursor)?;
        Ok(Self { transition, events: events.parse().map_err(|_| NotACursor)? })
    }
}

/// Whether a crash of the database cannot undo it: a step's way to its worker does not wait for the disk, nor does
/// what holds it there.
fn is_durable(transition: &Transition) -> bool {
    let events: Vec<&str> = transition.events.iter().map(String::as_str).collect();
    let of_step =
        matches!(events[..], ["Enqueue"] | ["Enqueue", "Start"] | ["Start"] | ["Release"]);
    // What the finalizer says is durable, and may be told twice: it is not told apart.
    let of_task = matches!(
        events[..],
        ["StepsEnqueued" | "RetryPending" | "NoDependenciesReady"]
            | ["RetryReady" | "ReadyStepsFound", "StepsEnqueued"]
    );
    !of_step && !of_task
}

fn task_moved(event: TaskEvent, reason: &str) -> Moved {
    Moved::Task(TaskTransition {
        state: tasker_api::v1::TaskState::from(event.leads_to()).into(),
        event: format!("{event:?}"),
        reason: reason.to_owned(),
    })
}

fn step_moved(event: StepEvent, name: &str, attempt: i32, reason: &str) -> Moved {
    Moved::Step(StepTransition {
        step_name: name.to_owned(),
        state: tasker_api::v1::StepState::from(event.leads_to()).into(),
        event: format!("{event:?}"),
        attempt,
        reason: reason.to_owned(),
    })
}

fn no_task(task: TaskId) -> Status {
    status::not_found("task", &task.to_string())
}

fn ending() -> Status {
    status(ErrorKind::Unavailable, "the service is ending: connect again, with the cursor")
}
