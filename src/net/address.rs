//! Where a server listens: a TCP address or the path of a unix socket, as `--listen` spells it.

use std::fmt;
use std::net::SocketAddr;
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
            None => text
                .parse()
                .map(Listen::Tcp)
                .map_err(|_| "expected an address such as 0.0.0.0:9999, or unix:/run/rinha.sock".to_owned()),
        }
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
