//! How long to wait before trying again.

use std::time::Duration;

/// Full jitter: each wait is drawn evenly from zero to a bound that doubles up to a cap.
///
/// Callers who failed together thus do not come back together.
#[derive(Clone, Debug)]
pub struct FullJitter {
    base: Duration,
    cap: Duration,
    failures: u32,
}

impl FullJitter {
    /// Begins with waits of at most `base`, and ends with waits of at most `cap`.
    #[must_use]
    pub const fn new(base: Duration, cap: Duration) -> Self {
        Self { base, cap, failures: 0 }
    }

    /// Draws the next wait, after one more failure.
    pub fn next_wait(&mut self) -> Duration {
        let bound = self.bound();
        self.failures = self.failures.saturating_add(1);
        bound.mul_f64(rand::random_range(0.0..=1.0))
    }

    /// Begins anew, after a success.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    fn bound(&self) -> Duration {
        // 2^16 times any base worth waiting for is past any cap.
        self.base.saturating_mul(1 << self.failures.min(16)).min(self.cap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_from_base_to_cap_and_begin_anew_after_a_success() {
        let (base, cap) = (Duration::from_millis(50), Duration::from_secs(5));
        let mut back_off = FullJitter::new(base, cap);
        let mut bounds = Vec::new();
        for _ in 0..100 {
            bounds.push(back_off.bound());
            assert!(back_off.next_wait() <= *bounds.last().unwrap());
        }
        assert_eq!(bounds[..3], [base, base * 2, base * 4]);
        assert_eq!(bounds.last(), Some(&cap));
        back_off.reset();
        assert_eq!(back_off.bound(), base);
    }
}
