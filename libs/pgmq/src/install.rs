//! Installs PGMQ: the extension where the server has it, else its SQL.

use sqlx::{Connection, PgConnection, PgPool};

/// The oldest extension that has what the statements use: headers.
const OLDEST: (u32, u32) = (1, 5);

/// PGMQ could not be installed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// A statement failed: often for want of the right to create a schema.
    #[error("cannot install PGMQ: the user needs the right to create schemas and tables")]
    Database(#[from] sqlx::Error),
    /// The embedded SQL failed.
    #[error("cannot install PGMQ's SQL")]
    Sql(#[from] pgmq::PgmqError),
    /// The server has an extension, and it is too old.
    #[error("the extension pgmq is {0}: update it to {major}.{minor} or newer", major = OLDEST.0, minor = OLDEST.1)]
    TooOld(String),
}

/// Makes sure that the database has PGMQ. Replicas may call it at once, and again.
///
/// # Errors
/// The user may not create schemas, or the installed extension is too old.
pub async fn install(pool: &PgPool) -> Result<(), InstallError> {
    let mut connection = pool.acquire().await?;
    let present: bool =
        sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'pgmq')")
            .fetch_one(&mut *connection)
            .await?;
    if !present && create_extension(&mut connection).await? {
        return Ok(());
    }
    if let Some(version) = extension_version(&mut connection).await? {
        return if is_new_enough(&version) { Ok(()) } else { Err(InstallError::TooOld(version)) };
    }
    drop(connection);
    // It keeps its own record of versions, under a lock: again is a no-op.
    pgmq::PGMQueueExt::new_with_pool(pool.clone()).await.install_sql_from_embedded().await?;
    Ok(())
}

/// Creates the extension if the server has it. Says whether it did.
async fn create_extension(connection: &mut PgConnection) -> Result<bool, InstallError> {
    let available: Option<String> = sqlx::query_scalar(
        "SELECT default_version FROM pg_available_extensions WHERE name = 'pgmq'",
    )
    .fetch_optional(&mut *connection)
    .await?;
    let Some(version) = available else { return Ok(false) };
    if !is_new_enough(&version) {
        return Err(InstallError::TooOld(version));
    }
    let mut tx = connection.begin().await?;
    // Two starters would collide on the extension's name.
    sqlx::query("SELECT pg_advisory_xact_lock(hashtext('tasker.install_pgmq'))")
        .execute(&mut *tx)
        .await?;
    sqlx::query("CREATE EXTENSION IF NOT EXISTS pgmq").execute(&mut *tx).await?;
    tx.commit().await?;
    Ok(true)
}

async fn extension_version(connection: &mut PgConnection) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar("SELECT extversion FROM pg_extension WHERE extname = 'pgmq'")
        .fetch_optional(connection)
        .await
}

fn is_new_enough(version: &str) -> bool {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) >= OLDEST
}

#[cfg(test)]
mod tests {
    use super::is_new_enough;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(is_new_enough("1.13.0"));
        assert!(is_new_enough("1.5.0"));
        assert!(!is_new_enough("1.4.5"));
    }
}
