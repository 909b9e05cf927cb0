//! PostgreSQL: the schema in `migrations/`, a file for each statement that writes in `sql/<table>/`,
//! and a Rust file for each table.
//!
//! Every write takes a batch: one item and a thousand are the same work, one round trip and one
//! commit. Every move is judged by the machine under the row's lock, in the statement that makes it,
//! which also writes its history. Locks are taken in one order: tasks by id, then steps by ordinal.

mod announce;
mod batches;
mod dead_letters;
mod deliveries;
mod domain_events;
mod error;
mod held_steps;
mod leases;
mod limited_tasks;
mod lines;
mod messages;
mod migrate;
mod pauses;
mod payload;
mod pool;
mod readiness;
mod reconcile;
mod step_checkpoints;
mod steps;
mod tasks;
mod templates;
mod transitions;
mod worker_sessions;

pub use announce::{Announcement, CHANNEL};
pub use batches::{Batch, Waiting, WorkerResults};
pub use dead_letters::{
    CreatedByHand, DeadLetter, DeadLetterCounts, DeadLetterFilter, DeadLetterUpdate, NewDeadLetter,
    QueuePlace, Updated,
};
pub use deliveries::Content;
pub use domain_events::{AnnouncedEvents, DomainEvent, EventError, EventPayload, TemplateOfEvent};
pub use error::StoreError;
pub use held_steps::{Asked, HeldStep, HeldToLimits};
pub use leases::{Adopted, Lease, Lost, LostLeases};
pub use limited_tasks::{Claim, LimitedTask, Look};
pub use messages::{Finalization, Queued, QueuedResult, ReadyStep, WaitingStep};
pub use migrate::{migrate, schema_fingerprint, schema_version};
pub use pauses::{ByHand, LetGo, Pause, Stood};
pub use payload::Payload;
pub use pool::{Options, Store};
pub use readiness::{Obstacle, Readiness};
pub use reconcile::Findings;
pub use step_checkpoints::ToSave;
pub use steps::{
    FastVerdict, Held, Verdict,
    admit::{Admitted, ToAdmit, asked},
    admit_workers::WorkersToAdmit,
    complete::{CompletedTask, Completion, Judged, Place, Said},
    enqueue::{Enqueued, ToEnqueue},
    expand::{NewStep, Standing, ToExpand},
    expire::Expiry,
    fail::Failure,
    fail_batch::ToFail,
    hold::ToHold,
    pass_over::PassedOver,
    queue_result::ToQueue,
    read::{FailedSteps, Saved, StepOutcome, StepRow, StepSaid},
    release::ToRelease,
    repair::{
        Fitness, Outcome, Refusal, Remedy, Repairable, Repaired, SettledByHand, ToRepair, Unfit,
    },
    retry::Retried,
    settle::{EndedStep, FailedByRule, Locked, Settlement, ToLock},
    start::{Backlog, Beyond, Front, SeenWaiting, Started, ToStart},
    yield_steps::{ToYield, Yielded},
};
pub use tasks::{
    create::{Born, NewTask, Unborn},
    end::{Ended, Ending, ToEnd},
    finalize::Finalized,
    read::{TaskDetails, TaskFilter, TaskRow},
    rerun::{Older, Rerun, ToRerun},
    watch::AwaitedTask,
};
pub use templates::{Registered, TemplateName, TemplateRow};
pub use transitions::{Past, PastMove, Transition, TransitionKind};
