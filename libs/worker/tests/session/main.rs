//! What a worker promises to the mesh and to its handlers, against a mesh that the test speaks for.
#![expect(clippy::unwrap_used, reason = "tests")]

mod bench;
mod checkpoints;
mod drain;
mod fake;
mod handlers;
mod reconnect;
mod results;
