//! The balancer's port: one topology has it at a time, and whoever else has it is named.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{UnixListener, UnixStream};

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

use crate::error::Result;
use crate::process::{all, name};

/// The port, and the address it is bound to: none is every address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Port {
    pub(crate) address: Option<Ipv4Addr>,
    pub(crate) number: u16,
}

/// Held as long as the topology has its port, and let go of by the kernel however this process ends.
pub(crate) struct Claim {
    _socket: UnixListener,
}

impl Port {
    /// Reads what compose.yml publishes: `[ADDRESS:]PORT:PORT_IN_THE_CONTAINER`.
    pub(crate) fn published(text: &str) -> Option<Port> {
        let (outside, _) = text.rsplit_once(':')?;
        let (address, number) = match outside.rsplit_once(':') {
            Some((address, number)) => (Some(address.parse().ok()?), number),
            None => (None, outside),
        };
        let number = number.parse().ok().filter(|number| *number > 0)?;
        Some(Port { address, number })
    }

    /// Where this machine's own clients find it.
    pub(crate) fn reached(self) -> SocketAddr {
        let address = self.address.filter(|address| !address.is_unspecified()).unwrap_or(Ipv4Addr::LOCALHOST);
        SocketAddr::new(IpAddr::V4(address), self.number)
    }

    /// Takes the port among the topologies of this network namespace. A topology binds its port seconds after it was
    /// started, so that it would look free to a second one until then.
    pub(crate) fn claim(self) -> Result<Claim> {
        let name =
            std::os::unix::net::SocketAddr::from_abstract_name(format!("rinha-local-{}", self.number))?;
        match UnixListener::bind_addr(&name) {
            Ok(socket) => Ok(Claim { _socket: socket }),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                let holder = UnixStream::connect_addr(&name)
                    .ok()
                    .and_then(|socket| getsockopt(&socket, PeerCredentials).ok())
                    .map(|holder| format!(" (pid {0}): stop it (kill {0})", holder.pid()))
                    .unwrap_or_else(|| ": stop it".to_owned());
                Err(format!("port {}: another one runs there{holder}, or set another PORT", self.number)
                    .into())
            }
            Err(error) => Err(format!("port {}: {error}", self.number).into()),
        }
    }

    /// An error if somebody has the port: the balancer would only find out after everything else was started.
    pub(crate) fn check(self) -> Result<()> {
        let address = self.address.unwrap_or(Ipv4Addr::UNSPECIFIED);
        match TcpListener::bind((address, self.number)) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                let holders = holders(self.number);
                let who = match holders.is_empty() {
                    true => format!(
                        "a process of another user or container has it (as root, ss -ltnp 'sport = :{}' names it)",
                        self.number
                    ),
                    false => format!("it is held by {}", holders.join(" and ")),
                };
                Err(format!("port {}: {who}: stop that, or set another PORT", self.number).into())
            }
            Err(error) => Err(format!("port {}: {error}", self.number).into()),
        }
    }
}

/// The processes that listen on a port, as far as this user may know them.
fn holders(port: u16) -> Vec<String> {
    let sockets: Vec<String> = ["tcp", "tcp6"]
        .iter()
        .flat_map(|table| {
            listening(&fs::read_to_string(format!("/proc/net/{table}")).unwrap_or_default(), port)
        })
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    let holds = |pid: &i32| {
        let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        files
            .filter_map(|file| fs::read_link(file.path()).ok())
            .any(|file| sockets.iter().any(|it| file.as_os_str() == it.as_str()))
    };
    all().iter().filter(|pid| holds(pid)).map(|&pid| format!("{} (pid {pid})", name(pid))).collect()
}

/// The inodes of the sockets that listen on a port, by a table of `/proc/net` (see proc(5)): `sl local_address
/// rem_address st .. inode`, where the port is in hexadecimal and the state of a listener is 0A.
fn listening(table: &str, port: u16) -> Vec<String> {
    let own = format!(":{port:04X}");
    let lines = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    lines
        .filter(|fields| fields.len() > 9 && fields[1].ends_with(&own) && fields[3] == "0A")
        .map(|fields| fields[9].to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_published_is_read() {
        let port =
            |address: Option<[u8; 4]>, number| Some(Port { address: address.map(Ipv4Addr::from), number });
        for (text, expected) in [
            ("9999:9999", port(None, 9999)),
            ("127.0.0.1:8080:9999", port(Some([127, 0, 0, 1]), 8080)),
            ("0:9999", None),
            ("99999:9999", None),
            ("here:9999:9999", None),
            ("9999", None),
        ] {
            assert_eq!(Port::published(text), expected, "{text}");
        }
    }

    #[test]
    fn whoever_has_the_port_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
        let number = taken.local_addr().expect("its address").port();
        let why = Port { address: None, number }.check().expect_err("a port that is taken").to_string();
        assert!(why.contains(&format!("(pid {})", std::process::id())) && why.contains("PORT"), "{why}");
        drop(taken);
        Port { address: None, number }.check().expect("a free port");
    }

    #[test]
    fn a_port_has_one_claim() {
        // Nobody binds it: the number only has to be this test's.
        let port = Port { address: None, number: 1 };
        let claim = port.claim().expect("nobody has it");
        let why = port.claim().err().expect("it is claimed").to_string();
        assert!(why.contains(&format!("pid {}", std::process::id())), "{why}");
        drop(claim);
        port.claim().expect("it was let go of");
    }
}
