//! Finds the programs of PostgreSQL.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{Error, owner::Owner};

/// The oldest major version that the schema runs on.
const MINIMUM: u32 = 15;

/// Folders of packages; `*` stands for a version.
const PACKAGES: [&str; 8] = [
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/usr/libexec/postgresql*",
    "/usr/local/pgsql*/bin",
    "/opt/homebrew/opt/postgresql*/bin",
    "/usr/local/opt/postgresql*/bin",
    "/home/linuxbrew/.linuxbrew/opt/postgresql*/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
];

/// A folder with `initdb`, `pg_ctl` and `postgres` that the server's user can run.
#[derive(Debug, Clone)]
pub(crate) struct Binaries {
    folder: PathBuf,
}

impl Binaries {
    /// Finds those that fit the cluster in `data_dir`, or the first usable ones if it is new.
    pub(crate) fn find(data_dir: &Path, owner: Owner, fallback: &[PathBuf]) -> Result<Self, Error> {
        let made_by = made_by(data_dir);
        if let Some(folder) = env::var_os("TASKER_PG_BIN").filter(|folder| !folder.is_empty()) {
            let folder = PathBuf::from(folder);
            return match check(&folder, owner, made_by) {
                Ok(()) => Ok(Self { folder }),
                Err(problem) => Err(Error::BadBinaries { folder, problem }),
            };
        }
        let mut looked_in = Vec::new();
        for folder in candidates(fallback) {
            match check(&folder, owner, made_by) {
                Ok(()) => return Ok(Self { folder }),
                Err(problem) => looked_in.push(format!("{} ({problem})", folder.display())),
            }
        }
        if looked_in.is_empty() {
            looked_in.push("PATH and the usual folders".into());
        }
        let looked_in = looked_in.join(", ");
        Err(match made_by {
            Some(made_by) => Error::OtherVersion { data_dir: data_dir.into(), made_by, looked_in },
            None => Error::NoBinaries { minimum: MINIMUM, looked_in },
        })
    }

    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// The major version that made the cluster.
fn made_by(data_dir: &Path) -> Option<u32> {
    fs::read_to_string(data_dir.join("PG_VERSION")).ok()?.trim().parse().ok()
}

/// Folders with a `postgres` in them, in the order in which they are tried.
fn candidates(fallback: &[PathBuf]) -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = env::split_paths(&path).collect();
    folders.extend(configured());
    for pattern in PACKAGES {
        folders.extend(newest_first(pattern));
    }
    // Perhaps a link out of a folder that the server's user must not enter.
    folders.extend(fallback.iter().filter_map(|folder| folder.canonicalize().ok()));
    folders.retain(|folder| folder.is_absolute() && folder.join("postgres").is_file());
    let mut seen = std::collections::HashSet::new();
    folders.retain(|folder| seen.insert(folder.clone()));
    folders
}

/// What `pg_config` says, where the development package is installed.
fn configured() -> Option<PathBuf> {
    let output = Command::new("pg_config").arg("--bindir").stdin(Stdio::null()).output().ok()?;
    let folder = String::from_utf8(output.stdout).ok()?;
    Some(PathBuf::from(folder.trim()))
}

/// The folders that `pattern` stands for, the highest version first.
fn newest_first(pattern: &str) -> Vec<PathBuf> {
    let (before, after) = pattern.split_once('*').unwrap_or((pattern, ""));
    let (parent, prefix) = before.rsplit_once('/').unwrap_or(("", before));
    let mut found: Vec<(u32, PathBuf)> = Vec::new();
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if let Some(version) = name.to_string_lossy().strip_prefix(prefix) {
            let version = version.trim_start_matches(|c: char| !c.is_ascii_digit());
            let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
            let folder = entry.path().join(after.trim_start_matches('/'));
            found.push((digits.parse().unwrap_or(0), folder));
        }
    }
    found.sort_by(|a, b| b.cmp(a));
    found.into_iter().map(|(_, folder)| folder).collect()
}

/// What is wrong with `folder`, if anything.
fn check(folder: &Path, owner: Owner, made_by: Option<u32>) -> Result<(), String> {
    for name in ["initdb", "pg_ctl", "postgres"] {
        if !folder.join(name).is_file() {
            return Err(format!("it has no {name}"));
        }
    }
    let output = owner.command(folder.join("postgres")).arg("--version").output();
    let output =
        output.map_err(|error| format!("the database's user cannot run postgres: {error}"))?;
    let said = String::from_utf8_lossy(&output.stdout);
    match (major(&said), made_by) {
        (None, _) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        (Some(major), Some(wanted)) if major != wanted => Err(format!("version {major}")),
        (Some(major), None) if major < MINIMUM => Err(format!("version {major}")),
        _ => Ok(()),
    }
}

/// The major version in `initdb (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`.
fn major(said: &str) -> Option<u32> {
    let version = said.split_once("(PostgreSQL) ")?.1;
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_is_read_from_every_kind_of_release() {
        assert_eq!(major("initdb (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some(15));
        assert_eq!(major("initdb (PostgreSQL) 18beta1\n"), Some(18));
        assert_eq!(major("initdb: not found"), None);
    }

    #[test]
    fn the_newest_package_is_tried_first() {
        let home = tempfile::tempdir().unwrap();
        for version in ["9.6", "15", "16"] {
            fs::create_dir_all(home.path().join(version).join("bin")).unwrap();
        }
        let pattern = format!("{}/*/bin", home.path().display());
        let found = newest_first(&pattern);
        let versions: Vec<_> =
            found.iter().map(|p| p.parent().unwrap().file_name().unwrap()).collect();
        assert_eq!(versions, ["16", "15", "9.6"]);
    }
}
