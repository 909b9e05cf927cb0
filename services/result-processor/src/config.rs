//! What result-processor is told, read before anything is opened.

use std::net::{Ipv4Addr, SocketAddr};

use serde::Deserialize;
use tasker_runtime::config::{Database, Error, Mesh, Source};
use tasker_stack::gather::Bounds;
use tasker_stage::Bounded;

/// The sections `result_processor`, `database` and `mesh`.
#[derive(Debug, Clone)]
pub struct Config {
    /// What is the service's own.
    pub result_processor: Section,
    /// Its bounds, checked.
    pub bounds: Bounds,
    /// Where tasks are kept.
    pub database: Database,
    /// Where the other stages are.
    pub mesh: Mesh,
}

/// `[result_processor]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Section {
    /// Where the gateway and step-enqueuer connect; default `127.0.0.1:7703`.
    pub listen: SocketAddr,
    /// Results judged in one transaction; 1 to 10,000, default 500.
    pub max_batch: u32,
    /// Results that may wait, more are refused; 1 to 1,000,000, default 20,000.
    pub max_waiting: u32,
    /// Transactions at once; 1 to 16, default 2.
    pub lanes: u32,
}

impl Default for Section {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7703)),
            max_batch: 500,
            max_waiting: 20_000,
            lanes: 2,
        }
    }
}

impl Config {
    /// Reads the sections.
    ///
    /// # Errors
    /// A field is unknown or has a wrong value.
    pub fn load(source: &Source) -> Result<Self, Error> {
        let section: Section = source.section("result_processor")?;
        let Section { max_batch, max_waiting, lanes, .. } = section;
        let bounds = Bounded { max_batch, max_waiting, lanes }.check(source, "result_processor")?;
        let (database, mesh) = (source.section("database")?, source.section("mesh")?);
        Ok(Self { result_processor: section, bounds, database, mesh })
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
        assert_eq!(config.result_processor, Section::default());
    }

    #[test]
    fn a_wrong_bound_is_refused_by_its_name() {
        let error =
            Config::load(&source("", &["--result_processor.lanes=0"])).unwrap_err().to_string();
        assert!(error.contains("result_processor.lanes"), "{error}");
    }
}
