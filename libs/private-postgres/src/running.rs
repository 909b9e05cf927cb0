//! A server that runs on our cluster already: from a starter that was killed, or to be shared.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{Error, binaries::Binaries, cluster::run, error::Doing, owner::Owner, server::Mode};

/// What a running server says of itself in `postmaster.pid`.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) process: u32,
    pub(crate) port: u16,
    pub(crate) socket_dir: PathBuf,
    pub(crate) ready: bool,
}

impl Running {
    /// The server on this cluster, if there is one.
    ///
    /// A file that a crashed machine left, whose process number is another program's by now, is
    /// removed: the server would refuse to start, and stopping "it" would hit that program.
    pub(crate) fn on(data_dir: &Path) -> Result<Option<Self>, Error> {
        let path = data_dir.join("postmaster.pid");
        let Some(running) = fs::read_to_string(&path).ok().and_then(|text| Self::parse(&text))
        else {
            return Ok(None);
        };
        match works_in(running.process, data_dir) {
            Some(true) => Ok(Some(running)),
            Some(false) => fs::remove_file(&path).doing("remove", path).map(|()| None),
            // Gone: the server sees that itself, and looks after what its children still hold.
            None => Ok(None),
        }
    }

    /// The lines are: process, data folder, start time, port, socket folder, address, memory, status.
    fn parse(text: &str) -> Option<Self> {
        let lines: Vec<&str> = text.lines().collect();
        Some(Self {
            process: lines.first()?.trim().parse().ok()?,
            port: lines.get(3).and_then(|port| port.parse().ok()).unwrap_or(0),
            socket_dir: lines.get(4).copied().unwrap_or_default().into(),
            ready: lines.get(7).is_some_and(|status| status.trim() == "ready"),
        })
    }
}

/// Stops the server on this cluster, however it came to run, and waits for its end.
pub(crate) fn stop(
    data_dir: &Path,
    binaries: &Binaries,
    owner: Owner,
    mode: Mode,
) -> Result<(), Error> {
    if Running::on(data_dir)?.is_none() {
        return Ok(());
    }
    let mut command = owner.command(binaries.program("pg_ctl"));
    command.args(["stop", "-s", "-w", "-t", "60", "-m", mode.name(), "-D"]).arg(data_dir);
    match run("pg_ctl stop", command) {
        // It may have ended in between, by a keeper's hand.
        Err(_) if Running::on(data_dir)?.is_none() => Ok(()),
        other => other,
    }
}

/// Whether the process works in `data_dir`, as a postmaster does; `None` when there is none.
#[cfg(target_os = "linux")]
fn works_in(process: u32, data_dir: &Path) -> Option<bool> {
    let home = format!("/proc/{process}");
    let folder = fs::read_link(format!("{home}/cwd"));
    match folder {
        Ok(folder) => Some(folder == data_dir),
        // Another user's, so not ours; or gone, or a zombie.
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Some(false),
        Err(_) => None,
    }
}

/// Whether the process is a server, as far as `ps` can tell; `None` when there is none.
#[cfg(not(target_os = "linux"))]
fn works_in(process: u32, _data_dir: &Path) -> Option<bool> {
    let mut command = std::process::Command::new("ps");
    let output = command.args(["-o", "comm=", "-p", &process.to_string()]).output().ok()?;
    let name = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (!name.is_empty()).then(|| name.ends_with("postgres"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_file_of_another_programs_process_is_removed() {
        let cluster = tempfile::tempdir().unwrap();
        let file = cluster.path().join("postmaster.pid");
        fs::write(&file, format!("{}\n/x\n0\n5432\n/x\n", std::process::id())).unwrap();
        assert!(Running::on(cluster.path()).unwrap().is_none());
        assert!(!file.exists());
    }

    #[test]
    fn a_starting_server_is_seen_but_not_ready() {
        let running = Running::parse("12\n/d\n1\n5432\n/s\n127.0.0.1\n1 2\nstarting\n").unwrap();
        assert_eq!((running.process, running.port, running.ready), (12, 5432, false));
        assert!(Running::parse("").is_none());
    }
}
