//! What programs get: the contract's messages as JSON.
//!
//! Fields are named as in `proto/`, states are lower case (`in_progress`), times are RFC 3339, and
//! payloads keep every byte. A field that is not set is null, or empty.

mod dlq;
mod event;
mod explanation;
mod health;
mod shared;
mod step;
mod task;
mod template;
mod transition;

pub(crate) use self::{
    dlq::{DlqEntry, DlqInvestigation, DlqReasonStats, StaleTask, TaskHealthReading},
    event::DomainEvent,
    explanation::StepExplanation,
    health::Health,
    step::Step,
    task::{Created, Repaired, RepairedTask, Task},
    template::{Checked, Template},
    transition::{Event, Past},
};
