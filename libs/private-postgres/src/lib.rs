//! A PostgreSQL cluster of our own, beside the program that uses it.
//!
//! The binaries are those of the machine: nothing is downloaded here. The cluster is made once, kept
//! in a folder, and served on a unix socket (whoever may enter the folder may connect) and on
//! loopback TCP (with a random password kept in the folder).
//!
//! The server never runs as root: a root program hands the folder to an unprivileged user. It ends
//! with its program, even when that is killed: a small keeper process waits on a pipe for our end.
//! Ctrl-C in the terminal reaches the program only, which then decides when the server stops.

mod address;
mod binaries;
mod cluster;
mod error;
mod keeper;
mod lock;
mod owner;
mod place;
mod postgres;
mod running;
mod server;
mod settings;

pub use error::Error;
pub use postgres::PrivatePostgres;
pub use settings::Settings;
