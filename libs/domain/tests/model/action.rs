//! One thing that happens.

use crate::{
    database::{Delivery, Outcome},
    fault::{Fault, Intervention},
};

/// One thing that happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// A ready message is worked off: into the worker queue, or to this worker at once.
    Enqueue { step: usize, worker: Option<usize> },
    /// A worker gets a step from its queue.
    Start { step: usize, worker: usize },
    /// A worker answers, once or twice.
    Answer { delivery: Delivery, worker: usize, outcome: Outcome, way: Way, twice: bool },
    /// An answer comes again.
    AnswerAgain { delivery: Delivery, outcome: Outcome, way: Way },
    /// A result is judged from the queue.
    Judge { delivery: Delivery, outcome: Outcome },
    /// A back-off is over.
    Retry { step: usize },
    /// A finalization is worked off.
    Finalize,
    /// A held step is looked at by those who keep the limit: it begins at this worker, if it may.
    Admit { step: usize, worker: usize },
    /// Two replicas do that at the same time, in a twin.
    AdmitTogether { steps: [usize; 2], worker: usize },
    /// The time of a rate is over for the first that it counts.
    TimePasses,
    /// A worker gives a step back that it has begun. Where it keeps it in hand, it answers for it again.
    Yield { delivery: Delivery, worker: usize, keeps: bool },
    /// Somebody has nothing new begin.
    Pause,
    /// Somebody lets it go on.
    Resume,
    /// Who has resumed a template lets go what was held.
    LetGo,
    /// Somebody pauses while a ready message is worked off for this worker, or resumes: in a twin.
    EnqueueMeanwhile { step: usize, worker: usize },
    /// A lease whose session has expired ends.
    Expire { delivery: Delivery },
    /// A worker that has connected again keeps its lease.
    Adopt { delivery: Delivery },
    /// What a living worker was never told of goes back.
    TakeStrayBack { delivery: Delivery },
    /// The database's log reaches the disk.
    Flush,
    /// The reconciler looks.
    Reconcile,
    /// What a service does after its commit, in a twin.
    CountDown { parent: usize },
    /// Something goes wrong.
    Suffer(Fault),
    /// Somebody steps in.
    Intervene(Intervention),
}

/// How a worker's answer is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// By its judge, with a place at this worker for what it may unlock.
    Call { place: Option<usize> },
    /// Into the queue: the judge cannot be reached.
    Queue,
}
