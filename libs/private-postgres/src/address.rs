//! How a program finds a server: by its socket or its port.

use std::{
    fmt::Write as _,
    net::TcpListener,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use crate::{Error, cluster::USER};

/// Where a server listens.
#[derive(Debug, Clone)]
pub(crate) struct Address {
    pub(crate) socket_dir: PathBuf,
    pub(crate) port: u16,
    pub(crate) password: String,
}

impl Address {
    /// By unix socket: the quicker way, and no password.
    pub(crate) fn socket_url(&self, database: &str) -> String {
        let (database, host) = (escaped(database.as_bytes()), escaped_path(&self.socket_dir));
        format!("postgres://{USER}@localhost:{}/{database}?host={host}", self.port)
    }

    /// By loopback TCP, with the password.
    pub(crate) fn tcp_url(&self, database: &str) -> String {
        let database = escaped(database.as_bytes());
        format!(
            "postgres://{USER}:{}@127.0.0.1:{}/{database}?sslmode=disable",
            self.password, self.port
        )
    }
}

/// The port asked for, if nothing listens there; any free one if none was asked for.
pub(crate) fn free_port(asked: Option<u16>) -> Result<u16, Error> {
    let port = asked.unwrap_or(0);
    let taken = |_| Error::PortTaken { port };
    let listener = TcpListener::bind(("127.0.0.1", port)).map_err(taken)?;
    Ok(listener.local_addr().map_err(taken)?.port())
}

fn escaped_path(path: &Path) -> String {
    escaped(path.as_os_str().as_bytes())
}

/// Percent-encoded, but for what is plain in every part of a URL.
fn escaped(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(byte) {
            out.push(char::from(*byte));
        } else {
            write!(out, "%{byte:02X}").expect("writing to a string cannot fail");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_path_with_a_space_is_one_url() {
        let address = Address { socket_dir: "/a b/c".into(), port: 5432, password: "p".into() };
        let url = address.socket_url("tasker");
        assert_eq!(url, "postgres://tasker@localhost:5432/tasker?host=%2Fa%20b%2Fc");
    }

    #[test]
    fn a_taken_port_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = free_port(Some(port)).unwrap_err();
        assert!(error.to_string().contains(&port.to_string()), "{error}");
    }
}
