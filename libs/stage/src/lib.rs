//! What the four stages share: the database, calls to the next stage, announcements, errors.
//!
//! A stage commits, and its messages are the promise. Then it tells the next stage by a call
//! ([`Hints`]) and whoever watches by an announcement ([`Announcer`]); both may get lost.

mod announcer;
mod bounds;
mod config;
mod database;
mod errors;
mod hints;
mod next;
pub mod result;
pub mod said;
pub mod wire;
mod work_off;

pub use announcer::Announcer;
pub use bounds::Bounded;
pub use config::{Section, StageConfig};
pub use database::Database;
pub use errors::{purged, refused, store_error};
pub use hints::Hints;
pub use next::{Finalizer, step_enqueuer};
pub use work_off::{WorkedOff, work_off};
