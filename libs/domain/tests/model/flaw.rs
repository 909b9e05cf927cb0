//! What could have been built wrong.

/// Makes of the model a twin that breaks a promise, so that it is seen that the checker would notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Flaw {
    /// A result is taken for a step in progress, whoever it comes from.
    NoFence,
    /// A queued failure is judged if its step could fail, and not only if it waits for that.
    AsksForTheVerdict,
    /// Children are counted down by their parent's judge after its commit.
    CountsAfterTheCommit,
    /// The end of a lease gives its attempt back, as a release does.
    LostLeasesAreFree,
    /// The last result of what moves ends the task well, whatever has failed beside it.
    EndsWithWhatMovesLast,
    /// A finalization ends the task well without a look at its counts.
    FinalizesUnseen,
    /// The end of a task leaves its steps as they are.
    EndsOnlyTheTask,
    /// A reopened step that was cut off in its last attempt may begin another.
    ReopensWhatIsSpent,
    /// Deliveries are numbered by the database, which a crash sets back.
    CountedDeliveries,
    /// A result brings its child a place though the task is paused.
    PlacesPassThePause,
    /// A step that is held counts as ready, and no more.
    HoldsUncounted,
    /// A resume does not send again what the pause held.
    ResumesAlone,
    /// Replicas judge what is in use of the limit before they have its lock.
    JudgesBeforeTheLock,
    /// A limited step that was given back begins from its queue, without a slot.
    BeginsFromItsQueue,
    /// A slot is given back by the statement that takes its step's result, and not counted.
    SlotsAreGivenBack,
    /// A rate counts what runs, and forgets what has begun and ended.
    RatesCountWhatRuns,
    /// A rate lets all that it may have begin when the time of the first is over: a bucket, and no window.
    RatesAreRefilled,
    /// A rate counts whatever has begun, however long ago.
    RatesCountForEver,
    /// Who begins steps looks at the pauses of templates before he has their lock.
    JudgesPausesBeforeTheirLock,
    /// A batch that fails fast takes a worker that has yielded for one that has not begun.
    CutsOffWhatHasYielded,
    /// A worker that fails for good keeps its place in the batch.
    FailuresKeepTheirPlace,
    /// A worker that is to be tried again leaves its place, and does not ask for another.
    RetriesLeaveTheirPlace,
    /// A batch that fails fast gives the failed worker's place to the next, as others do.
    GoesOnAfterAFailure,
    /// A worker that an operator resets begins at once, wherever the others are.
    RepairsAskForNoPlace,
}
