//! The whole mesh in one process: the gateway and the four stages, on loopback, with the same code
//! and the same fields as five deployments.
//!
//! Without `database.url` it runs a PostgreSQL of its own, which ends with it. All is bound before
//! anything serves, and whatever fails while it starts takes down what was started before it.
//!
//! Tests and benches run it in their own process with [`Standalone::start`].

mod announce;
mod config;
mod database;
mod listeners;
mod mesh;
mod program;
mod standalone;
mod templates;

pub use self::{
    config::{Config, Section},
    program::run,
    standalone::{Running, Standalone},
};
