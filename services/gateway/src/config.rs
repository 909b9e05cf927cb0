//! What the gateway is told, read before anything is opened.

use std::net::{Ipv4Addr, SocketAddr};

use http::{HeaderValue, Uri};
use serde::Deserialize;
use tasker_runtime::config::{Error, Mesh, Source};

/// The sections `gateway` and `mesh`.
#[derive(Clone, Debug)]
pub struct Config {
    /// What is the gateway's own.
    pub gateway: Section,
    /// Where the services behind it are.
    pub mesh: Mesh,
}

/// `[gateway]`: what clients and workers connect to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Section {
    /// Where clients and workers connect; default `127.0.0.1:7700`.
    pub listen: SocketAddr,
    /// Whether other machines may connect, though there is neither TLS nor authentication; default
    /// false.
    pub insecure: bool,
    /// Web sites whose pages may call, as `https://console.example`, or `*` for all; default none.
    pub cors_origins: Vec<String>,
    /// The largest message of a client that is passed on, in bytes; 1 KiB to 1 GiB, default 8 MiB.
    ///
    /// Above what a service takes, so that the service can name the field that is too large.
    pub max_message_bytes: u64,
}

impl Default for Section {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7700)),
            insecure: false,
            cors_origins: Vec::new(),
            max_message_bytes: 8 << 20,
        }
    }
}

impl Config {
    /// Reads the sections.
    ///
    /// # Errors
    ///
    /// If a field is unknown or has a wrong value, or other machines could connect and that is not
    /// allowed.
    pub fn load(source: &Source) -> Result<Self, Error> {
        let gateway: Section = source.section("gateway")?;
        if let Some((field, problem)) = gateway.problem() {
            return Err(source.invalid(field, problem));
        }
        Ok(Self { gateway, mesh: source.section("mesh")? })
    }
}

impl Section {
    fn problem(&self) -> Option<(&'static str, String)> {
        let listen = self.listen;
        if !listen.ip().is_loopback() && !self.insecure {
            let problem = format!(
                "other machines could connect to {listen}, and there is neither TLS nor \
                 authentication; set `gateway.insecure` to true if all that can reach it may"
            );
            return Some(("gateway.listen", problem));
        }
        if !(1 << 10..=1 << 30).contains(&self.max_message_bytes) {
            let problem = format!("{} is not from 1024 to 1073741824", self.max_message_bytes);
            return Some(("gateway.max_message_bytes", problem));
        }
        let wrong = self.cors_origins.iter().find(|text| origin(text).is_none())?;
        let problem = format!("{wrong:?} is neither `*` nor like `https://console.example`");
        Some(("gateway.cors_origins", problem))
    }

    /// The origins as browsers write them.
    pub(crate) fn origins(&self) -> Vec<HeaderValue> {
        self.cors_origins.iter().filter_map(|text| origin(text)).collect()
    }
}

fn origin(text: &str) -> Option<HeaderValue> {
    let uri = || text.parse::<Uri>().ok();
    // A browser sends no path: with one, even `/`, no page would ever match.
    let bare = || uri().is_some_and(|it| it.scheme().is_some()) && !text.ends_with('/');
    let whole = || uri().is_some_and(|it| it.path() == "/" && it.query().is_none());
    if text == "*" || (bare() && whole()) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(flags: &[&str]) -> Result<Config, Error> {
        let flags = flags.iter().map(|flag| format!("--gateway.{flag}"));
        Config::load(&Source::from_parts(flags, [])?)
    }

    #[test]
    fn nothing_needs_to_be_set() {
        assert_eq!(load(&[]).unwrap().gateway, Section::default());
    }

    #[test]
    fn other_machines_are_let_in_only_on_demand() {
        let error = load(&["listen=0.0.0.0:7700"]).unwrap_err().to_string();
        assert!(error.contains("`gateway.listen` is wrong"), "{error}");
        assert!(error.contains("gateway.insecure"), "{error}");
        assert!(load(&["listen=0.0.0.0:7700", "insecure=true"]).is_ok());
        assert!(load(&["listen=[::1]:7700"]).is_ok());
    }

    #[test]
    fn an_origin_is_what_a_browser_would_send() {
        for good in ["*", "https://console.example", "http://localhost:3000"] {
            assert!(load(&[&format!("cors_origins={good}")]).is_ok(), "{good}");
        }
        for bad in ["console.example", "https://a.example/", "https://a.example/x", "https://"] {
            let error = load(&[&format!("cors_origins={bad}")]).unwrap_err().to_string();
            assert!(error.contains("`gateway.cors_origins` is wrong"), "{error}");
        }
        let two = load(&["cors_origins=https://a.example,https://b.example"]).unwrap();
        assert_eq!(two.gateway.origins(), ["https://a.example", "https://b.example"]);
    }

    #[test]
    fn a_limit_that_lets_nothing_pass_is_refused() {
        for bytes in ["0", "1000", "2000000000"] {
            let error = load(&[&format!("max_message_bytes={bytes}")]).unwrap_err().to_string();
            assert!(error.contains("`gateway.max_message_bytes` is wrong"), "{error}");
        }
    }
}
