//! What step-enqueuer is told, read before anything is opened.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use serde::Deserialize;
use tasker_runtime::config::{Error, Source};
use tasker_stage::{Bounded, StageConfig};

/// The sections `step_enqueuer`, `database` and `mesh`.
pub type Config = StageConfig<Section>;

/// `[step_enqueuer]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Section {
    /// Where the gateway and the other stages connect; default `127.0.0.1:7702`.
    pub listen: SocketAddr,
    /// Steps enqueued in one transaction; 1 to 10,000, default 500.
    pub max_batch: u32,
    /// Ready steps that may wait, more are read from the queue; 1 to 1,000,000, default 20,000.
    pub max_waiting: u32,
    /// Transactions at once; 1 to 16, default 1.
    pub lanes: u32,
    /// Within what time a dead worker's steps are back in their queue; 1 s to 1 h, default 15 s.
    #[serde(with = "humantime_serde")]
    pub session_ttl: Duration,
}

impl Default for Section {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7702)),
            max_batch: 500,
            max_waiting: 20_000,
            lanes: 1,
            session_ttl: Duration::from_secs(15),
        }
    }
}

impl tasker_stage::Section for Section {
    const NAME: &'static str = "step_enqueuer";

    fn bounded(&self) -> Bounded {
        let Self { max_batch, max_waiting, lanes, .. } = *self;
        Bounded { max_batch, max_waiting, lanes }
    }

    fn check(&self, source: &Source) -> Result<(), Error> {
        if !(Duration::from_secs(1)..=Duration::from_secs(3600)).contains(&self.session_ttl) {
            return Err(source.invalid("step_enqueuer.session_ttl", "give 1s to 1h"));
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
        let error =
            Config::load(&source("", &["--step_enqueuer.lanes=0"])).unwrap_err().to_string();
        assert!(error.contains("step_enqueuer.lanes"), "{error}");
    }
}
