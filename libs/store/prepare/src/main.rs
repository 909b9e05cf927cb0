//! Checks the store's statements against a fresh database, and keeps what the database said of
//! them in `libs/store/.sqlx`, so that a build needs no database. With `--check`, says whether
//! that is up to date.
//!
//! It applies the migrations by itself: the store, which does so elsewhere, cannot be compiled
//! before its statements have been checked.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::SystemTime,
};

use anyhow::{Context, Result, ensure};
use sqlx::{PgPool, migrate::Migrator};
use tasker_private_postgres::{PrivatePostgres, Settings};

const STORE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const DATABASE: &str = "tasker";

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let home = tempfile::tempdir()?;
    let mut settings = Settings::new(home.path().join("cluster")).with("fsync", "off");
    settings.fallback_binaries = vec![Path::new(STORE).join("../../.tasker/postgres/bin")];
    let postgres = PrivatePostgres::start(settings).await?;
    let cluster = postgres.data_dir().to_owned();
    let described = describe(&postgres).await;
    postgres.stop().await?;
    // It may be elsewhere than where it was asked for, and then is not removed with its folder.
    fs::remove_dir_all(&cluster).with_context(|| cluster.display().to_string())?;
    let described = described?;

    let committed = Path::new(STORE).join(".sqlx");
    if std::env::args().any(|argument| argument == "--check") {
        return check(&described, &committed);
    }
    write(&described, &committed)?;
    Ok(ExitCode::SUCCESS)
}

/// What the database says of each statement, by file name.
async fn describe(postgres: &PrivatePostgres) -> Result<BTreeMap<OsString, Vec<u8>>> {
    postgres.create_database(DATABASE).await?;
    let pool = PgPool::connect(&postgres.url(DATABASE)).await?;
    tasker_pgmq::install(&pool).await?;
    Migrator::new(Path::new(STORE).join("migrations")).await?.run(&pool).await?;
    pool.close().await;

    let fresh = tempfile::tempdir()?;
    expand_statements(&postgres.url(DATABASE), fresh.path())?;
    read(fresh.path())
}

/// Compiles the store: its macros ask the database, and leave the answers in `folder`.
fn expand_statements(url: &str, folder: &Path) -> Result<()> {
    // Cargo compiles only what has changed. The old time is put back, so that nothing else is
    // compiled again for our sake.
    let source = fs::File::options().append(true).open(Path::new(STORE).join("src/lib.rs"))?;
    let changed = source.metadata()?.modified()?;
    source.set_modified(SystemTime::now())?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["check", "--quiet", "--package", "tasker-store", "--lib"])
        .current_dir(STORE)
        .env("SQLX_OFFLINE", "false")
        .env("SQLX_OFFLINE_DIR", folder)
        .env("DATABASE_URL", url)
        .status();
    source.set_modified(changed)?;
    ensure!(status.context("cannot run cargo")?.success(), "the store does not compile, see above");
    Ok(())
}

fn read(folder: &Path) -> Result<BTreeMap<OsString, Vec<u8>>> {
    let mut files = BTreeMap::new();
    if !folder.is_dir() {
        return Ok(files);
    }
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        files.insert(entry.file_name(), fs::read(entry.path())?);
    }
    Ok(files)
}

fn write(described: &BTreeMap<OsString, Vec<u8>>, folder: &PathBuf) -> Result<()> {
    if folder.is_dir() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder)?;
    for (name, content) in described {
        fs::write(folder.join(name), content)?;
    }
    println!("{} statements are described in {}", described.len(), folder.display());
    Ok(())
}

fn check(described: &BTreeMap<OsString, Vec<u8>>, folder: &Path) -> Result<ExitCode> {
    if &read(folder)? == described {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("libs/store/.sqlx is stale; run scripts/prepare-queries");
    Ok(ExitCode::FAILURE)
}
