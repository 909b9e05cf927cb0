//! The database: the one that is given, or one of our own.

use anyhow::Context as _;
use tasker_private_postgres::{PrivatePostgres, Settings};
use tracing::info;

use crate::Config;

/// The name of the database in our own server.
const NAME: &str = "tasker";

/// Stages, each with a pool of durable and a pool of relaxed connections.
const POOLS: u32 = 4 * 2;
/// For operators, and for what the stages listen on.
const SPARE_CONNECTIONS: u32 = 36;

/// Where tasks are kept.
#[derive(Debug)]
pub(crate) enum Database {
    Given { url: String },
    Private(Box<PrivatePostgres>),
}

impl Database {
    /// Starts our own server where none is given.
    pub(crate) async fn open(config: &Config) -> anyhow::Result<Self> {
        if let Some(url) = config.database_url.clone() {
            return Ok(Self::Given { url });
        }
        let settings = settings(config);
        let told: Vec<_> =
            settings.settings.iter().map(|(name, value)| format!("{name} = {value}")).collect();
        info!("PostgreSQL in {}: {}", settings.data_dir.display(), told.join(", "));
        let postgres = PrivatePostgres::start(settings).await?;
        postgres.create_database(NAME).await?;
        Ok(Self::Private(Box::new(postgres)))
    }

    /// Brings it to our schema.
    pub(crate) async fn migrate(&self) -> anyhow::Result<()> {
        tasker_store::migrate(&self.url()).await.context("cannot bring the database to our schema")
    }

    pub(crate) fn url(&self) -> String {
        match self {
            Self::Given { url } => url.clone(),
            Self::Private(postgres) => postgres.url(NAME),
        }
    }

    /// Stops it if it is ours.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        match self {
            Self::Given { .. } => Ok(()),
            Self::Private(postgres) => postgres.stop().await.context("cannot stop PostgreSQL"),
        }
    }
}

fn settings(config: &Config) -> Settings {
    let data_dir = &config.standalone.data_dir;
    let connections = config.max_connections.saturating_mul(POOLS) + SPARE_CONNECTIONS;
    let mut settings = Settings::for_a_mesh(data_dir.join("database"))
        .with("max_connections", connections.to_string());
    // Where `scripts/setup` leaves a copy: beside the data, and beside a folder of several.
    let beside = data_dir.parent().map(|folder| folder.join("postgres/bin"));
    settings.fallback_binaries.extend(beside);
    let given = config.standalone.postgres.iter();
    given.fold(settings, |settings, (name, value)| settings.with(name, value))
}

#[cfg(test)]
mod tests {
    use tasker_runtime::config::Source;

    use super::*;

    #[test]
    fn the_server_has_room_for_every_pool() {
        let flags =
            ["--standalone.postgres.work_mem=8MB", "--standalone.postgres.max_wal_size=2GB"];
        let source = Source::from_parts(flags.map(str::to_owned), []).unwrap();
        let settings = settings(&Config::load(&source).unwrap()).settings;
        let value = |wanted: &str| {
            settings.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str())
        };
        assert_eq!(value("max_connections"), Some("100"));
        assert_eq!((value("work_mem"), value("max_wal_size")), (Some("8MB"), Some("2GB")));
        assert_eq!((value("fsync"), value("synchronous_commit")), (Some("on"), Some("on")));
    }
}
