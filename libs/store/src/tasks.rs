//! The tasks: a file for each verb, as in `sql/tasks/`.

pub(crate) mod create;
pub(crate) mod finalize;
pub(crate) mod read;
mod watch;
