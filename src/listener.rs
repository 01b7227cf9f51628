//! The sockets a server listens on: bound early, so that a wrong address is said at once, and listening only
//! when there is something to answer with. It accepts nothing.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use socket2::{Domain, Protocol, SockAddr, Type};

use crate::config::Listen;
use crate::limits::{LISTEN_TAKEN_PERIOD, LISTEN_TAKEN_TIME_MAX};

/// Mode of a unix socket: the balancer may run as any user; the directory decides who gets near it.
const UNIX_SOCKET_MODE: u32 = 0o666;

/// A socket with an address, not listening yet.
pub struct Bound {
    socket: socket2::Socket,
    listen: Listen,
    path: Option<UnixPath>,
}

/// A socket that listens.
pub enum Socket {
    /// On TCP.
    Tcp(std::net::TcpListener),
    /// On a unix socket, whose path lives as long as this.
    Unix(std::os::unix::net::UnixListener, UnixPath),
}

/// The path of a unix socket, removed with its owner.
pub struct UnixPath(PathBuf);

impl Bound {
    /// Binds `listen` for `core`. Blocks for a moment when the address is taken: the kernel tears the ring of a killed
    /// server down in the background, its listeners last, 5 to 9 ms after the process was reaped.
    ///
    /// # Errors
    ///
    /// One line that names the address and what is wrong with it.
    pub fn bind(listen: &Listen, core: usize) -> Result<Bound, String> {
        let began = Instant::now();
        let bound = loop {
            let bound = match listen {
                Listen::Tcp(_) => Bound::bind_tcp(listen),
                Listen::Unix(pattern) => Bound::bind_unix(listen, Listen::unix_path(pattern, core)),
            };
            match bound {
                Err(error)
                    if error.kind() == io::ErrorKind::AddrInUse
                        && began.elapsed() < LISTEN_TAKEN_TIME_MAX =>
                {
                    thread::sleep(LISTEN_TAKEN_PERIOD);
                }
                bound => break bound,
            }
        };
        bound.map_err(|error| {
            let remedy = match error.kind() {
                io::ErrorKind::AddrInUse => {
                    "; another server listens there: stop it or give another --listen"
                }
                io::ErrorKind::PermissionDenied => "; give another --listen or run as a user who may",
                io::ErrorKind::NotFound => "; its directory does not exist",
                _ => "",
            };
            format!("cannot listen on {listen}: {error}{remedy}")
        })
    }

    fn bind_tcp(listen: &Listen) -> io::Result<Bound> {
        let Listen::Tcp(address) = listen else { unreachable!("called for TCP addresses") };
        let socket = socket2::Socket::new(Domain::for_address(*address), Type::STREAM, Some(Protocol::TCP))?;
        // A restart must not wait for the old connections' TIME_WAIT to pass.
        socket.set_reuse_address(true)?;
        // Accepted sockets inherit it: answers are written whole, so there is nothing to coalesce.
        socket.set_tcp_nodelay(true)?;
        socket.bind(&SockAddr::from(*address))?;
        Ok(Bound { socket, listen: listen.clone(), path: None })
    }

    /// By hand rather than by monoio, whose bind asks for SO_REUSEPORT, which Linux 6.12 refuses here.
    fn bind_unix(listen: &Listen, path: PathBuf) -> io::Result<Bound> {
        remove_stale(&path)?;
        let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.bind(&SockAddr::unix(&path)?)?;
        let path = UnixPath(path);
        fs::set_permissions(&path.0, fs::Permissions::from_mode(UNIX_SOCKET_MODE))?;
        Ok(Bound { socket, listen: listen.clone(), path: Some(path) })
    }

    /// The address, for people; the port that the kernel chose if none was given.
    pub fn name(&self) -> String {
        match (&self.listen, self.socket.local_addr()) {
            (Listen::Tcp(_), Ok(address)) => {
                address.as_socket().map_or_else(|| self.listen.to_string(), |address| address.to_string())
            }
            _ => match &self.path {
                Some(path) => format!("unix:{}", path.0.display()),
                None => self.listen.to_string(),
            },
        }
    }

    /// Begins to listen. epoll needs a socket that does not block; io_uring must not have one.
    pub fn listen(mut self, backlog: i32, nonblocking: bool) -> io::Result<Socket> {
        self.socket.listen(backlog)?;
        self.socket.set_nonblocking(nonblocking)?;
        Ok(match self.path.take() {
            None => Socket::Tcp(self.socket.into()),
            Some(path) => Socket::Unix(self.socket.into(), path),
        })
    }
}

impl Drop for UnixPath {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            tracing::debug!(%error, path = %self.0.display(), "removing a socket");
        }
    }
}

/// Removes a socket that no one listens on; a server that crashed leaves one.
fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            Err(io::Error::new(io::ErrorKind::AlreadyExists, "a file that is no socket is there"))
        }
        Ok(_) if is_live(path) => Err(io::ErrorKind::AddrInUse.into()),
        Ok(_) => fs::remove_file(path),
    }
}

/// Whether someone listens there. Without waiting: a backlog that is full would make this connect wait for as long.
fn is_live(path: &Path) -> bool {
    let connect = || {
        let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.connect(&SockAddr::unix(path)?)
    };
    connect().map_or_else(|error: io::Error| error.kind() == io::ErrorKind::WouldBlock, |()| true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("core-{core}.sock");
        let listen: Listen = format!("unix:{}", path.display()).parse().unwrap();
        drop(std::os::unix::net::UnixListener::bind(directory.path().join("core-7.sock")).unwrap());
        let bound = Bound::bind(&listen, 7).unwrap();
        assert!(bound.name().ends_with("core-7.sock"));
        let listening = bound.listen(1, false).unwrap();
        let Err(error) = Bound::bind(&listen, 7) else { panic!("a live socket was replaced") };
        assert!(error.contains("another server listens there"), "{error}");
        drop(listening);
        fs::write(directory.path().join("core-8.sock"), "precious").unwrap();
        assert!(Bound::bind(&listen, 8).is_err());
        assert_eq!(fs::read(directory.path().join("core-8.sock")).unwrap(), b"precious");
    }

    #[test]
    fn a_taken_port_is_said() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let listen = Listen::Tcp(taken.local_addr().unwrap());
        let Err(error) = Bound::bind(&listen, 0) else { panic!("bound twice") };
        assert!(error.contains("another server listens there"), "{error}");
    }
}
