//! What the statements that write have in common: the messages that they send, and how PostgreSQL goes
//! about them.

#![expect(clippy::unwrap_used, reason = "in a test, it is how a promise fails")]

mod counted;
mod explained;
mod hot;
mod messages;
mod plans;
