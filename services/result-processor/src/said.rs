//! What a step has said beside its result, for those who look at it.

use prost::Message as _;
use tasker_api::{time, v1};
use tasker_store::{Saved, StoreError};

/// What came into being by a result.
pub fn expanded(said: &[u8]) -> Result<v1::Expanded, StoreError> {
    let corrupt = |what: String| StoreError::Corrupt { table: "step_expansions", what };
    let said = v1::Expansion::decode(said).map_err(|error| corrupt(error.to_string()))?;
    let outcome = match said.outcome.ok_or_else(|| corrupt("it says nothing".to_owned()))? {
        v1::expansion::Outcome::CreateSteps(chosen) => v1::expanded::Outcome::CreateSteps(chosen),
        v1::expansion::Outcome::NoBranches(none) => v1::expanded::Outcome::NoBranches(none),
        v1::expansion::Outcome::CreateBatches(planned) => {
            let count = i32::try_from(planned.cursors.len()).unwrap_or(i32::MAX);
            v1::expanded::Outcome::BatchCount(count)
        }
        v1::expansion::Outcome::NoBatches(none) => v1::expanded::Outcome::NoBatches(none),
    };
    Ok(v1::Expanded { outcome: Some(outcome) })
}

/// How far a step has come.
pub fn checkpoint(saved: &Saved) -> Result<v1::SavedCheckpoint, StoreError> {
    let corrupt = |error: prost::DecodeError| StoreError::Corrupt {
        table: "step_checkpoints",
        what: error.to_string(),
    };
    let kept = v1::Checkpoint::decode(saved.checkpoint.as_slice()).map_err(corrupt)?;
    Ok(v1::SavedCheckpoint {
        counters: kept.counters,
        save_time: Some(time::timestamp(saved.saved_at)),
        attempt: saved.attempt,
        size_bytes: i32::try_from(saved.checkpoint.len()).unwrap_or(i32::MAX),
    })
}
