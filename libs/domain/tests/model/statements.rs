//! What the store's statements do to one task: a file for each, as in `libs/store/sql`. A statement is
//! one commit. It judges before it moves anything, and does nothing where the machines do not allow it.

mod admit;
mod admit_workers;
mod complete;
mod create;
mod end;
mod enqueue;
mod expire;
mod fail;
mod fail_batch;
mod finalize;
mod pause;
mod queue_result;
mod reconcile;
mod release;
mod repair;
mod retry;
mod start;

pub(crate) use admit::{admit, has_room};
pub(crate) use admit_workers::{has_place, waits};
pub(crate) use complete::{complete, count_down};
pub(crate) use create::create;
pub(crate) use end::end;
pub(crate) use enqueue::enqueue;
pub(crate) use expire::expire;
pub(crate) use fail::fail;
pub(crate) use finalize::finalize;
pub(crate) use pause::{pause, resume};
pub(crate) use queue_result::queue_result;
pub(crate) use reconcile::{forgotten, held_wrongly, reconcile};
pub(crate) use release::release;
pub(crate) use repair::repair;
pub(crate) use retry::retry;
pub(crate) use start::start;

use crate::{
    database::{Database, Delivery},
    flaw::Flaw,
    graph::Graph,
};

/// What is declared, and what has been built wrong.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    pub(crate) graph: Graph,
    pub(crate) max_attempts: u8,
    /// How many steps may run at once, where there is a limit: then all of them have it.
    pub(crate) limit: Option<usize>,
    pub(crate) flaw: Option<Flaw>,
}

/// How a result comes to its judge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// From a worker that says it holds the step.
    Worker,
    /// From the queue, where it was put behind the same fence.
    Queue,
}

/// Whether a result is of the delivery that the step waits for.
fn is_fenced(database: &Database, rules: &Rules, delivery: Delivery, source: Source) -> bool {
    database.steps[delivery.step].as_ref().is_some_and(|step| match source {
        Source::Worker => step.delivery == Some(delivery) || rules.flaw == Some(Flaw::NoFence),
        Source::Queue => step.accepted == Some(delivery),
    })
}
