//! Works off what was read from a queue.

use std::error::Error as _;

use tasker_stack::gather::{Gather, Refused, Stage};
use tasker_store::{Store, StoreError};

/// What became of messages.
#[derive(Debug)]
pub struct WorkedOff<A> {
    /// Whether none has to be read again, so that there may be more.
    pub all_well: bool,
    /// What the stage said of each that it took.
    pub answers: Vec<(i64, A)>,
}

/// Has a stage work off messages that were read from `queue`; each item goes with its message's id.
///
/// Items wait for their turn, so that a message is counted as read only when it is really tried. One
/// that fails by its own fault is parked with the reason; the others are read again if they failed.
/// Says what became of the others, each by its message's id.
///
/// # Errors
/// The database is not available.
pub async fn work_off<S: Stage<Error = StoreError>>(
    store: &Store,
    queue: &'static str,
    items: Vec<(i64, S::Item)>,
    stage: &Gather<S>,
) -> Result<WorkedOff<S::Answer>, StoreError> {
    let (ids, items): (Vec<i64>, Vec<S::Item>) = items.into_iter().unzip();
    let mut worked_off = WorkedOff { all_well: true, answers: Vec::new() };
    for (id, answer) in ids.into_iter().zip(stage.call_in_turn(items).await) {
        match answer {
            Ok(answer) => worked_off.answers.push((id, answer)),
            Err(Refused::Failed(error)) if !error.is_unavailable() => {
                let source = error.source().map(|source| format!(": {source}")).unwrap_or_default();
                store.park(queue, id, &format!("{error}{source}")).await?;
            }
            Err(Refused::Panicked) => store.park(queue, id, "the stage panicked over it").await?,
            Err(_) => worked_off.all_well = false,
        }
    }
    Ok(worked_off)
}
