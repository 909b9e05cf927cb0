//! What may go wrong, and who may step in.

use crate::database::{Delivery, Message};

/// Something that nobody asked for. The checker allows so many of them in one life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// `kill -9` of a worker: what it ran is gone, and its session ends.
    KillWorker(usize),
    /// A worker hangs or is cut off until its session has ended; what it runs goes on.
    CutWorkerOff(usize),
    /// Whoever was to tell the worker of its delivery died after the commit, or the stream was cut.
    LoseDelivery(Delivery),
    /// A delivery goes back: it was nacked, or its acknowledgement came too late, or never.
    GiveBack(Delivery),
    /// An attempt takes longer than its step's timeout; what the worker does goes on.
    TimeOut(Delivery),
    /// A replica has this step begin here that it has seen held by its limit, however long ago that was.
    AdmitLate { step: usize, worker: usize },
    /// Whoever resumed a template dies before he lets go what was held.
    LoseLettingGo,
    /// A message comes twice, as other brokers may bring it.
    DoubleMessage(Message),
    /// A message is lost: by another broker, or by somebody's hand.
    LoseMessage(Message),
    /// The database crashes: what was not flushed has not happened.
    CrashDatabase,
}

/// What an operator, or a limit, may ask for at any time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Intervention {
    /// Ends the task.
    Cancel,
    /// Ends the task: it has taken longer than it may.
    Timeout,
    /// Ends a blocked task: failed for good.
    GiveUp,
    /// Ends a blocked task: settled outside.
    ManualResolution,
    /// Gives a failed step another life, and with it a task that had failed.
    ResetForRetry(usize),
    /// Gives a step its result, which may choose others.
    CompleteManually { step: usize, chosen: Vec<usize> },
    /// Settles a step without a result: none that decides.
    ResolveManually(usize),
}
