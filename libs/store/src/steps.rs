//! The steps: a file for each verb, as in `sql/steps/`.

pub(crate) mod admit;
pub(crate) mod admit_workers;
pub(crate) mod complete;
pub(crate) mod enqueue;
pub(crate) mod expand;
pub(crate) mod expire;
pub(crate) mod fail;
pub(crate) mod fail_batch;
pub(crate) mod hold;
pub(crate) mod pass_over;
pub(crate) mod queue_result;
pub(crate) mod read;
pub(crate) mod release;
pub(crate) mod repair;
pub(crate) mod retry;
pub(crate) mod settle;
pub(crate) mod start;
pub(crate) mod yield_steps;

use std::str::FromStr;

use uuid::Uuid;

use crate::StoreError;

/// A step under a lease: what a result must name to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Held {
    /// Whose step it is.
    pub task_id: Uuid,
    /// Which step.
    pub ordinal: i32,
    /// The fence.
    pub delivery_id: Uuid,
}

/// What became of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Taken, and durable.
    Committed,
    /// Taken before.
    Duplicate,
    /// The lease is not the step's current one.
    LeaseLost,
}

/// What became of a result on the fast way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FastVerdict {
    /// It was judged.
    Judged(Verdict),
    /// Not looked at: it goes the long way, see [`Store::begin_settlement`](crate::Store::begin_settlement).
    NotPlain,
}

impl From<Verdict> for FastVerdict {
    fn from(verdict: Verdict) -> Self {
        Self::Judged(verdict)
    }
}

impl FromStr for Verdict {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self, StoreError> {
        match text {
            "committed" => Ok(Self::Committed),
            "duplicate" => Ok(Self::Duplicate),
            "lease_lost" => Ok(Self::LeaseLost),
            other => {
                let what = format!("verdict {other:?}");
                Err(StoreError::Corrupt { table: "steps", what })
            }
        }
    }
}

impl FromStr for FastVerdict {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self, StoreError> {
        if text == "not_plain" { Ok(Self::NotPlain) } else { text.parse().map(Self::Judged) }
    }
}

/// How a result is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// One statement, for plain steps only.
    Fast,
    /// Within a settlement, for all.
    Long,
}

impl Way {
    fn is_long(self) -> bool {
        self == Self::Long
    }
}

/// Puts verdicts at the places of their items; an item without a step has lost its lease.
pub(crate) struct Verdicts<V = Verdict>(pub(crate) Vec<V>);

impl<V: Clone + From<Verdict> + FromStr<Err = StoreError>> Verdicts<V> {
    pub(crate) fn of(items: usize) -> Self {
        Self(vec![Verdict::LeaseLost.into(); items])
    }

    pub(crate) fn put(
        &mut self,
        position: Option<i64>,
        verdict: Option<&str>,
    ) -> Result<(), StoreError> {
        let verdict = verdict.unwrap_or_default().parse()?;
        let place = position.and_then(|n| self.0.get_mut(usize::try_from(n - 1).ok()?));
        if let Some(place) = place {
            *place = verdict;
        }
        Ok(())
    }
}
