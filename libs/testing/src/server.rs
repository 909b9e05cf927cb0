//! The server that all test processes share.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::{errno::Errno, sys::signal, unistd::Pid};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, postgres::PgConnectOptions};
use tasker_private_postgres::{PrivatePostgres, Settings};
use tokio::sync::OnceCell;

/// A server to use in place of our own: the URL of a database whose user may make others.
const GIVEN: &str = "TASKER_TEST_DATABASE_URL";

/// Taken while leftovers are dropped. Any number, as long as it is this one.
const CLEANING: i64 = 0x7461_736b_6572;

/// Databases of tests begin so, with the process that made them.
pub(crate) const PREFIX: &str = "test_";

static SERVER: OnceCell<Server> = OnceCell::const_new();

/// Where databases are made.
#[derive(Debug, Clone)]
pub(crate) enum Server {
    Given(Box<PgConnectOptions>),
    Private { postgres: std::sync::Arc<PrivatePostgres> },
}

impl Server {
    /// The server of this run, running.
    pub(crate) async fn shared() -> Result<&'static Self> {
        SERVER.get_or_try_init(Self::join).await
    }

    async fn join() -> Result<Self> {
        let server = match std::env::var(GIVEN) {
            Ok(url) => Self::Given(Box::new(
                url.parse().with_context(|| format!("{GIVEN} is no database URL"))?,
            )),
            Err(_) => {
                let postgres = PrivatePostgres::share(settings())
                    .await
                    .context("cannot start a server for tests")?;
                Self::Private { postgres: postgres.into() }
            }
        };
        server.drop_leftovers().await?;
        Ok(server)
    }

    pub(crate) fn url(&self, database: &str) -> String {
        match self {
            Self::Given(options) => {
                options.as_ref().clone().database(database).to_url_lossy().into()
            }
            Self::Private { postgres } => postgres.url(database),
        }
    }

    /// A connection to make and drop databases on.
    pub(crate) async fn connect(&self) -> Result<PgConnection> {
        let connection = match self {
            Self::Given(options) => options.connect().await,
            Self::Private { postgres } => PgConnection::connect(&postgres.url("postgres")).await,
        };
        connection.context("cannot reach the server for tests")
    }

    /// Drops the databases of test processes that are no more.
    async fn drop_leftovers(&self) -> Result<()> {
        let mut connection = self.connect().await?;
        let first = sqlx::query_scalar("SELECT pg_try_advisory_lock($1)").bind(CLEANING);
        if !first.fetch_one(&mut connection).await? {
            return Ok(());
        }
        let names = sqlx::query_scalar::<_, String>(
            "SELECT datname FROM pg_database WHERE starts_with(datname, $1)",
        );
        for name in names.bind(PREFIX).fetch_all(&mut connection).await? {
            if !maker_lives(&name) {
                execute(
                    &mut connection,
                    format!("DROP DATABASE IF EXISTS \"{name}\" WITH (FORCE)"),
                )
                .await?;
            }
        }
        connection.close().await?;
        Ok(())
    }
}

/// Whether the process in `test_<process>_…` still runs.
fn maker_lives(database: &str) -> bool {
    let process = database.strip_prefix(PREFIX).and_then(|rest| rest.split('_').next());
    let Some(process) = process.and_then(|process| process.parse().ok()) else { return true };
    !matches!(signal::kill(Pid::from_raw(process), None), Err(Errno::ESRCH))
}

/// Runs a statement that takes no parameters; its names are ours.
pub(crate) async fn execute(connection: &mut PgConnection, statement: String) -> Result<()> {
    let failed = statement.clone();
    sqlx::query(AssertSqlSafe(statement)).execute(connection).await.context(failed)?;
    Ok(())
}

/// Many connections, little memory, no waiting for the disk.
fn settings() -> Settings {
    let mut settings = Settings::new(target_dir().join("tasker-test-postgres"))
        .with("fsync", "off")
        .with("full_page_writes", "off")
        .with("max_connections", "300")
        .with("shared_buffers", "64MB")
        .with("max_wal_size", "256MB");
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    settings.fallback_binaries = vec![workspace.join(".tasker/postgres/bin")];
    settings
}

/// Cargo's target folder: the one that this test was built into.
fn target_dir() -> PathBuf {
    let program = std::env::current_exe().unwrap_or_default();
    // Cargo marks the folder so that backups leave it out.
    let marked = program.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file());
    marked
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"), Path::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_dead_process_leaves_leftovers() {
        assert!(maker_lives(&format!("test_{}_x", std::process::id())));
        assert!(maker_lives("test_by_hand"));
        // Above the highest process number of any system.
        assert!(!maker_lives("test_2147483646_x"));
    }
}
