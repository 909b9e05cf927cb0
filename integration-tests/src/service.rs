//! The five services.

/// One of the five services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Service {
    /// Where clients and workers come in.
    Gateway,
    /// Makes tasks.
    TaskRequest,
    /// Gives steps to workers.
    StepEnqueuer,
    /// Judges results.
    ResultProcessor,
    /// Ends tasks, and tells who watches.
    Finalizer,
}

impl Service {
    /// All of them, those behind the gateway first.
    pub const ALL: [Self; 5] = [
        Self::TaskRequest,
        Self::StepEnqueuer,
        Self::ResultProcessor,
        Self::Finalizer,
        Self::Gateway,
    ];

    /// For example `step-enqueuer`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::TaskRequest => "task-request",
            Self::StepEnqueuer => "step-enqueuer",
            Self::ResultProcessor => "result-processor",
            Self::Finalizer => "finalizer",
        }
    }

    /// Its variable for a field of its own section.
    pub(crate) fn variable(self, field: &str) -> String {
        let section = self.name().replace('-', "_").to_uppercase();
        format!("TASKER_{section}__{}", field.to_uppercase())
    }
}
