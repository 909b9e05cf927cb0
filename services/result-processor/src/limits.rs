//! What is in use of the limits that hold a task's steps.

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, TimeDelta, Utc};
use tasker_api::{time, v1};
use tasker_domain::{Ordinal, TaskId, Template, usage::Limited};
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

/// The limits that hold steps of a task, by step.
pub async fn that_hold(
    store: &Store,
    task: TaskId,
    template: &Template,
) -> Result<HashMap<Ordinal, Hold>, StoreError> {
    let mut holds: HashMap<Ordinal, Hold> = HashMap::new();
    let mut known: HashMap<Limited, Hold> = HashMap::new();
    for (ordinal, limited) in store.limits_that_hold(task).await? {
        let hold = match known.get(&limited) {
            Some(hold) => hold.clone(),
            None => {
                let Some(hold) = look(store, template, ordinal, &limited).await? else { continue };
                known.insert(limited, hold.clone());
                hold
            }
        };
        holds.insert(ordinal, hold);
    }
    Ok(holds)
}

/// What is in use of one limit; nothing if the step has no such limit.
async fn look(
    store: &Store,
    template: &Template,
    ordinal: Ordinal,
    limited: &Limited,
) -> Result<Option<Hold>, StoreError> {
    let Some(step) = template.step(ordinal) else { return Ok(None) };
    let Some(limit) = step.limits.iter().find(|limit| limit.name == limited.name) else {
        return Ok(None);
    };
    let per = limit.rate.map(tasker_domain::template::limit::Rate::per);
    let asked = Asked::from([(limited.clone(), BTreeSet::from_iter(per))]);
    let usage = store.usage(&step.queue, &asked).await?;
    let holders = store.holders_of_limit(&step.queue, limited, HOLDERS).await?;
    let count = |count: u64| i32::try_from(count).unwrap_or(i32::MAX);
    let (begun, counts_for) = per.map(|per| usage.begun(limited, per)).unwrap_or_default();
    let rate_count = limit.rate.map_or(0, |rate| rate.count);
    let full = limit.rate.is_some() && begun >= rate_count.into();
    let holder = |(task, step_name): (TaskId, String)| v1::LimitHolder {
        task_id: task.to_string(),
        step_name,
    };
    let usage = v1::LimitUse {
        name: limited.name.clone(),
        value: limited.value.clone(),
        max_concurrent: count(limit.max_concurrent.unwrap_or_default().into()),
        running: count(usage.running(limited)),
        rate_count: count(rate_count.into()),
        rate_time: per.map(time::duration),
        begun: count(begun),
        holders: holders.into_iter().map(holder).collect(),
    };
    let until = TimeDelta::from_std(counts_for).ok().filter(|_| full);
    Ok(Some(Hold { usage, until: until.map(|left| Utc::now() + left) }))
}
