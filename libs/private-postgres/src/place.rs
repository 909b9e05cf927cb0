//! Where the cluster lives, and its socket: places that the server's user can reach.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use crate::{Error, error::Doing, owner::Owner};

/// Where a root program puts what it cannot keep in its own folder.
const OPEN_TO_ALL: &str = "/var/lib/tasker-mesh";

/// The longest path of a socket that all systems take, with room for its name.
const LONGEST_SOCKET_DIR: usize = 103 - "/.s.PGSQL.65535".len();

/// The real folder of the cluster: `data_dir`, or where it links to.
pub(crate) fn settle(data_dir: &Path, owner: Owner) -> Result<PathBuf, Error> {
    if let Ok(real) = data_dir.canonicalize() {
        return Ok(real);
    }
    // A link whose end was removed by hand: begin anew.
    if data_dir.is_symlink() {
        fs::remove_file(data_dir).doing("remove", data_dir)?;
    }
    let parent = data_dir.parent().unwrap_or(Path::new("/"));
    let real_parent = parent.canonicalize().doing("open", parent)?;
    if owner.can_enter(&real_parent).doing("run", "/bin/sh")? {
        return Ok(real_parent.join(data_dir.file_name().unwrap_or_default()));
    }
    elsewhere(data_dir)
}

/// A folder that everybody can reach, with a link to it where ours was asked for.
fn elsewhere(data_dir: &Path) -> Result<PathBuf, Error> {
    fs::create_dir_all(OPEN_TO_ALL).doing("make", OPEN_TO_ALL)?;
    fs::set_permissions(OPEN_TO_ALL, fs::Permissions::from_mode(0o755))
        .doing("open up", OPEN_TO_ALL)?;
    let made = tempfile::Builder::new().prefix("postgres-").tempdir_in(OPEN_TO_ALL);
    let real = made.doing("make a folder in", OPEN_TO_ALL)?.keep();
    symlink(&real, data_dir).doing("link", data_dir)?;
    tracing::info!(
        "the database's user cannot reach {}, so the cluster is in {}",
        data_dir.display(),
        real.display()
    );
    Ok(real)
}

/// Where the socket is: in the cluster, unless its path is too long for a socket.
#[derive(Debug)]
pub(crate) enum SocketDir {
    Cluster(PathBuf),
    Short(TempDir),
}

impl SocketDir {
    pub(crate) fn choose(data_dir: &Path, owner: Owner) -> Result<Self, Error> {
        if data_dir.as_os_str().len() <= LONGEST_SOCKET_DIR {
            return Ok(Self::Cluster(data_dir.into()));
        }
        let temporary = std::env::temp_dir();
        let made = tempfile::Builder::new().prefix("tasker-pg-").tempdir_in("/tmp");
        let made = made.or_else(|_| tempfile::tempdir()).doing("make a folder in", temporary)?;
        owner.take(made.path()).doing("hand over", made.path())?;
        Ok(Self::Short(made))
    }

    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Cluster(path) => path,
            Self::Short(made) => made.path(),
        }
    }

    /// Leaves the folder behind, for a server that outlives us.
    pub(crate) fn keep(self) {
        if let Self::Short(made) = self {
            drop(made.keep());
        }
    }
}
