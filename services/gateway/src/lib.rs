//! Where clients and workers come in.
//!
//! Owns nothing: no database, no transition, no rule. It is a table of routes, read at start from the
//! options in the proto files: a new RPC there is a new route here, with no code.
//!
//! Messages are never decoded. They stream through both ways, with their metadata and trailers;
//! a deadline is kept and passed on, a cancelled call is cancelled where it is served, and a message
//! over the limit goes no further. Only HealthService is answered here.

mod answer;
mod config;
mod forward;
mod frames;
mod front;
mod gateway;
mod health_service;
mod metadata;
mod refusal;
pub mod routes;
#[cfg(test)]
mod tests;
mod timeout;

pub use self::{
    config::{Config, Section},
    gateway::Gateway,
};
