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
    /// A finalization ends the task well without a look at its counts.
    FinalizesUnseen,
    /// The end of a task leaves its steps as they are.
    EndsOnlyTheTask,
    /// A reopened step that was cut off in its last attempt may begin another.
    ReopensWhatIsSpent,
    /// Deliveries are numbered by the database, which a crash sets back.
    CountedDeliveries,
}
