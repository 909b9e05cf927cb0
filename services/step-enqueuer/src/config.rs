//! What step-enqueuer is told, read before anything is opened.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use serde::Deserialize;
use tasker_runtime::config::{Error, Source};
use tasker_stage::{Bounded, StageConfig};

/// A checkpoint goes with a delivery, beside all else that it carries.
const CHECKPOINT_BYTES: std::ops::RangeInclusive<u32> = 1 << 10..=1 << 20;

/// The sections `step_enqueuer`, `database` and `mesh`.
pub type Config = StageConfig<Section>;

/// `[step_enqueuer]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Section {
    /// Where the gateway and the other stages connect; default `127.0.0.1:7702`.
    pub listen: SocketAddr,
    /// Steps enqueued in one transaction; 1 to 10,000, default 500.
    pub max_batch: u32,
    /// Ready steps that may wait, more are read from the queue; 1 to 1,000,000, default 20,000.
    pub max_waiting: u32,
    /// Transactions at once; 1 to 16, default 1.
    pub lanes: u32,
    /// Within what time a dead worker's steps are back in their queue; 1 s to 1 h, default 15 s.
    #[serde(with = "humantime_serde")]
    pub session_ttl: Duration,
    /// The largest checkpoint, encoded, in bytes; 1,024 to 1,048,576, default 262,144.
    pub max_checkpoint_bytes: u32,
    /// For how long a step waits to be raised by one point of priority; at most 1 d, `0s` for never,
    /// default 1 min.
    #[serde(with = "humantime_serde")]
    pub ageing: Duration,
    /// How often steps are counted that no connected worker can run, if metrics are exported; 1 s to 1 h,
    /// default 15 s.
    #[serde(with = "humantime_serde")]
    pub count_interval: Duration,
}

impl Default for Section {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7702)),
            max_batch: 500,
            max_waiting: 20_000,
            lanes: 1,
            session_ttl: Duration::from_secs(15),
            max_checkpoint_bytes: 256 << 10,
            ageing: Duration::from_secs(60),
            count_interval: Duration::from_secs(15),
        }
    }
}

impl tasker_stage::Section for Section {
    const NAME: &'static str = "step_enqueuer";

    fn bounded(&self) -> Bounded {
        let Self { max_batch, max_waiting, lanes, .. } = *self;
        Bounded { max_batch, max_waiting, lanes }
    }

    fn check(&self, source: &Source) -> Result<(), Error> {
        if !(Duration::from_secs(1)..=Duration::from_secs(3600)).contains(&self.session_ttl) {
            return Err(source.invalid("step_enqueuer.session_ttl", "give 1s to 1h"));
        }
        if !CHECKPOINT_BYTES.contains(&self.max_checkpoint_bytes) {
            let (least, most) = (CHECKPOINT_BYTES.start(), CHECKPOINT_BYTES.end());
            let what = format!("give {least} to {most}");
            return Err(source.invalid("step_enqueuer.max_checkpoint_bytes", what));
        }
        if self.ageing > Duration::from_secs(24 * 3600) {
            return Err(source.invalid("step_enqueuer.ageing", "give at most 1d"));
        }
        if !(Duration::from_secs(1)..=Duration::from_secs(3600)).contains(&self.count_interval) {
            return Err(source.invalid("step_enqueuer.count_interval", "give 1s to 1h"));
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
        refuses_zero(Config::load, &["step_enqueuer.lanes", "step_enqueuer.max_checkpoint_bytes"]);
    }
}
