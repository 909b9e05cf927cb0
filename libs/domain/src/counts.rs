//! How many of a task's steps are where.

/// Kept with the task and changed with each step, so that nothing reads the graph again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct StepCounts {
    /// All of them.
    pub total: i32,
    /// Pending without an unmet dependency: not yet in a queue.
    pub ready: i32,
    /// In a queue, at a worker, or being judged.
    pub in_flight: i32,
    /// Until their back-off is over.
    pub waiting_for_retry: i32,
    /// In `error`.
    pub failed: i32,
    /// Complete or resolved manually.
    pub satisfied: i32,
}
