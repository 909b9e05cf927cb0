//! Brings a database to the schema of this code, and refuses one that this code cannot run on.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use sqlx::{PgPool, migrate::Migrator, postgres::PgConnectOptions};

use crate::StoreError;

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// The schema that this code was made for.
#[must_use]
pub fn schema_version() -> i64 {
    MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0)
}

/// Changes whenever the schema of this code does, also while a migration is being written. For tests.
#[must_use]
pub fn schema_fingerprint() -> String {
    let mut hasher = DefaultHasher::new();
    for migration in MIGRATIONS.iter() {
        migration.checksum.hash(&mut hasher);
    }
    format!("{}_{:016x}", schema_version(), hasher.finish())
}

/// Installs PGMQ where it is absent, then whatever of the schema is missing. Again is a no-op.
///
/// # Errors
/// The database cannot be reached, the user may not create tables, or the schema is one that this code cannot run
/// on.
pub async fn migrate(url: &str) -> Result<(), StoreError> {
    let quiet: PgConnectOptions = url.parse()?;
    // PGMQ says what it skips.
    let pool = PgPool::connect_with(quiet.options([("client_min_messages", "warning")])).await?;
    let migrated = migrate_pool(&pool).await;
    pool.close().await;
    migrated
}

async fn migrate_pool(pool: &PgPool) -> Result<(), StoreError> {
    tasker_pgmq::install(pool).await?;
    // What is there may be newer: nothing is missing then.
    if !schema_of(pool).await?.lacks.is_empty() {
        bring_up_to_date(pool).await?;
    }
    check(pool).await?;
    sqlx::query("SELECT maintain_history(2, interval '100 years')").execute(pool).await?;
    Ok(())
}

async fn bring_up_to_date(pool: &PgPool) -> Result<(), StoreError> {
    MIGRATIONS.run(pool).await.map_err(|error| match error {
        sqlx::migrate::MigrateError::Execute(error) => StoreError::from(error),
        other => StoreError::OtherSchema(format!(
            "the schema cannot be brought to version {}: {other}",
            schema_version()
        )),
    })
}

/// Refuses a database whose schema is neither the one that this code was made for nor an expansion of it: during a
/// rolling upgrade, replicas of the version before start on the schema of the next.
pub(crate) async fn check(pool: &PgPool) -> Result<(), StoreError> {
    let schema = schema_of(pool).await?;
    let needed = schema_version();
    if let Some(missing) = schema.lacks.first() {
        let found = schema.version.map_or_else(|| "none".to_owned(), |version| version.to_string());
        return Err(StoreError::OtherSchema(format!(
            "the database has schema version {found} without migration {missing}, this program needs {needed}: \
             run `tasker-ctl migrate`"
        )));
    }
    if let Some(other) = schema.differs.first() {
        return Err(StoreError::OtherSchema(format!(
            "migration {other} of the database is not the one of this program: they are of different builds"
        )));
    }
    let oldest: i64 =
        sqlx::query_scalar("SELECT schema_version FROM oldest_program").fetch_one(pool).await?;
    if oldest > needed {
        return Err(StoreError::OtherSchema(format!(
            "the database is for programs of schema version {oldest} and later, this one is of {needed}: \
             run a newer program"
        )));
    }
    Ok(())
}

/// The schema of a database, beside that of this code.
struct Schema {
    /// Of the latest migration.
    version: Option<i64>,
    /// Migrations of this code that are not there.
    lacks: Vec<i64>,
    /// Migrations that are there with another text than here.
    differs: Vec<i64>,
}

async fn schema_of(pool: &PgPool) -> Result<Schema, StoreError> {
    let exists: bool = sqlx::query_scalar("SELECT to_regclass('_sqlx_migrations') IS NOT NULL")
        .fetch_one(pool)
        .await?;
    let applied: BTreeMap<i64, Vec<u8>> = if exists {
        sqlx::query_as("SELECT version, checksum FROM _sqlx_migrations WHERE success")
            .fetch_all(pool)
            .await?
            .into_iter()
            .collect()
    } else {
        BTreeMap::new()
    };
    let mut schema = Schema {
        version: applied.last_key_value().map(|(version, _)| *version),
        lacks: Vec::new(),
        differs: Vec::new(),
    };
    for migration in MIGRATIONS.iter() {
        match applied.get(&migration.version) {
            None => schema.lacks.push(migration.version),
            Some(checksum) if checksum[..] != migration.checksum[..] => {
                schema.differs.push(migration.version);
            }
            Some(_) => {}
        }
    }
    Ok(schema)
}
