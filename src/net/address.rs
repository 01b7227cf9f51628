//! Where a server listens: a TCP address or the path of a unix socket, as `--listen` spells it.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use crate::limits::UNIX_PATH_MAX;

/// A place to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// A TCP address.
    Tcp(SocketAddr),
    /// The path of a unix socket; `{core}` in it stands for the core's number.
    Unix(String),
}

impl Listen {
    /// Whether every core has a socket of its own here.
    pub fn is_one_a_core(&self) -> bool {
        matches!(self, Listen::Unix(pattern) if pattern.contains("{core}"))
    }

    /// The path of `core`'s socket.
    pub fn unix_path(pattern: &str, core: usize) -> PathBuf {
        PathBuf::from(pattern.replace("{core}", &core.to_string()))
    }
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Listen, String> {
        match text.strip_prefix("unix:") {
            Some("") => Err("expected a path after unix:".to_owned()),
            Some(path) if path.len() > UNIX_PATH_MAX => {
                Err(format!("expected a socket path of at most {UNIX_PATH_MAX} bytes, got {}", path.len()))
            }
            Some(path) => Ok(Listen::Unix(path.to_owned())),
            None => tcp(text).map(Listen::Tcp).ok_or_else(|| {
                "expected an address such as 0.0.0.0:9999, :9999 or localhost:9999, or unix:/run/rinha.sock"
                    .to_owned()
            }),
        }
    }
}

/// An address and a port. Nobody is asked for a name: only `localhost` is known, as the loopback of IPv4, and no name at
/// all, as every address of IPv4.
fn tcp(text: &str) -> Option<SocketAddr> {
    let port = |text: &str| match text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => text.parse().ok(),
        false => None,
    };
    match text.rsplit_once(':') {
        Some(("localhost", text)) => Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port(text)?))),
        Some(("", text)) => Some(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port(text)?))),
        _ => text.parse().ok(),
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listen::Tcp(address) => write!(f, "{address}"),
            Listen::Unix(path) => write!(f, "unix:{path}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_as_people_write_them() {
        for (text, expected) in [
            ("0.0.0.0:9999", Some("0.0.0.0:9999")),
            ("[::1]:9999", Some("[::1]:9999")),
            ("localhost:9991", Some("127.0.0.1:9991")),
            (":9991", Some("0.0.0.0:9991")),
            ("unix:/run/a.sock", Some("unix:/run/a.sock")),
            ("localhost", None),
            ("localhost:", None),
            ("localhost:+1", None),
            ("localhost:99999", None),
            (":", None),
            (":x", None),
            ("example.com:80", None),
            ("::", None),
        ] {
            let listen = text.parse::<Listen>().map(|listen| listen.to_string());
            assert_eq!(listen.ok().as_deref(), expected, "{text}");
        }
    }
}
