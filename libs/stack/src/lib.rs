//! Small tower layers and services, one idea a file.

pub mod balance;
pub mod gather;
pub mod gathered_writes;
mod pace;
pub mod sweep;
