//! What tests stand on. For tests only.
//!
//! [`TestDatabase`] gives each test a database of its own, on one PostgreSQL server that all test
//! processes share. The first that needs it starts it below the target folder; it runs on until
//! `scripts/test` ends, or for the next run by hand. It does not wait for the disk: a test of what
//! survives a crash starts its own `PrivatePostgres`.
//!
//! [`settings`] are those of a process, for the tests of what it makes of them.

mod database;
mod server;
mod settings;

pub use database::TestDatabase;
pub use settings::{reference, refuses_zero, settings};
