//! `steps/admit_workers.sql`

use tasker_domain::StepState;

use super::Rules;
use crate::database::{Database, Message};

/// Whether the worker of a batch waits for a place.
pub(crate) fn waits(database: &Database, worker: usize) -> bool {
    database.steps[worker]
        .as_ref()
        .is_some_and(|row| row.state == StepState::Pending && row.unmet_dependencies > 0)
}

/// Whether the worker of a batch has a place.
pub(crate) fn has_place(database: &Database, worker: usize) -> bool {
    database.state(worker).is_some_and(StepState::is_open) && !waits(database, worker)
}

/// Gives the places that others leave to workers that wait for them, in their order. Returns those.
pub(super) fn admit_workers(database: &mut Database, rules: &Rules, leaving: usize) -> Vec<usize> {
    let workers = || rules.graph.workers();
    let Some(batch) = workers().find_map(|worker| rules.graph.batch_of(worker)) else {
        return Vec::new();
    };
    let busy = workers().filter(|worker| has_place(database, *worker)).count();
    let free = batch.parallelism.saturating_sub(busy - leaving);
    let admitted: Vec<usize> = workers().filter(|it| waits(database, *it)).take(free).collect();
    for worker in &admitted {
        if let Some(row) = &mut database.steps[*worker] {
            row.unmet_dependencies = 0;
        }
        database.counts.ready += 1;
        database.send(Message::Ready(*worker));
    }
    admitted
}
