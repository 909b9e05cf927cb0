//! What a caller may choose about a private cluster.

use std::path::{Path, PathBuf};

/// What a server is told that a mesh writes to; all else has PostgreSQL's defaults. Nothing is lost in a power cut.
const FOR_A_MESH: [(&str, &str); 8] = [
    ("fsync", "on"),
    ("synchronous_commit", "on"),
    ("shared_buffers", "128MB"),
    ("checkpoint_timeout", "15min"),
    ("max_wal_size", "1GB"),
    // Files of the log are kept and used again: every commit waits while a new one is filled.
    ("min_wal_size", "1GB"),
    // Pages go to the disk bit by bit. Left to the kernel they go all at once every half minute, and every commit
    // waits behind them.
    ("backend_flush_after", "256kB"),
    // Queues and leases leave dead rows quickly.
    ("autovacuum_naptime", "10s"),
];

/// What a private cluster is made of.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the cluster lives. Made when absent; its parents too.
    ///
    /// A root program whose unprivileged server cannot reach this folder finds a link here, to a
    /// place below `/var/lib/tasker-mesh` that it can reach.
    pub data_dir: PathBuf,
    /// Server settings, as in `postgresql.conf`; all others have PostgreSQL's defaults.
    pub settings: Vec<(String, String)>,
    /// The loopback TCP port. `None`: any that is free, another at each start.
    pub port: Option<u16>,
    /// Folders with `initdb`, `pg_ctl` and `postgres` to try after those of the machine.
    ///
    /// By default `postgres/bin` beside the data folder: where `scripts/setup` leaves a copy on a
    /// machine that has none.
    pub fallback_binaries: Vec<PathBuf>,
}

impl Settings {
    /// A cluster in `data_dir` with the defaults of every field.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        let data_dir = data_dir.into();
        let beside = data_dir.parent().unwrap_or(Path::new(".")).join("postgres/bin");
        Self { data_dir, settings: Vec::new(), port: None, fallback_binaries: vec![beside] }
    }

    /// A cluster in `data_dir` for a mesh, which commits all the time, and waits for each commit.
    pub fn for_a_mesh(data_dir: impl Into<PathBuf>) -> Self {
        let told = FOR_A_MESH.into_iter();
        told.fold(Self::new(data_dir), |settings, (name, value)| settings.with(name, value))
    }

    /// Adds a server setting, or changes it.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        let (name, value) = (name.into(), value.into());
        match self.settings.iter_mut().find(|(known, _)| known.eq_ignore_ascii_case(&name)) {
            Some((_, known)) => *known = value,
            None => self.settings.push((name, value)),
        }
        self
    }

    /// Whether the server is told not to wait for the disk, as only tests may.
    pub(crate) fn forgets_on_power_loss(&self) -> bool {
        let told = self.settings.iter().rfind(|(name, _)| name.eq_ignore_ascii_case("fsync"));
        told.is_some_and(|(_, value)| matches!(value.as_str(), "off" | "false" | "no" | "0"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_that_is_given_takes_the_place_of_ours_however_it_is_written() {
        let ours = Settings::for_a_mesh("data");
        assert!(!ours.forgets_on_power_loss());
        let settings = ours.clone().with("FSYNC", "off");
        assert_eq!(settings.settings.len(), ours.settings.len());
        assert!(settings.forgets_on_power_loss());
    }
}
