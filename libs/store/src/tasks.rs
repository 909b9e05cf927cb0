//! The tasks: a file for each verb, as in `sql/tasks/`.

pub(crate) mod create;
pub(crate) mod end;
pub(crate) mod finalize;
mod hold;
mod purge;
pub(crate) mod read;
pub(crate) mod rerun;
pub(crate) mod watch;
