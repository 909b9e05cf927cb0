//! How long a failed step waits before its next attempt.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How the wait grows from attempt to attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// No wait.
    None,
    /// base, 2 × base, 3 × base, …
    Linear,
    /// base, 2 × base, 4 × base, …
    #[default]
    Exponential,
    /// base, base, 2 × base, 3 × base, 5 × base, …
    Fibonacci,
}

/// The wait between attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackOff {
    /// How it grows.
    pub strategy: Strategy,
    /// The first wait.
    pub base: Duration,
    /// No wait is longer.
    pub max: Duration,
    /// Whether each wait is a random part, from half to all, of what it would be.
    pub jitter: bool,
}

impl BackOff {
    /// Returns the wait after the failure of `attempt`, which is 1 for the first.
    ///
    /// `random` is uniform in `0.0..1.0`; it decides only where there is jitter.
    #[must_use]
    pub fn wait_after(&self, attempt: u32, random: f64) -> Duration {
        let attempt = attempt.max(1);
        let factor = match self.strategy {
            Strategy::None => return Duration::ZERO,
            Strategy::Linear => u64::from(attempt),
            Strategy::Exponential => 1u64.checked_shl(attempt - 1).unwrap_or(u64::MAX),
            Strategy::Fibonacci => fibonacci(attempt),
        };
        let factor = u32::try_from(factor).unwrap_or(u32::MAX);
        let wait = self.base.saturating_mul(factor).min(self.max);
        if self.jitter { wait.mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0) } else { wait }
    }
}

fn fibonacci(n: u32) -> u64 {
    let (mut current, mut next) = (1u64, 1u64);
    for _ in 1..n {
        (current, next) = (next, current.saturating_add(next));
    }
    current
}

#[cfg(test)]
mod tests {
    use proptest::{prop_assert, proptest};

    use super::*;

    fn waits(strategy: Strategy) -> Vec<u128> {
        let base = Duration::from_millis(100);
        let back_off = BackOff { strategy, base, max: Duration::from_secs(1), jitter: false };
        (1..=6).map(|attempt| back_off.wait_after(attempt, 0.5).as_millis()).collect()
    }

    #[test]
    fn each_strategy_grows_as_its_name_says_and_stops_at_the_maximum() {
        assert_eq!(waits(Strategy::None), [0, 0, 0, 0, 0, 0]);
        assert_eq!(waits(Strategy::Linear), [100, 200, 300, 400, 500, 600]);
        assert_eq!(waits(Strategy::Exponential), [100, 200, 400, 800, 1000, 1000]);
        assert_eq!(waits(Strategy::Fibonacci), [100, 100, 200, 300, 500, 800]);
    }

    proptest! {
        #[test]
        fn no_wait_is_longer_than_the_maximum(attempt in 0u32.., base in 0u64..1 << 40, max in 0u64..1 << 40, random in 0.0f64..1.0) {
            for strategy in [Strategy::None, Strategy::Linear, Strategy::Exponential, Strategy::Fibonacci] {
                for jitter in [false, true] {
                    let (base, max) = (Duration::from_millis(base), Duration::from_millis(max));
                    let wait = BackOff { strategy, base, max, jitter }.wait_after(attempt.min(1000), random);
                    prop_assert!(wait <= max);
                }
            }
        }
    }
}
