//! What decisions and plans have said, as the store keeps it.

use std::collections::{BTreeMap, HashMap};

use tasker_api::{expansion, v1};
use tasker_domain::{Ordinal, expand::Expansion};
use tasker_store::StoreError;

/// What a result says of what comes into being by it, and the cursors of what it plans.
///
/// # Errors
/// The row is corrupt.
pub fn read(bytes: &[u8]) -> Result<(Expansion, Vec<v1::Payload>), StoreError> {
    let corrupt = |what| StoreError::Corrupt { table: "step_expansions", what };
    expansion::decode(bytes).map_err(corrupt)
}

/// What the decisions of a task have chosen, by name.
///
/// # Errors
/// A row is corrupt.
pub fn choices(
    all: &HashMap<Ordinal, Vec<u8>>,
) -> Result<BTreeMap<Ordinal, Vec<String>>, StoreError> {
    let mut chosen = BTreeMap::new();
    for (ordinal, bytes) in all {
        if let (Expansion::CreateSteps(names), _) = read(bytes)? {
            chosen.insert(*ordinal, names);
        }
    }
    Ok(chosen)
}
