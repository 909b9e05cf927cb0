//! A database of its own for each test.

use std::fmt;

use anyhow::{Context, Result};
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use crate::server::{PREFIX, Server, execute};

/// A database that nobody else uses. Dropped with this value; what a killed test leaves, the next
/// test process drops.
pub struct TestDatabase {
    name: String,
    url: String,
    server: &'static Server,
}

impl TestDatabase {
    /// An empty database.
    ///
    /// # Panics
    ///
    /// Without a server, saying what to do.
    pub async fn empty() -> Self {
        Self::copy("template0").await.unwrap_or_else(|error| panic!("no test database: {error:#}"))
    }

    /// A database with the store's schema, and nothing in it.
    ///
    /// # Panics
    ///
    /// Without a server, saying what to do.
    pub async fn fresh() -> Self {
        let version = tasker_store::schema_fingerprint();
        Self::prepared("store", &version, async |url| Ok(tasker_store::migrate(url).await?)).await
    }

    /// A database as `prepare` makes it, given its URL.
    ///
    /// `prepare` runs once for each `version` of a `schema`, however many tests and processes ask;
    /// the others get a copy. It must leave no connection open. Both names are letters, digits
    /// and `_`.
    ///
    /// # Panics
    ///
    /// Without a server, saying what to do; or as `prepare` fails.
    pub async fn prepared<F>(schema: &str, version: &str, prepare: F) -> Self
    where
        F: AsyncFnOnce(&str) -> Result<()>,
    {
        let made = async {
            let template = template(schema, version, prepare).await?;
            Self::copy(&template).await
        };
        made.await.unwrap_or_else(|error: anyhow::Error| panic!("no test database: {error:#}"))
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.url
    }

    async fn copy(template: &str) -> Result<Self> {
        let server = Server::shared().await?;
        let name = format!("{PREFIX}{}_{}", std::process::id(), Uuid::now_v7().simple());
        let mut connection = server.connect().await?;
        execute(&mut connection, format!("CREATE DATABASE \"{name}\" TEMPLATE \"{template}\""))
            .await?;
        connection.close().await?;
        Ok(Self { url: server.url(&name), name, server })
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let statement = format!("DROP DATABASE IF EXISTS \"{}\" WITH (FORCE)", self.name);
        let server = self.server;
        // Beside the next test: nobody waits for it. The next process drops what this one cannot.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let dropped = runtime.map_err(Into::into).and_then(|runtime| {
                runtime.block_on(async { execute(&mut server.connect().await?, statement).await })
            });
            if let Err(error) = dropped {
                eprintln!("a test database is left behind: {error:#}");
            }
        });
    }
}

impl fmt::Debug for TestDatabase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestDatabase").field("url", &self.url).finish_non_exhaustive()
    }
}

/// The database that tests get copies of: made by the first who asks, while others wait.
async fn template<F>(schema: &str, version: &str, prepare: F) -> Result<String>
where
    F: AsyncFnOnce(&str) -> Result<()>,
{
    let server = Server::shared().await?;
    let family = format!("template_{schema}_");
    let name = format!("{family}{version}");
    let mut connection = server.connect().await?;
    sqlx::query("SELECT pg_advisory_lock(hashtext($1))")
        .bind(&family)
        .execute(&mut connection)
        .await?;
    if !exists(&mut connection, &name).await? {
        drop_family(&mut connection, &family).await?;
        let new = format!("{family}new");
        execute(&mut connection, format!("CREATE DATABASE \"{new}\" TEMPLATE template0")).await?;
        prepare(&server.url(&new)).await.with_context(|| format!("cannot prepare {schema}"))?;
        // A copy needs a template that nobody is connected to.
        execute(&mut connection, format!("ALTER DATABASE \"{new}\" ALLOW_CONNECTIONS false"))
            .await?;
        execute(&mut connection, format!("ALTER DATABASE \"{new}\" RENAME TO \"{name}\"")).await?;
    }
    connection.close().await?;
    Ok(name)
}

async fn exists(connection: &mut PgConnection, name: &str) -> Result<bool> {
    let found =
        sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)").bind(name);
    Ok(found.fetch_one(connection).await?)
}

/// Drops the older versions, and what a killed process left unfinished.
async fn drop_family(connection: &mut PgConnection, family: &str) -> Result<()> {
    let names = sqlx::query_scalar::<_, String>(
        "SELECT datname FROM pg_database WHERE starts_with(datname, $1)",
    );
    for name in names.bind(family).fetch_all(&mut *connection).await? {
        execute(connection, format!("DROP DATABASE IF EXISTS \"{name}\" WITH (FORCE)")).await?;
    }
    Ok(())
}
