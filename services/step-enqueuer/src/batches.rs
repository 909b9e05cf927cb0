//! What deliveries carry of batches: what a worker works on, and what became of the workers that a step
//! has waited for.

use std::collections::HashMap;

use tasker_domain::template::Kind;
use tasker_store::{Content, Held, Started, Store, StoreError, Waiting};
use uuid::Uuid;

use crate::deliver::Match;

/// Adds it to the contents of deliveries that have to do with batches.
pub async fn add(
    store: &Store,
    started: &[(Started, Match)],
    contents: &mut HashMap<Uuid, Content>,
) -> Result<(), StoreError> {
    let workers: Vec<Held> = started
        .iter()
        .filter(|(_, found)| found.step().is_some_and(|step| step.kind == Kind::BatchWorker))
        .map(|(started, _)| started.held)
        .collect();
    if !workers.is_empty() {
        for (delivery, batch) in store.batches(&workers).await? {
            contents.entry(delivery).or_default().batch = Some(batch);
        }
    }
    let waiting: Vec<Waiting> = started.iter().flat_map(waits_for).collect();
    if !waiting.is_empty() {
        for (delivery, results) in store.worker_results(&waiting).await? {
            contents.entry(delivery).or_default().worker_results.extend(results);
        }
    }
    Ok(())
}

/// The batches that a step has waited for.
fn waits_for((started, found): &(Started, Match)) -> impl Iterator<Item = Waiting> {
    let template = &found.task.template;
    let first = i32::try_from(template.steps.len()).expect("a template's size is bounded");
    let carried = template.dependency_results(found.declared).into_iter();
    let workers = carried.filter(move |declared| {
        template.step(*declared).is_some_and(|step| step.kind == Kind::BatchWorker)
    });
    workers.map(move |declared| Waiting { held: started.held, declared, first })
}
