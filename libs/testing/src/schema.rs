//! Which schema the tests run on.

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    io,
    path::PathBuf,
};

const MIGRATIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../store/migrations");

/// Changes whenever a migration does: one that has run nowhere yet may still be edited.
pub(crate) fn version() -> io::Result<String> {
    let mut files = fs::read_dir(MIGRATIONS)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<Vec<PathBuf>>>()?;
    files.sort();
    let mut hasher = DefaultHasher::new();
    for file in files {
        fs::read(file)?.hash(&mut hasher);
    }
    Ok(format!("{}_{:016x}", tasker_store::schema_version(), hasher.finish()))
}
