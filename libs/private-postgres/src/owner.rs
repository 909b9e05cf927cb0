//! Who runs the server: never root.

use std::{
    ffi::OsStr,
    fs, io,
    os::unix::{
        fs::{MetadataExt, chown},
        process::CommandExt,
    },
    path::Path,
    process::{Command, Stdio},
};

use nix::unistd::{User, getegid, geteuid};

use crate::Error;

/// Users that a root program hands its cluster to, the first that exists.
const UNPRIVILEGED: [&str; 2] = ["postgres", "nobody"];

/// The user whose processes the server and its tools are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Owner {
    uid: u32,
    gid: u32,
    changes: bool,
}

impl Owner {
    /// Who owns the cluster in `data_dir`, or is to own it if there is none yet.
    pub(crate) fn of(data_dir: &Path) -> Result<Self, Error> {
        let (user, group) = (geteuid().as_raw(), getegid().as_raw());
        let existing = fs::metadata(data_dir).ok();
        match existing.map(|folder| (folder.uid(), folder.gid())) {
            Some((uid, gid)) if user == 0 && uid != 0 => Ok(Self { uid, gid, changes: true }),
            Some((uid, _)) if user != 0 && uid != user => {
                Err(Error::ForeignOwner { data_dir: data_dir.into(), owner: uid, user })
            }
            _ if user == 0 => Self::unprivileged(),
            _ => Ok(Self { uid: user, gid: group, changes: false }),
        }
    }

    fn unprivileged() -> Result<Self, Error> {
        let mut users = UNPRIVILEGED.iter().filter_map(|name| User::from_name(name).ok().flatten());
        let user = users.next().ok_or(Error::NoUnprivilegedUser)?;
        Ok(Self { uid: user.uid.as_raw(), gid: user.gid.as_raw(), changes: true })
    }

    /// A command that runs as this user, away from our terminal's signals, with no `PG…` variable.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        // The tools resolve their own folder; ours may be one that this user must not enter.
        command.current_dir("/").stdin(Stdio::null()).process_group(0).env("LC_ALL", "C");
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"PG") {
                command.env_remove(name);
            }
        }
        if self.changes {
            command.uid(self.uid).gid(self.gid);
        }
        command
    }

    /// Gives a file or folder to this user.
    pub(crate) fn take(&self, path: &Path) -> io::Result<()> {
        if self.changes { chown(path, Some(self.uid), Some(self.gid)) } else { Ok(()) }
    }

    /// Whether this user can enter `folder`, by the kernel's own answer.
    pub(crate) fn can_enter(&self, folder: &Path) -> io::Result<bool> {
        if !self.changes {
            return Ok(true);
        }
        let mut command = self.command("/bin/sh");
        command.args(["-c", "cd -- \"$1\"", "sh"]).arg(folder).stderr(Stdio::null());
        Ok(command.status()?.success())
    }
}
