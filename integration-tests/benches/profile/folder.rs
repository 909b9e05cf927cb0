//! Where results are kept.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

/// A folder of ours.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// Makes it; what an earlier profile has left in it goes.
    pub fn empty(path: &Path) -> Result<Self> {
        for name in ["plans-lone", "plans-loaded", "samples-lone", "samples-loaded"] {
            let old = path.join(name);
            if old.exists() {
                fs::remove_dir_all(&old).with_context(|| old.display().to_string())?;
            }
        }
        Self::make(path)
    }

    /// Makes one within it.
    pub fn folder(&self, name: &str) -> Result<Self> {
        Self::make(&self.0.join(name))
    }

    pub fn write(&self, name: &str, text: &str) -> Result<()> {
        let file = self.0.join(name);
        fs::write(&file, text).with_context(|| file.display().to_string())
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    fn make(path: &Path) -> Result<Self> {
        fs::create_dir_all(path).with_context(|| path.display().to_string())?;
        Ok(Self(path.canonicalize()?))
    }
}
