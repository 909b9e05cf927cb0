//! What kind of thing went wrong, whatever the operation.

/// Decides the status code that a caller sees; `tasker-api` holds the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The caller's input is wrong; trying again will not help.
    Invalid,
    /// What was named does not exist.
    NotFound,
    /// It exists already, and is another.
    AlreadyExists,
    /// The state does not allow it; the world has moved on.
    IllegalTransition,
    /// The worker's session has expired.
    SessionLost,
    /// Too much at once; try again later.
    Overloaded,
    /// The database or a service cannot be reached; try again.
    Unavailable,
    /// A row that this code could not have written.
    Corrupt,
    /// A statement failed in a way that this code does not expect.
    Internal,
}
