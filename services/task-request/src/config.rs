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
    use std::io::Write as _;

    use tasker_runtime::config::REFERENCE;

    use super::*;

    fn source(text: &str, arguments: &[&str]) -> Source {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let config = format!("--config={}", file.path().display());
        let arguments = std::iter::once(config).chain(arguments.iter().map(ToString::to_string));
        Source::from_parts(arguments, []).unwrap()
    }

    #[test]
    fn the_reference_shows_the_defaults() {
        let config = Config::load(&source(REFERENCE, &[])).unwrap();
        assert_eq!(config.section, Section::default());
    }

    #[test]
    fn a_wrong_bound_is_refused_by_its_name() {
        for field in ["lanes", "max_backlog"] {
            let argument = format!("--task_request.{field}=0");
            let error = Config::load(&source("", &[&argument])).unwrap_err().to_string();
            assert!(error.contains(&format!("task_request.{field}")), "{error}");
        }
    }
}
