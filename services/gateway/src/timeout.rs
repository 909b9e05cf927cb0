//! `grpc-timeout`: how long the caller is going to wait.

use std::time::Duration;

use http::HeaderMap;
use tokio::time::Instant;

/// Ahead of the caller's own clock by this much.
///
/// The HTTP server under the gateway cuts a call at the same moment, and calls it CANCELLED; so does
/// the service that is called. The first to speak has to be the one that says DEADLINE_EXCEEDED.
const HEAD_START: Duration = Duration::from_millis(3);

/// Not 1 to 8 digits and a unit.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadTimeout;

/// When the call that came with `headers` just now is to end; `None` if it may take for ever.
pub(crate) fn deadline(headers: &HeaderMap) -> Result<Option<Instant>, BadTimeout> {
    let Some(timeout) = headers.get("grpc-timeout") else { return Ok(None) };
    let timeout = parse(timeout.to_str().map_err(|_| BadTimeout)?)?;
    Ok(Instant::now().checked_add(timeout.saturating_sub(HEAD_START)))
}

fn parse(text: &str) -> Result<Duration, BadTimeout> {
    let unit = text.char_indices().next_back().ok_or(BadTimeout)?;
    let digits = &text[..unit.0];
    if digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(BadTimeout);
    }
    let value: u64 = digits.parse().map_err(|_| BadTimeout)?;
    match unit.1 {
        'H' => Ok(Duration::from_secs(value * 60 * 60)),
        'M' => Ok(Duration::from_secs(value * 60)),
        'S' => Ok(Duration::from_secs(value)),
        'm' => Ok(Duration::from_millis(value)),
        'u' => Ok(Duration::from_micros(value)),
        'n' => Ok(Duration::from_nanos(value)),
        _ => Err(BadTimeout),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_understood() {
        let hour = Duration::from_secs(3600);
        for same in ["1H", "60M", "3600S", "3600000m"] {
            assert_eq!(parse(same), Ok(hour));
        }
        assert_eq!(parse("99999999u"), Ok(Duration::from_micros(99_999_999)));
        assert_eq!(parse("5n"), Ok(Duration::from_nanos(5)));
    }

    #[test]
    fn what_is_not_a_timeout_is_refused() {
        for bad in ["", "S", "1", "1s", "-1S", "+1S", "999999999S", "1 S", "1é"] {
            assert_eq!(parse(bad), Err(BadTimeout), "{bad:?}");
        }
    }

    #[test]
    fn no_timeout_means_no_deadline() {
        assert_eq!(deadline(&HeaderMap::new()), Ok(None));
    }
}
