//! Times and durations on the wire.

use std::time::Duration;

use chrono::{DateTime, TimeZone, Utc};

use crate::Invalid;

/// A time for the wire.
#[must_use]
pub fn timestamp(time: DateTime<Utc>) -> prost_types::Timestamp {
    let nanos = i32::try_from(time.timestamp_subsec_nanos()).unwrap_or(0);
    prost_types::Timestamp { seconds: time.timestamp(), nanos }
}

/// A time from the wire.
///
/// # Errors
/// It is out of range.
pub fn from_timestamp(path: &str, time: prost_types::Timestamp) -> Result<DateTime<Utc>, Invalid> {
    let nanos = u32::try_from(time.nanos).ok();
    nanos
        .and_then(|nanos| Utc.timestamp_opt(time.seconds, nanos).single())
        .ok_or_else(|| Invalid::field(path, "not a time"))
}

/// A duration for the wire.
#[must_use]
pub fn duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: duration.subsec_nanos().cast_signed(),
    }
}

/// A duration from the wire; unset means 0.
///
/// # Errors
/// It is negative.
pub fn from_duration(
    path: &str,
    duration: Option<prost_types::Duration>,
) -> Result<Duration, Invalid> {
    let Some(duration) = duration else { return Ok(Duration::ZERO) };
    match (u64::try_from(duration.seconds), u32::try_from(duration.nanos)) {
        (Ok(seconds), Ok(nanos)) if nanos < 1_000_000_000 => Ok(Duration::new(seconds, nanos)),
        _ => Err(Invalid::field(path, "negative, or not a duration")),
    }
}
