//! What task-request is told, read before anything is opened.

use std::net::{Ipv4Addr, SocketAddr};

use serde::Deserialize;
use tasker_runtime::config::{Error, Source};
use tasker_stage::{Bounded, StageConfig};

const MAX_BACKLOG: u32 = 10_000_000;
/// The longest name of an environment.
const MAX_ENVIRONMENT: usize = 128;

/// The sections `task_request`, `database` and `mesh`.
pub type Config = StageConfig<Section>;

/// `[task_request]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Section {
    /// Where the gateway connects; default `127.0.0.1:7701`.
    pub listen: SocketAddr,
    /// Tasks born in one transaction; 1 to 10,000, default 500.
    pub max_batch: u32,
    /// Requests that may wait, more are refused; 1 to 1,000,000, default 5,000.
    pub max_waiting: u32,
    /// Transactions at once; 1 to 16, default 1.
    pub lanes: u32,
    /// Steps that may wait for workers in one namespace, more tasks are refused; 1 to 10,000,000,
    /// default 100,000.
    pub max_backlog: u32,
    /// What templates that are registered here are told of where they are, such as `production`: at most
    /// 128 bytes, default empty. A version keeps the environment that it was registered in.
    pub environment: String,
}

impl Default for Section {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7701)),
            max_batch: 500,
            max_waiting: 5_000,
            lanes: 1,
            max_backlog: 100_000,
            environment: String::new(),
        }
    }
}

impl tasker_stage::Section for Section {
    const NAME: &'static str = "task_request";

    fn bounded(&self) -> Bounded {
        let Self { max_batch, max_waiting, lanes, .. } = *self;
        Bounded { max_batch, max_waiting, lanes }
    }

    fn check(&self, source: &Source) -> Result<(), Error> {
        if !(1..=MAX_BACKLOG).contains(&self.max_backlog) {
            let what = format!("give 1 to {MAX_BACKLOG}");
            return Err(source.invalid("task_request.max_backlog", what));
        }
        if self.environment.len() > MAX_ENVIRONMENT {
            let what = format!("give at most {MAX_ENVIRONMENT} bytes");
            return Err(source.invalid("task_request.environment", what));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tasker_testing::{reference, refuses_zero};

    use super::*;

    #[test]
    fn the_reference_shows_the_defaults() {
        assert_eq!(reference(Config::load).section, Section::default());
    }

    #[test]
    fn a_wrong_bound_is_refused_by_its_name() {
        refuses_zero(Config::load, &["task_request.lanes", "task_request.max_backlog"]);
    }
}
