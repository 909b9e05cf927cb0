//! When two submissions are the same task.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// How a template tells its tasks apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Identity {
    /// The same template version with the same context is the same task.
    Strict,
    /// The same idempotency key is the same task.
    CallerProvided,
    /// Every submission is a new task.
    #[default]
    AlwaysUnique,
}

/// A SHA-256 that two submissions share exactly if they must give one task.
pub type Key = [u8; 32];

/// Names the repetition of one request.
#[must_use]
pub fn request_key(request_id: &str) -> Key {
    key(&["request", request_id])
}

/// Names a task by what the template and its context are.
#[must_use]
pub fn strict_key(namespace: &str, name: &str, version: &str, canonical_context: &str) -> Key {
    key(&["strict", namespace, name, version, canonical_context])
}

/// Names a task as its submitter does.
#[must_use]
pub fn caller_key(namespace: &str, name: &str, version: &str, idempotency_key: &str) -> Key {
    key(&["caller_provided", namespace, name, version, idempotency_key])
}

fn key(parts: &[&str]) -> Key {
    let mut hash = Sha256::new();
    for part in parts {
        // Lengths keep ("ab", "c") and ("a", "bc") apart.
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}
