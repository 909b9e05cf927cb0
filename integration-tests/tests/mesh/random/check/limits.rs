//! No more steps run at once than a limit says, in all tasks together.

use std::collections::{BTreeMap, BTreeSet};

use tasker_domain::StepEvent;
use tasker_integration_tests::{Move, Record};

use super::{ENDS, begins};
use crate::random::plan::{LIMITS, Plan};

/// What takes a step from its worker.
const LEAVES: [StepEvent; 4] = [
    StepEvent::Release,
    StepEvent::EnqueueForOrchestration,
    StepEvent::EnqueueAsErrorForOrchestration,
    StepEvent::LeaseExpired,
];

/// The most that ran at once, by limit and value of its key.
pub(in super::super) fn most<'a>(
    tasks: impl IntoIterator<Item = (&'a Plan, &'a Record)>,
) -> BTreeMap<(&'static str, String), usize> {
    // A step begins under the lock of its limits, and sees who has left: so their moves have lower numbers.
    let mut moves: Vec<(&Move, &Plan, &Record, usize)> = Vec::new();
    for (plan, record) in tasks {
        for it in &record.moves {
            let step = plan.step_of(&it.step);
            let limits = step.map(|step| step.limits.as_slice()).unwrap_or_default();
            moves.extend(limits.iter().map(|limit| (it, plan, record, *limit)));
        }
    }
    moves.sort_by_key(|(it, ..)| it.id);
    let mut running: BTreeMap<(&str, String), BTreeSet<(&str, &str)>> = BTreeMap::new();
    let mut most: BTreeMap<(&str, String), usize> = BTreeMap::new();
    for (it, plan, record, limit) in moves {
        let limit = &LIMITS[limit];
        let value = limit.value(plan).to_owned();
        let running = running.entry((limit.name, value.clone())).or_default();
        let step = (record.task_id.as_str(), it.step.as_str());
        if begins(it) {
            running.insert(step);
        }
        if it.events.iter().any(|event| LEAVES.contains(event) || ENDS.contains(event)) {
            running.remove(&step);
        }
        let peak = most.entry((limit.name, value)).or_default();
        *peak = (*peak).max(running.len());
    }
    most
}

/// Says which limits were not kept.
pub(in super::super) fn wrong(most: &BTreeMap<(&'static str, String), usize>) -> Vec<String> {
    let allowed = |name: &str| LIMITS.iter().find(|limit| limit.name == name)?.most;
    let over = most.iter().filter(|((name, _), most)| allowed(name).is_some_and(|it| **most > it));
    over.map(|((name, value), most)| format!("{most} at once of {name} {value:?}")).collect()
}
