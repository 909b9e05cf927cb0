//! What finalizer is told, read before anything is opened.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use serde::Deserialize;
use tasker_runtime::config::{Error, Source};
use tasker_stage::{Bounded, StageConfig};

/// The sections `finalizer`, `database` and `mesh`.
pub type Config = StageConfig<Section>;

/// `[finalizer]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Section {
    /// Where the other stages connect; default `127.0.0.1:7704`.
    pub listen: SocketAddr,
    /// Tasks ended in one transaction; 1 to 10,000, default 500.
    pub max_batch: u32,
    /// Tasks that may wait, more are refused; 1 to 1,000,000, default 20,000.
    pub max_waiting: u32,
    /// Transactions at once; 1 to 16, default 1.
    pub lanes: u32,
    /// How often one replica looks for what the queues have lost; default 1 min.
    #[serde(with = "humantime_serde")]
    pub reconcile_interval: Duration,
    /// How often tasks are looked at that may have passed a limit of their template; default 10 s.
    #[serde(with = "humantime_serde")]
    pub limits_interval: Duration,
    /// How long the history is kept, and with it resolved dead letters and pauses of templates that are over,
    /// in days; 1 to 36,500, default 30.
    pub keep_history_days: u16,
    /// How long the contexts, results and pauses of ended tasks are kept, in days; up to 36,500, default 0:
    /// for ever.
    pub keep_results_days: u16,
    /// How long durable domain events that nobody reads stay in their queues, in days; up to 36,500, default
    /// 30; 0: for ever.
    pub keep_events_days: u16,
}

impl Default for Section {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7704)),
            max_batch: 500,
            max_waiting: 20_000,
            lanes: 1,
            reconcile_interval: Duration::from_secs(60),
            limits_interval: Duration::from_secs(10),
            keep_history_days: 30,
            keep_results_days: 0,
            keep_events_days: 30,
        }
    }
}

impl tasker_stage::Section for Section {
    const NAME: &'static str = "finalizer";

    fn bounded(&self) -> Bounded {
        let Self { max_batch, max_waiting, lanes, .. } = *self;
        Bounded { max_batch, max_waiting, lanes }
    }

    fn check(&self, source: &Source) -> Result<(), Error> {
        if !(1..=36_500).contains(&self.keep_history_days) {
            return Err(source.invalid("finalizer.keep_history_days", "give 1 to 36500"));
        }
        if self.keep_results_days > 36_500 {
            return Err(source.invalid("finalizer.keep_results_days", "give 0 to 36500"));
        }
        if self.keep_events_days > 36_500 {
            return Err(source.invalid("finalizer.keep_events_days", "give 0 to 36500"));
        }
        if self.limits_interval < Duration::from_millis(100) {
            return Err(source.invalid("finalizer.limits_interval", "give at least 100ms"));
        }
        if self.reconcile_interval < Duration::from_secs(1) {
            return Err(source.invalid("finalizer.reconcile_interval", "give at least 1s"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tasker_testing::{reference, refuses_zero};

    use super::*;

    #[test]
    fn the_reference_shows_the_defaults() {
        assert_eq!(reference(Config::load).section, Section::default());
    }

    #[test]
    fn a_wrong_bound_is_refused_by_its_name() {
        refuses_zero(Config::load, &["finalizer.lanes"]);
    }
}
