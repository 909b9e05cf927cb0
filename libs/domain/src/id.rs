//! Ids as types of their own, so that one cannot be passed for another.

use std::{fmt, str::FromStr};

use uuid::Uuid;

/// Text that is not a UUID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a UUID: give one as 8-4-4-4-12 hexadecimal digits")]
pub struct NotAnId(String);

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A fresh UUIDv7: never recurs, and sorts by time.
            #[must_use]
            #[expect(clippy::new_without_default, reason = "two defaults would differ")]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = NotAnId;

            /// Takes the hyphenated form only: the one that we give out.
            fn from_str(text: &str) -> Result<Self, NotAnId> {
                match Uuid::try_parse(text) {
                    Ok(id) if text.len() == 36 => Ok(Self(id)),
                    _ => Err(NotAnId(text.chars().take(64).collect())),
                }
            }
        }
    };
}

id!(
    /// Names one run of a template.
    TaskId
);
id!(
    /// Names one version of a template.
    TemplateId
);
id!(
    /// Names one hand-over of a step to a worker: the fence of its result.
    DeliveryId
);
id!(
    /// Names one time that a task was put among the dead letters.
    DeadLetterId
);
id!(
    /// Names one connection's worth of a worker's liveness.
    SessionId
);

/// A step's place in its task: dependencies come before their dependants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ordinal(pub i32);
