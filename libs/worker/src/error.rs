//! Why a worker does not run.

/// Why a worker could not be built, or has stopped running.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// A setting is out of its range.
    #[error("{setting}: {problem}")]
    Setting {
        /// Which, for example `concurrency`.
        setting: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The gateway's address is not one.
    #[error(transparent)]
    Gateway(tasker_client::Error),
    /// The mesh will not have this worker; connecting again would not help.
    #[error("the mesh refuses this worker")]
    Refused(#[source] tasker_client::Error),
    /// The worker was asked to stop, and could not hand in or give back all it held in time.
    ///
    /// Nothing is lost: the leases run out, and others do the steps.
    #[error("stopped while still holding {held} deliveries")]
    NotDrained {
        /// How many it still held.
        held: usize,
    },
}
