//! Looks at open tasks before they can have passed a limit of their template, and does with those that
//! have what their template says.
//!
//! Each task is looked at when it is due, by one replica; where no template limits anything, that is one
//! look into an empty index now and then.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use tasker_domain::{
    DeadLetterReason, TaskEvent, TaskId, TaskState,
    template::lifecycle::{Health, Limit, Standing, WhenStale},
};
use tasker_stack::gather::Gather;
use tasker_stage::refused;
use tasker_store::{Claim, Ending, Look, NewDeadLetter, StoreError, ToEnd};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::{
    end_tasks::EndTasks,
    standings::{Found, Standings},
};

/// Tasks looked at together.
const BATCH: i64 = 500;
/// For how long: if this replica dies over them, others look at them after that.
const HIDE: Duration = Duration::from_secs(60);

/// The work.
pub struct Limits {
    pub standings: Standings,
    pub ends: Gather<EndTasks>,
    /// Who is named in the history.
    pub actor: String,
    pub every: Duration,
}

impl Limits {
    /// Works until draining begins.
    pub async fn run(self, drain: CancellationToken) {
        let mut ticks = interval(self.every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while drain.run_until_cancelled(ticks.tick()).await.is_some() {
            if let Err(error) = self.look(&drain).await {
                self.standings.database.noticed(&error);
                tracing::warn!("limits were not looked at, and are again: {error}");
            }
        }
    }

    async fn look(&self, drain: &CancellationToken) -> Result<(), StoreError> {
        while !drain.is_cancelled() {
            let store = &self.standings.database.store;
            let due = store.claim_limited_tasks(BATCH, HIDE).await?;
            if due.is_empty() {
                break;
            }
            self.look_at(&due).await?;
            if i64::try_from(due.len()).is_ok_and(|found| found < BATCH) {
                break;
            }
        }
        Ok(())
    }

    async fn look_at(&self, due: &[Claim]) -> Result<(), StoreError> {
        let store = &self.standings.database.store;
        let tasks: Vec<TaskId> = due.iter().map(|claim| claim.task_id).collect();
        let found = self.standings.of(&tasks).await?;
        let stale = |when: WhenStale| {
            let stale = found.iter().filter(move |found| found.when_stale == when);
            stale.filter_map(|found| {
                found.standing.filter(|it| it.health == Health::Stale).map(|it| (found, it))
            })
        };
        let ends = stale(WhenStale::Error).map(|(found, it)| self.to_end(found, &it)).collect();
        let ended = self.end(ends).await;
        let letters: Vec<NewDeadLetter> =
            stale(WhenStale::Dlq).map(|(found, it)| letter(found, &it)).collect();
        if !letters.is_empty() {
            store.create_dead_letters(&letters, &self.actor).await?;
        }
        let open = found.iter().filter(|found| !ended.contains(&found.task.task_id));
        let open: HashMap<TaskId, &Found> = open.map(|found| (found.task.task_id, found)).collect();
        let looked = |claim: &Claim| Some(look(*claim, open.get(&claim.task_id)?));
        let looks: Vec<Look> = due.iter().filter_map(looked).collect();
        let changed = store.look_at_limited_tasks(&looks).await?;
        for (found, standing) in stale(WhenStale::None) {
            let task = found.task.task_id;
            if changed.contains(&task) {
                tracing::warn!(task.id = %task, "task {task} is stale: {standing}");
            }
        }
        let is_over = |claim: &Claim| !open.contains_key(&claim.task_id);
        let over: Vec<Claim> = due.iter().copied().filter(is_over).collect();
        store.forget_limited_tasks(&over).await
    }

    /// Ends tasks, and returns those that have ended then.
    async fn end(&self, items: Vec<ToEnd>) -> HashSet<TaskId> {
        let tasks: Vec<TaskId> = items.iter().map(|item| item.task_id).collect();
        let mut ended = HashSet::new();
        for (task, answer) in tasks.into_iter().zip(self.ends.call_in_turn(items).await) {
            match answer {
                Ok(Ending::Ended(_) | Ending::Unknown) => ended.extend([task]),
                Ok(Ending::Stands(state)) => ended.extend(state.is_end().then_some(task)),
                // It is looked at again.
                Err(why) => tracing::warn!(
                    task.id = %task,
                    "task {task} has passed a limit and could not be ended: {}",
                    refused(&why).message()
                ),
            }
        }
        ended
    }

    /// A task that has moved on since it was looked at has stayed too long all the same.
    fn to_end(&self, found: &Found, standing: &Standing) -> ToEnd {
        let event = match found.task.state {
            TaskState::BlockedByFailures => TaskEvent::GiveUp,
            _ => TaskEvent::Timeout,
        };
        let (task_id, reason) = (found.task.task_id, standing.to_string());
        ToEnd { task_id, event, actor: self.actor.clone(), reason }
    }
}

fn look(claim: Claim, found: &Found) -> Look {
    Look { claim, health: found.health(), again: found.again }
}

fn letter(found: &Found, standing: &Standing) -> NewDeadLetter {
    let reason = match standing.stay.limit {
        Limit::WaitingForWorker => DeadLetterReason::WorkerUnavailable,
        Limit::Duration
        | Limit::WaitingForDependencies
        | Limit::WaitingForRetry
        | Limit::Blocked => DeadLetterReason::Staleness,
    };
    NewDeadLetter {
        task_id: found.task.task_id,
        reason,
        detail: standing.to_string(),
        lasted: Some(standing.stay.lasted),
    }
}
