//! How much a stage takes at once.

use tasker_runtime::config::{Error, Source};
use tasker_stack::gather::Bounds;

/// The three bounds of a stage, as its section has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounded {
    /// Items in one transaction: 1 to 10,000.
    pub max_batch: u32,
    /// Items that may wait; more are refused: 1 to 1,000,000.
    pub max_waiting: u32,
    /// Transactions at once: 1 to 16.
    pub lanes: u32,
}

impl Bounded {
    /// Refuses what cannot work, naming the field.
    ///
    /// # Errors
    /// A bound is out of its range.
    pub fn check(self, source: &Source, section: &str) -> Result<Bounds, Error> {
        let ranges = [
            ("max_batch", self.max_batch, 10_000),
            ("max_waiting", self.max_waiting, 1_000_000),
            ("lanes", self.lanes, 16),
        ];
        for (field, value, max) in ranges {
            if !(1..=max).contains(&value) {
                return Err(
                    source.invalid(&format!("{section}.{field}"), format!("give 1 to {max}"))
                );
            }
        }
        let size = |n: u32| usize::try_from(n).expect("a u32 fits");
        Ok(Bounds {
            batch: size(self.max_batch),
            waiting: size(self.max_waiting),
            lanes: size(self.lanes),
        })
    }
}
