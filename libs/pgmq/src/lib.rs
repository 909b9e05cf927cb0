//! PGMQ, typed: queues that are tables, so that a message and its cause commit together.
//!
//! Every function takes an executor: give it a transaction, and the message is sent, read or parked
//! with whatever else the transaction does. The statements of `tasker-store` that move steps name the
//! queues' tables themselves, to stay one round trip; this crate is for everything else.

mod install;
mod message;
mod queue;

pub use install::{InstallError, install};
pub use message::Message;
pub use queue::{InvalidName, Queue};
