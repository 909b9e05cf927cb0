//! What every stage is told, read before anything is opened.

use serde::de::DeserializeOwned;
use tasker_runtime::config::{Database, Error, Mesh, Source};
use tasker_stack::gather::Bounds;

use crate::Bounded;

/// A stage's own section.
pub trait Section: DeserializeOwned {
    /// As in a file, for example `task_request`.
    const NAME: &'static str;

    /// How much the stage takes at once.
    fn bounded(&self) -> Bounded;

    /// Refuses what cannot work, naming the field.
    ///
    /// # Errors
    /// A field is out of its range.
    fn check(&self, _source: &Source) -> Result<(), Error> {
        Ok(())
    }
}

/// A stage's own section, `database` and `mesh`.
#[derive(Debug, Clone)]
pub struct StageConfig<S> {
    /// What is the stage's own.
    pub section: S,
    /// Its bounds, checked.
    pub bounds: Bounds,
    /// Where tasks are kept.
    pub database: Database,
    /// Where the other stages are.
    pub mesh: Mesh,
}

impl<S: Section> StageConfig<S> {
    /// Reads the sections.
    ///
    /// # Errors
    /// A field is unknown or has a wrong value.
    pub fn load(source: &Source) -> Result<Self, Error> {
        let section: S = source.section(S::NAME)?;
        let bounds = section.bounded().check(source, S::NAME)?;
        section.check(source)?;
        let (database, mesh) = (source.section("database")?, source.section("mesh")?);
        Ok(Self { section, bounds, database, mesh })
    }
}
