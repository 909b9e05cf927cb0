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
mod usage;
mod yield_step;

pub(crate) use admit::admit;
pub(crate) use admit_workers::{has_place, waits};
pub(crate) use complete::{complete, count_down};
pub(crate) use create::create;
pub(crate) use end::end;
pub(crate) use enqueue::enqueue;
pub(crate) use expire::expire;
pub(crate) use fail::fail;
pub(crate) use finalize::finalize;
pub(crate) use pause::{let_go, pause, resume};
pub(crate) use queue_result::queue_result;
pub(crate) use reconcile::{forgotten, held_wrongly, reconcile};
pub(crate) use release::release;
pub(crate) use repair::repair;
pub(crate) use retry::retry;
pub(crate) use start::start;
pub(crate) use usage::{has_room, has_slot, time_passes};
pub(crate) use yield_step::yield_step;

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
    /// Where there is a limit, all steps have it.
    pub(crate) limit: Option<Limit>,
    pub(crate) pauses: Pauses,
    pub(crate) flaw: Option<Flaw>,
}

/// What steps share.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limit {
    /// How many of them may run at once.
    pub(crate) max_concurrent: Option<usize>,
    /// How many may begin in a time.
    pub(crate) rate: Option<usize>,
}

/// What is paused, and resumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pauses {
    /// The task: what was held is let go in the commit that resumes it.
    Task,
    /// Its template: what was held is let go after that commit.
    Template,
}

impl Rules {
    pub(crate) fn max_concurrent(&self) -> Option<usize> {
        self.limit.and_then(|limit| limit.max_concurrent)
    }

    pub(crate) fn rate(&self) -> Option<usize> {
        self.limit.and_then(|limit| limit.rate)
    }
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
