//! What result-processor is told, read before anything is opened.

use std::net::{Ipv4Addr, SocketAddr};

use serde::Deserialize;
use tasker_domain::expand::Limits;
use tasker_runtime::config::{Error, Source};
use tasker_stage::{Bounded, StageConfig};

/// The sections `result_processor`, `database` and `mesh`.
pub type Config = StageConfig<Section>;

/// `[result_processor]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Section {
    /// Where the gateway and step-enqueuer connect; default `127.0.0.1:7703`.
    pub listen: SocketAddr,
    /// Results judged in one transaction; 1 to 10,000, default 500.
    pub max_batch: u32,
    /// Results that may wait, more are refused; 1 to 1,000,000, default 20,000.
    pub max_waiting: u32,
    /// Transactions at once; 1 to 16, default 1.
    pub lanes: u32,
    /// Steps that one decision may bring into being, more fail it; 1 to 10,000, default 1,000.
    pub max_steps_of_decision: usize,
    /// Decisions that may be above each other, more fail the last; 1 to 1,000, default 20.
    pub max_depth_of_decisions: u32,
}

impl Section {
    /// How far one decision may go.
    pub fn limits(&self) -> Limits {
        Limits { steps: self.max_steps_of_decision, depth: self.max_depth_of_decisions }
    }
}

impl Default for Section {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7703)),
            max_batch: 500,
            max_waiting: 20_000,
            lanes: 1,
            max_steps_of_decision: 1_000,
            max_depth_of_decisions: 20,
        }
    }
}

impl tasker_stage::Section for Section {
    const NAME: &'static str = "result_processor";

    fn bounded(&self) -> Bounded {
        let Self { max_batch, max_waiting, lanes, .. } = *self;
        Bounded { max_batch, max_waiting, lanes }
    }

    fn check(&self, source: &Source) -> Result<(), Error> {
        if !(1..=10_000).contains(&self.max_steps_of_decision) {
            let field = "result_processor.max_steps_of_decision";
            return Err(source.invalid(field, "give 1 to 10000"));
        }
        if !(1..=1_000).contains(&self.max_depth_of_decisions) {
            let field = "result_processor.max_depth_of_decisions";
            return Err(source.invalid(field, "give 1 to 1000"));
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
        refuses_zero(Config::load, &["result_processor.lanes"]);
    }
}
