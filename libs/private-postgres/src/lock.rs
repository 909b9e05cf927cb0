//! One starter per cluster.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::Write,
    path::{Path, PathBuf},
};

use crate::{Error, error::Doing};

/// Held while we run the cluster; freed by the kernel if we are killed.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock, or says who has it.
    pub(crate) fn take(data_dir: &Path) -> Result<Self, Error> {
        let (path, file) = open(data_dir)?;
        match file.try_lock() {
            Ok(()) => Self::signed(&path, file),
            Err(TryLockError::WouldBlock) => {
                let holder = fs::read_to_string(&path).unwrap_or_default();
                let holder = holder.trim();
                let holder = if holder.is_empty() { "another process" } else { holder };
                Err(Error::InUse { data_dir: data_dir.into(), holder: holder.into() })
            }
            Err(TryLockError::Error(error)) => Err(error).doing("lock", path),
        }
    }

    /// Takes the lock as soon as it is free.
    pub(crate) fn wait(data_dir: &Path) -> Result<Self, Error> {
        let (path, file) = open(data_dir)?;
        file.lock().doing("lock", &path)?;
        Self::signed(&path, file)
    }

    /// Leaves our name, for whoever finds the lock taken.
    fn signed(path: &Path, mut file: File) -> Result<Self, Error> {
        let program = std::env::current_exe().unwrap_or_default();
        let program = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        file.set_len(0).doing("write", path)?;
        writeln!(file, "{program}, process {}", std::process::id()).doing("write", path)?;
        Ok(Self { _file: file })
    }
}

fn open(data_dir: &Path) -> Result<(PathBuf, File), Error> {
    let mut path = data_dir.as_os_str().to_owned();
    path.push(".lock");
    let path = PathBuf::from(path);
    let file = OpenOptions::new().create(true).truncate(false).write(true).read(true).open(&path);
    file.doing("open", &path).map(|file| (path, file))
}
