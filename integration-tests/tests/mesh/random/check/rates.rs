//! No more steps begin in a time than a rate says, in all tasks together, and a limit counts each that begins.

use std::collections::BTreeMap;

use tasker_integration_tests::{Grant, Record};

use super::begins;
use crate::random::plan::{LIMITS, Plan, Rate};

/// The most that began in the time of its rate, by limit and value of its key.
pub(in super::super) fn most(grants: &[Grant]) -> BTreeMap<(&'static str, &str), usize> {
    let mut most = BTreeMap::new();
    for limit in &LIMITS {
        let Some(Rate { seconds, .. }) = limit.rate else { continue };
        let time_us = i64::from(seconds) * 1_000_000;
        let mut times: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
        for grant in grants.iter().filter(|grant| grant.limit == limit.name) {
            times.entry(&grant.value).or_default().push(grant.at_us);
        }
        for (value, mut times) in times {
            times.sort_unstable();
            let until = |from: i64| times.partition_point(|at| *at < from + time_us);
            let began = times.iter().enumerate().map(|(nth, from)| until(*from) - nth);
            most.insert((limit.name, value), began.max().unwrap_or_default());
        }
    }
    most
}

/// Says which rates were not kept, and whose begins were not counted.
pub(in super::super) fn wrong<'a>(
    tasks: impl IntoIterator<Item = (&'a Plan, &'a Record)>,
    grants: &[Grant],
) -> Vec<String> {
    let mut wrong = uncounted(tasks, grants);
    for ((name, value), most) in most(grants) {
        let rate = LIMITS.iter().find(|limit| limit.name == name).and_then(|limit| limit.rate);
        if rate.is_some_and(|rate| most > rate.count) {
            wrong.push(format!("{most} began in a time of {name} {value:?}"));
        }
    }
    wrong
}

/// Steps that have begun more often than one of their limits has counted, or less.
fn uncounted<'a>(
    tasks: impl IntoIterator<Item = (&'a Plan, &'a Record)>,
    grants: &[Grant],
) -> Vec<String> {
    type Key<'a> = (&'a str, &'a str, &'a str, &'a str);
    // By task, step, limit and value: how often it has begun, and how often that was counted.
    let mut times: BTreeMap<Key<'_>, (usize, usize)> = BTreeMap::new();
    for (plan, record) in tasks {
        for it in record.moves.iter().filter(|it| begins(it)) {
            let limits = plan.step_of(&it.step).map(|step| step.limits.as_slice());
            for limit in limits.unwrap_or_default() {
                let limit = &LIMITS[*limit];
                let key =
                    (record.task_id.as_str(), it.step.as_str(), limit.name, limit.value(plan));
                times.entry(key).or_default().0 += 1;
            }
        }
    }
    for grant in grants {
        let key = (&*grant.task_id, &*grant.step, &*grant.limit, &*grant.value);
        times.entry(key).or_default().1 += 1;
    }
    let differ = times.into_iter().filter(|(_, (begun, counted))| begun != counted);
    differ
        .map(|((task, step, limit, value), (begun, counted))| {
            let what = format!("{step} of {task} has begun {begun} times");
            format!("{what}, and {limit} {value:?} has counted {counted}")
        })
        .collect()
}
