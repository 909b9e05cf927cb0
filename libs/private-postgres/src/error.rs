//! Why there is no private cluster, and what to do about it.

use std::{io, path::PathBuf};

/// Why a private cluster could not be made, started or asked. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No usable binaries.
    #[error(
        "no PostgreSQL {minimum} or newer was found. Do one of three things: give the URL of a server \
         you have; install the package (`apt-get install postgresql`, `dnf install \
         postgresql-server`, `apk add postgresql`, `brew install postgresql`); or set TASKER_PG_BIN to \
         the folder with initdb, pg_ctl and postgres. Looked in: {looked_in}"
    )]
    NoBinaries {
        /// The oldest major version that will do.
        minimum: u32,
        /// The folders, each with what was wrong with it.
        looked_in: String,
    },
    /// `TASKER_PG_BIN` names a folder that will not do.
    #[error("TASKER_PG_BIN is {}, but {problem}", .folder.display())]
    BadBinaries {
        /// What the variable says.
        folder: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The cluster was made by another major version.
    #[error(
        "{} was made by PostgreSQL {made_by}, and only other versions were found ({looked_in}). Install \
         version {made_by}, set TASKER_PG_BIN to it, or move the folder away to begin anew", .data_dir.display()
    )]
    OtherVersion {
        /// The cluster.
        data_dir: PathBuf,
        /// The major version in its `PG_VERSION`.
        made_by: u32,
        /// The folders, each with what was wrong with it.
        looked_in: String,
    },
    /// Another process runs this cluster.
    #[error("{} is in use by {holder}. Stop that process, or choose another folder", .data_dir.display())]
    InUse {
        /// The cluster.
        data_dir: PathBuf,
        /// The process, as it named itself.
        holder: String,
    },
    /// The port was asked for and something else listens there.
    #[error(
        "something else listens on 127.0.0.1:{port}. Stop it, choose another port, or leave the port open"
    )]
    PortTaken {
        /// The port.
        port: u16,
    },
    /// The folder holds something that is no cluster.
    #[error("{} is not empty and no PostgreSQL cluster. Choose another folder, or empty it", .data_dir.display())]
    NotACluster {
        /// The folder.
        data_dir: PathBuf,
    },
    /// The cluster belongs to a user whom we cannot become.
    #[error(
        "{} belongs to user {owner}, and this process runs as user {user}. Run it as that user or as root, or \
         choose another folder", .data_dir.display()
    )]
    ForeignOwner {
        /// The cluster.
        data_dir: PathBuf,
        /// The user id that owns it.
        owner: u32,
        /// The user id of this process.
        user: u32,
    },
    /// We are root, and there is nobody else to be.
    #[error(
        "PostgreSQL does not run as root, and there is no user `postgres` or `nobody`. Make one \
         (`useradd --system postgres`), run this as an ordinary user, or give the URL of a server"
    )]
    NoUnprivilegedUser,
    /// A program of PostgreSQL's said no.
    #[error("{program} failed: {output}")]
    Failed {
        /// Which program.
        program: &'static str,
        /// What it, and the server's log, said.
        output: String,
    },
    /// The operating system said no.
    #[error("cannot {doing} {}", .path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// The server refused a statement.
    #[error("cannot {doing} in the private database")]
    Database {
        /// What was tried.
        doing: &'static str,
        /// What it said.
        source: sqlx::Error,
    },
}

/// Names what was tried when the operating system says no.
pub(crate) trait Doing<T> {
    fn doing(self, doing: &'static str, path: impl Into<PathBuf>) -> Result<T, Error>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, doing: &'static str, path: impl Into<PathBuf>) -> Result<T, Error> {
        self.map_err(|source| Error::Io { doing, path: path.into(), source })
    }
}
