//! Brings a database to the schema of this code, and refuses any other.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

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
/// The database cannot be reached, the user may not create tables, or the schema is newer than this code.
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
    MIGRATIONS.run(pool).await.map_err(|error| match error {
        sqlx::migrate::MigrateError::Execute(error) => StoreError::from(error),
        other => StoreError::OtherSchema(format!(
            "the schema cannot be brought to version {}: {other}",
            schema_version()
        )),
    })?;
    sqlx::query("SELECT maintain_history(2, interval '100 years')").execute(pool).await?;
    Ok(())
}

/// Refuses a database whose schema is not the one that this code was made for.
pub(crate) async fn check(pool: &PgPool) -> Result<(), StoreError> {
    let exists: bool = sqlx::query_scalar("SELECT to_regclass('_sqlx_migrations') IS NOT NULL")
        .fetch_one(pool)
        .await?;
    let found: Option<i64> = if exists {
        sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations WHERE success")
            .fetch_one(pool)
            .await?
    } else {
        None
    };
    let needed = schema_version();
    match found {
        Some(found) if found == needed => Ok(()),
        Some(found) if found > needed => Err(StoreError::OtherSchema(format!(
            "the database has schema version {found}, this program needs {needed}: run a newer program"
        ))),
        other => Err(StoreError::OtherSchema(format!(
            "the database has schema version {}, this program needs {needed}: run `tasker-ctl migrate`",
            other.map_or_else(|| "none".to_owned(), |version| version.to_string())
        ))),
    }
}
