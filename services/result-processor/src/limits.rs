//! What is in use of the limits that hold a task's steps.

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, TimeDelta, Utc};
use tasker_api::{time, v1};
use tasker_domain::{
    Ordinal, TaskId, Template,
    template::{Limit, limit::Rate},
    usage::{Limited, limited},
};
use tasker_store::{Asked, Store, StoreError};

/// Holders of a limit that are named.
const HOLDERS: i64 = 20;

/// A limit that holds a step.
#[derive(Debug, Clone)]
pub struct Hold {
    pub usage: v1::LimitUse,
    /// When its rate lets another step begin, if that is what holds.
    pub until: Option<DateTime<Utc>>,
}

/// What a look at a limit depends on: templates, and steps of one, may give a name other numbers, and each
/// queue has limits of its own.
type Seen = (String, Limited, Option<u32>, Option<Rate>);

/// The limits that hold steps of a task, by step: all that do now; or the one that did when it was looked at,
/// if it has room by now.
pub async fn that_hold(
    store: &Store,
    task: TaskId,
    template: &Template,
) -> Result<HashMap<Ordinal, Vec<Hold>>, StoreError> {
    let mut holds: HashMap<Ordinal, Vec<Hold>> = HashMap::new();
    let mut known: HashMap<Seen, Hold> = HashMap::new();
    for held in store.limits_that_hold(task).await? {
        let Some(step) = template.step(held.declared) else { continue };
        let mut of_step = Vec::new();
        let mut has_room = None;
        for (limited, limit) in limited(&step.limits, &held.limit_values) {
            let seen = (step.queue.clone(), limited.clone(), limit.max_concurrent, limit.rate);
            let hold = match known.get(&seen) {
                Some(hold) => hold.clone(),
                None => {
                    let hold = look(store, &step.queue, &limited, limit).await?;
                    known.insert(seen, hold.clone());
                    hold
                }
            };
            if hold.is_full() || hold.rate_is_used_up() {
                of_step.push(hold);
            } else if limited == held.by {
                has_room = Some(hold);
            }
        }
        if of_step.is_empty() {
            of_step.extend(has_room);
        }
        holds.insert(held.ordinal, of_step);
    }
    Ok(holds)
}

impl Hold {
    /// Whether as many steps run as may.
    pub fn is_full(&self) -> bool {
        let v1::LimitUse { max_concurrent, running, .. } = self.usage;
        max_concurrent > 0 && running >= max_concurrent
    }

    /// Whether as many steps have begun in its time as may.
    pub fn rate_is_used_up(&self) -> bool {
        let v1::LimitUse { rate_count, begun, .. } = self.usage;
        rate_count > 0 && begun >= rate_count
    }
}

/// What is in use of one limit.
async fn look(
    store: &Store,
    queue: &str,
    limited: &Limited,
    limit: &Limit,
) -> Result<Hold, StoreError> {
    let per = limit.rate.map(Rate::per);
    let asked = Asked::from([(limited.clone(), BTreeSet::from_iter(per))]);
    let usage = store.usage(queue, &asked).await?;
    let holders = store.holders_of_limit(queue, limited, HOLDERS).await?;
    let count = |count: u64| i32::try_from(count).unwrap_or(i32::MAX);
    let (begun, counts_for) = per.map(|per| usage.begun(limited, per)).unwrap_or_default();
    let holder = |(task, step_name): (TaskId, String)| v1::LimitHolder {
        task_id: task.to_string(),
        step_name,
    };
    let usage = v1::LimitUse {
        name: limited.name.clone(),
        value: limited.value.clone(),
        max_concurrent: count(limit.max_concurrent.unwrap_or_default().into()),
        running: count(usage.running(limited)),
        rate_count: count(limit.rate.map_or(0, |rate| rate.count).into()),
        rate_time: per.map(time::duration),
        begun: count(begun),
        holders: holders.into_iter().map(holder).collect(),
    };
    let mut hold = Hold { usage, until: None };
    if hold.rate_is_used_up() {
        let left = counts_for.and_then(|left| TimeDelta::from_std(left).ok());
        hold.until = left.map(|left| Utc::now() + left);
    }
    Ok(hold)
}
