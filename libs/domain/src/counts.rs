//! How many of a task's steps are where.

/// Kept with the task and changed with each step, so that nothing reads the graph again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct StepCounts {
    /// All of them.
    pub total: i32,
    /// Pending without an unmet dependency: not yet in a queue.
    pub ready: i32,
    /// Of those that are ready, how many a pause or a limit holds: they do not move by themselves.
    pub held: i32,
    /// In a queue, at a worker, or being judged.
    pub in_flight: i32,
    /// Until their back-off is over.
    pub waiting_for_retry: i32,
    /// In `error`.
    pub failed: i32,
    /// Complete or resolved manually.
    pub satisfied: i32,
}

impl StepCounts {
    /// How many are ready and about to be enqueued. Counted too often as held, none is.
    #[must_use]
    pub fn to_enqueue(&self) -> i32 {
        (self.ready - self.held).max(0)
    }
}
