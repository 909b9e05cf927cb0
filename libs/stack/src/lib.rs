//! Small tower layers and services, one idea a file.

pub mod balance;
pub mod gather;
mod pace;
pub mod sweep;
