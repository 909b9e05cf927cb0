//! Delivery tokens: opaque to workers, they name task, step, lease and attempt.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use uuid::Uuid;

/// The first byte: the layout.
const LAYOUT: u8 = 1;
const LENGTH: usize = 1 + 16 + 4 + 16 + 4;

/// What a delivery's token says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeliveryToken {
    /// Whose step it is.
    pub task_id: Uuid,
    /// Which step.
    pub ordinal: i32,
    /// The fence.
    pub delivery_id: Uuid,
    /// 1 for the first.
    pub attempt: i32,
}

/// Text that is no delivery's token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a delivery token: send it back as it was delivered")]
pub struct NotAToken;

impl std::fmt::Display for DeliveryToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut bytes = Vec::with_capacity(LENGTH);
        bytes.push(LAYOUT);
        bytes.extend(self.task_id.as_bytes());
        bytes.extend(self.ordinal.to_be_bytes());
        bytes.extend(self.delivery_id.as_bytes());
        bytes.extend(self.attempt.to_be_bytes());
        f.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl std::str::FromStr for DeliveryToken {
    type Err = NotAToken;

    fn from_str(text: &str) -> Result<Self, NotAToken> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| NotAToken)?;
        let bytes: [u8; LENGTH] = bytes.try_into().map_err(|_| NotAToken)?;
        let uuid = |at: usize| Uuid::from_slice(&bytes[at..at + 16]).expect("16 bytes");
        let int = |at: usize| i32::from_be_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
        if bytes[0] != LAYOUT {
            return Err(NotAToken);
        }
        Ok(Self { task_id: uuid(1), ordinal: int(17), delivery_id: uuid(21), attempt: int(37) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_leads_back_to_its_delivery_and_other_text_is_refused() {
        let token = DeliveryToken {
            task_id: Uuid::now_v7(),
            ordinal: 7,
            delivery_id: Uuid::now_v7(),
            attempt: 2,
        };
        assert_eq!(token.to_string().parse(), Ok(token));
        for bad in ["", "abc", "AAAA", &token.to_string()[1..]] {
            assert_eq!(bad.parse::<DeliveryToken>(), Err(NotAToken), "{bad}");
        }
    }
}
