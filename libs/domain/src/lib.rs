//! What Tasker Mesh is about, without I/O: ids, states and what moves them, graphs, back-off, templates.
//!
//! The two machines, [`TaskState::after`] and [`StepState::after`], are total functions. The database
//! repeats them as guards in its statements; a test of `tasker-store` keeps the two equal.

pub mod back_off;
pub mod counts;
pub mod dead_letter;
pub mod error;
pub mod event_pattern;
pub mod expand;
pub mod graph;
pub mod id;
pub mod identity;
pub mod json;
pub mod rank;
pub mod rerun;
pub mod step;
pub mod task;
pub mod template;
pub mod usage;

pub use back_off::{BackOff, Strategy};
pub use counts::StepCounts;
pub use dead_letter::{DeadLetterReason, DeadLetterStatus};
pub use error::ErrorKind;
pub use event_pattern::EventPattern;
pub use id::{DeadLetterId, DeliveryId, Ordinal, SessionId, TaskId, TemplateId};
pub use rank::{Ageing, Rank};
pub use step::{StepEvent, StepState};
pub use task::{TaskEvent, TaskState};
pub use template::Template;
