//! `migrate`: the schema of a database.

use std::process::ExitCode;

use anyhow::Context as _;
use serde_json::json;

use crate::print;

/// Where the database is.
#[derive(clap::Args)]
pub(crate) struct Migration {
    /// The database, as postgres://user:password@host:port/name.
    #[arg(long, env = "TASKER_DATABASE__URL", hide_env_values = true, value_name = "URL")]
    database_url: String,
}

/// Without the URL, which may hold a password.
impl std::fmt::Debug for Migration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Migration").finish_non_exhaustive()
    }
}

pub(crate) async fn run(migration: &Migration, json: bool) -> anyhow::Result<ExitCode> {
    tasker_store::migrate(&migration.database_url).await.context("cannot migrate")?;
    let version = tasker_store::schema_version();
    if json {
        print::json(&json!({ "schema_version": version }))?;
    } else {
        print::line(&format!("The database has schema version {version}."))?;
    }
    Ok(ExitCode::SUCCESS)
}
