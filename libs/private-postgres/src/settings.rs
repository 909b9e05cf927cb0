//! What a caller may choose about a private cluster.

use std::path::{Path, PathBuf};

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

    /// Adds a server setting; a later one wins.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }

    /// Whether the server is told not to wait for the disk, as only tests may.
    pub(crate) fn forgets_on_power_loss(&self) -> bool {
        let last = self.settings.iter().rfind(|(name, _)| name.eq_ignore_ascii_case("fsync"));
        last.is_some_and(|(_, value)| matches!(value.as_str(), "off" | "false" | "no" | "0"))
    }
}
