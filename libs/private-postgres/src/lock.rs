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
    file: File,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing it is not enough: a child that another thread has just begun to make has it, too, until it runs
        // its own program. What cannot be unlocked is closed all the same.
        self.file.unlock().ok();
    }
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
        Ok(Self { file })
    }
}

fn open(data_dir: &Path) -> Result<(PathBuf, File), Error> {
    let mut path = data_dir.as_os_str().to_owned();
    path.push(".lock");
    let path = PathBuf::from(path);
    let file = OpenOptions::new().create(true).truncate(false).write(true).read(true).open(&path);
    file.doing("open", &path).map(|file| (path, file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_free_once_it_is_let_go_whoever_has_inherited_its_file() {
        let home = tempfile::tempdir().unwrap();
        let data_dir = home.path().join("cluster");
        let lock = Lock::take(&data_dir).unwrap();
        let inherited = lock.file.try_clone().unwrap();
        assert!(matches!(Lock::take(&data_dir), Err(Error::InUse { .. })));
        drop(lock);
        Lock::take(&data_dir).unwrap();
        drop(inherited);
    }
}
