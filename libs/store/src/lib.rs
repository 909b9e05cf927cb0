//! PostgreSQL: the schema in `migrations/`, a file for each statement that writes in `sql/<table>/`,
//! and a Rust file for each table.
//!
//! Every write takes a batch: one item and a thousand are the same work, one round trip and one
//! commit. Every move is judged by the machine under the row's lock, in the statement that makes it,
//! which also writes its history. Locks are taken in one order: tasks by id, then steps by ordinal.

mod announce;
mod batches;
mod deliveries;
mod domain_events;
mod error;
mod leases;
mod lines;
mod messages;
mod migrate;
mod payload;
mod pool;
mod reconcile;
mod steps;
mod tasks;
mod templates;
mod transitions;
mod worker_sessions;

pub use announce::{Announcement, CHANNEL};
pub use batches::{Batch, Waiting, WorkerResults};
pub use deliveries::Content;
pub use domain_events::{AnnouncedEvents, DomainEvent, EventError, EventPayload, TemplateOfEvent};
pub use error::StoreError;
pub use leases::{Adopted, Lost};
pub use messages::{Finalization, Queued, QueuedResult, ReadyStep, WaitingStep};
pub use migrate::{migrate, schema_fingerprint, schema_version};
pub use payload::Payload;
pub use pool::{Options, Store};
pub use reconcile::Findings;
pub use steps::{
    Held, Verdict,
    admit::ToAdmit,
    complete::{Completion, Judged, Place, Said},
    enqueue::{Enqueued, ToEnqueue},
    expand::{NewStep, Standing, ToExpand},
    expire::Expiry,
    fail::Failure,
    fail_batch::ToFail,
    pass_over::PassedOver,
    queue_result::ToQueue,
    read::{StepOutcome, StepRow},
    release::ToRelease,
    repair::{Outcome, Refusal, Remedy, Repaired, ToRepair},
    retry::Retried,
    settle::{Locked, Settlement, ToLock},
    start::{Started, ToStart},
};
pub use tasks::{
    create::{Born, NewTask, Unborn},
    end::{Ended, Ending, ToEnd},
    finalize::Finalized,
    read::{TaskDetails, TaskFilter, TaskRow},
    rerun::{Rerun, ToRerun},
};
pub use templates::{Registered, TemplateName, TemplateRow};
pub use transitions::{Transition, TransitionKind};
