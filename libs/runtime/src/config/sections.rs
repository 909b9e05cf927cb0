//! The sections that more than one service reads.

use std::time::Duration;

use serde::Deserialize;

/// `[database]`: the PostgreSQL that all stages share.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Database {
    /// Where it is, as `postgres://…`; default `postgres://localhost/tasker`.
    pub url: String,
    /// At most this many connections for each process; default 8.
    pub max_connections: u32,
    /// How long work waits for a connection; default 5 s.
    #[serde(with = "humantime_serde")]
    pub acquire_timeout: Duration,
}

impl Default for Database {
    fn default() -> Self {
        Self {
            url: "postgres://localhost/tasker".to_owned(),
            max_connections: 8,
            acquire_timeout: Duration::from_secs(5),
        }
    }
}

/// Without the URL, which may hold a password.
impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database")
            .field("max_connections", &self.max_connections)
            .field("acquire_timeout", &self.acquire_timeout)
            .finish_non_exhaustive()
    }
}

/// `[telemetry]`: log lines and spans.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Telemetry {
    /// Which log lines are written, as `level` or `target=level`, comma separated; default `info`.
    pub log_filter: String,
    /// How they are written to standard error; default text.
    pub log_format: LogFormat,
    /// Where spans are sent by OTLP/gRPC; default `OTEL_EXPORTER_OTLP_ENDPOINT`, else nowhere.
    pub otlp_endpoint: Option<String>,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self {
            log_filter: "info".to_owned(),
            log_format: LogFormat::default(),
            otlp_endpoint: None,
        }
    }
}

/// How a log line is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// `[drain]`: how a process ends.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Drain {
    /// How long calls and background work may take to end; default 10 s.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
}

impl Default for Drain {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(10) }
    }
}

/// `[mesh]`: where the stages are. Each is a list of `host:port` or `http://host:port`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mesh {
    /// Default `http://127.0.0.1:7701`.
    pub task_request: Vec<String>,
    /// Default `http://127.0.0.1:7702`.
    pub step_enqueuer: Vec<String>,
    /// Default `http://127.0.0.1:7703`.
    pub result_processor: Vec<String>,
    /// Default `http://127.0.0.1:7704`.
    pub finalizer: Vec<String>,
    /// How a stage learns of work; default hybrid.
    pub mode: DeploymentMode,
    /// How often a queue is read though nobody has called, in hybrid mode; default 15 s.
    #[serde(with = "humantime_serde")]
    pub fallback_interval: Duration,
    /// How often a queue is read in polling mode; default 250 ms.
    #[serde(with = "humantime_serde")]
    pub poll_interval: Duration,
}

/// How a stage learns that a queue has work for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeploymentMode {
    /// By calls, and by reading the queue now and then.
    #[default]
    Hybrid,
    /// By calls alone; what a lost call told of waits for the reconciler or a restart.
    EventDrivenOnly,
    /// By reading the queue alone.
    PollingOnly,
}

impl Mesh {
    /// How often queues are read though nobody has called; `None`: never.
    #[must_use]
    pub fn read_interval(&self) -> Option<Duration> {
        match self.mode {
            DeploymentMode::Hybrid => Some(self.fallback_interval),
            DeploymentMode::EventDrivenOnly => None,
            DeploymentMode::PollingOnly => Some(self.poll_interval),
        }
    }

    /// Whether calls between stages are made and heeded.
    #[must_use]
    pub fn makes_calls(&self) -> bool {
        match self.mode {
            DeploymentMode::Hybrid | DeploymentMode::EventDrivenOnly => true,
            DeploymentMode::PollingOnly => false,
        }
    }
}

impl Default for Mesh {
    fn default() -> Self {
        let at = |port: u16| vec![format!("http://127.0.0.1:{port}")];
        Self {
            task_request: at(7701),
            step_enqueuer: at(7702),
            result_processor: at(7703),
            finalizer: at(7704),
            mode: DeploymentMode::default(),
            fallback_interval: Duration::from_secs(15),
            poll_interval: Duration::from_millis(250),
        }
    }
}
