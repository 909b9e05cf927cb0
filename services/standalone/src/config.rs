//! What standalone is told, read before anything is opened.

use std::{collections::BTreeMap, path::PathBuf};

use serde::Deserialize;
use tasker_runtime::config::{Drain, Error, Source};

/// The sections `standalone`, `drain` and `database`, and all that the services read.
#[derive(Clone, Debug)]
pub struct Config {
    /// What is standalone's own.
    pub standalone: Section,
    /// How the services end.
    pub drain: Drain,
    /// The database to use instead of one of our own.
    pub database_url: Option<String>,
    /// Connections of each kind for each stage.
    pub max_connections: u32,
    /// What the gateway is told.
    pub gateway: tasker_gateway::Section,
}

/// `[standalone]`: the whole mesh in one process.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Section {
    /// Where its own PostgreSQL lives, in the folder `database` below it; default `.tasker`.
    pub data_dir: PathBuf,
    /// Where the gateway's URL is written, and a line feed, when all is ready; may be a FIFO; default
    /// nowhere.
    pub ready_file: Option<PathBuf>,
    /// A folder of YAML files to register as templates before it is ready; default none.
    pub templates: Option<PathBuf>,
    /// Settings of its own PostgreSQL beside those that it is given anyway, which are logged.
    pub postgres: BTreeMap<String, String>,
}

impl Default for Section {
    fn default() -> Self {
        Self {
            data_dir: ".tasker".into(),
            ready_file: None,
            templates: None,
            postgres: BTreeMap::new(),
        }
    }
}

impl Config {
    /// Reads the sections, and those of all services.
    ///
    /// # Errors
    ///
    /// If a field is unknown or has a wrong value.
    pub fn load(source: &Source) -> Result<Self, Error> {
        let standalone: Section = source.section("standalone")?;
        if let Some((field, problem)) = standalone.problem() {
            return Err(source.invalid(field, problem));
        }
        let database: tasker_runtime::config::Database = source.section("database")?;
        tasker_task_request::Config::load(source)?;
        tasker_step_enqueuer::Config::load(source)?;
        tasker_result_processor::Config::load(source)?;
        tasker_finalizer::Config::load(source)?;
        Ok(Self {
            standalone,
            drain: source.section("drain")?,
            database_url: source.is_set("database.url").then_some(database.url),
            max_connections: database.max_connections,
            gateway: tasker_gateway::Config::load(source)?.gateway,
        })
    }
}

impl Section {
    fn problem(&self) -> Option<(&'static str, String)> {
        if let Some(folder) = self.templates.as_deref().filter(|folder| !folder.is_dir()) {
            let problem = format!("there is no folder {}", folder.display());
            return Some(("standalone.templates", problem));
        }
        let folder = self.ready_file.as_deref().and_then(|file| file.parent());
        let missing = folder.filter(|folder| !folder.as_os_str().is_empty() && !folder.is_dir())?;
        Some(("standalone.ready_file", format!("there is no folder {}", missing.display())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(flags: &[&str]) -> Result<Config, Error> {
        Config::load(&Source::from_parts(flags.iter().map(ToString::to_string), [])?)
    }

    #[test]
    fn nothing_needs_to_be_set() {
        let config = load(&[]).unwrap();
        assert_eq!((config.standalone, config.database_url), (Section::default(), None));
    }

    #[test]
    fn the_reference_shows_the_defaults() {
        let config = tasker_testing::reference(Config::load);
        assert_eq!(config.standalone, Section::default());
        assert_eq!(config.gateway, tasker_gateway::Section::default());
    }

    #[test]
    fn a_wrong_value_of_any_service_is_refused_by_name() {
        for (flag, field) in [
            ("--standalone.templates=/nowhere", "standalone.templates"),
            ("--standalone.ready_file=/nowhere/ready", "standalone.ready_file"),
            ("--standalone.colour=red", "standalone.colour"),
            ("--gateway.listen=here", "gateway.listen"),
            ("--task_request.lanes=0", "task_request.lanes"),
            ("--database.max_connections=few", "database.max_connections"),
        ] {
            let error = load(&[flag]).unwrap_err().to_string();
            assert!(error.starts_with(&format!("`{field}` is wrong")), "{error}");
        }
    }

    #[test]
    fn settings_of_the_database_may_be_added() {
        let config = load(&["--standalone.postgres.work_mem=8MB"]).unwrap();
        assert_eq!(config.standalone.postgres["work_mem"], "8MB");
    }
}
