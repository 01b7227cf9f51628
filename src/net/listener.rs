//! The sockets a server listens on: bound early, so that a wrong address is said at once, and listening only
//! when there is something to answer with. It accepts nothing.

use std::fs::{self, File};
use std::io;
use std::net::Shutdown;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::libc;
use socket2::{Domain, Protocol, SockAddr, Type};

use super::address::Listen;
use crate::limits::{BIND_PAUSE, BIND_TIME_MAX};

/// Whose socket it is, by the flag that gave its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flag {
    /// Of clients.
    Listen,
    /// Of operators.
    Admin,
}

impl Flag {
    fn name(self) -> &'static str {
        match self {
            Flag::Listen => "--listen",
            Flag::Admin => "--admin",
        }
    }

    /// The mode of its unix socket. The balancer may run as any user, and the directory decides who gets near it;
    /// operators are the server's own user, its group and root.
    fn mode(self) -> u32 {
        match self {
            Flag::Listen => 0o666,
            Flag::Admin => 0o660,
        }
    }
}

/// Mode of a lock file: who can open one can hold it.
const LOCK_MODE: u32 = 0o600;

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
    /// On a unix socket; dropping the [`UnixPath`] removes its path.
    Unix(std::os::unix::net::UnixListener, UnixPath),
}

/// The path of a unix socket. Dropping this removes the path.
pub struct UnixPath {
    path: PathBuf,
    /// Device and inode of the socket: another server may have its own socket at the path by then, which must stay.
    file: (u64, u64),
    /// Held from before the bind on: a socket that does not listen yet looks like one that nobody has.
    _lock: Lock,
}

/// The lock file beside a unix socket.
struct Lock {
    /// Held as long as this lives, and let go of after the file is removed.
    _file: Flock<File>,
    path: PathBuf,
    /// Whether the file stays when it is let go of.
    stays: bool,
}

/// An address that could be bound. It is held until this is dropped, which leaves everything as it was.
pub struct Tried {
    _held: Held,
    name: String,
    /// A server that crashed left its socket there.
    stale: bool,
}

enum Held {
    Nothing,
    Tcp { _socket: socket2::Socket },
    Unix { _lock: Lock },
}

impl Tried {
    /// The address as text.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether a server that crashed left its socket there, which the next one replaces.
    pub fn is_stale(&self) -> bool {
        self.stale
    }
}

/// What is at the path of a unix socket that may be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Free,
    /// A socket that no one listens on; a server that crashed leaves one.
    Stale,
}

impl Lock {
    fn path(socket: &Path) -> PathBuf {
        let mut path = socket.as_os_str().to_owned();
        path.push(".lock");
        PathBuf::from(path)
    }

    /// Takes the lock of a socket's path.
    fn of(socket: &Path) -> io::Result<Lock> {
        let path = Lock::path(socket);
        let began = Instant::now();
        loop {
            let mut options = File::options();
            options.write(true).create(true).truncate(false).mode(LOCK_MODE);
            // A link would lead to somebody else's file, and a pipe would wait for its reader.
            let file = options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(&path)?;
            let file =
                Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
                    Errno::EWOULDBLOCK => io::ErrorKind::AddrInUse.into(),
                    errno => io::Error::from(errno),
                })?;
            // Its holder removes the file before it lets go: this may be a lock on a file that nobody else will find.
            let metadata = file.metadata()?;
            if device_and_inode(&path).is_ok_and(|found| found == (metadata.dev(), metadata.ino())) {
                return Ok(Lock { _file: file, path, stays: false });
            }
            if began.elapsed() > BIND_TIME_MAX {
                return Err(io::ErrorKind::AddrInUse.into());
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if !self.stays
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::debug!(%error, path = %self.path.display(), "removing a lock file");
        }
    }
}

/// Claims the address of a bound TCP socket: from now on the kernel lets nobody bind one that overlaps with it, such as a
/// wildcard and one of its addresses, or IPv4 and an IPv6 wildcard that takes both. As long as all sockets of a port allow
/// its reuse, the kernel only looks at those that listen, and of a port it may remember that they do until one listens. So
/// this one listens, takes the permission back while nobody else can listen, and stops listening. A client that comes in
/// that moment is reset, which tells it as much as the refusal before and after.
fn claim(socket: &socket2::Socket) -> io::Result<()> {
    socket.listen(0)?;
    socket.set_reuse_address(false)?;
    // Of a socket that listens this ends only the listening; it keeps its address.
    socket.shutdown(Shutdown::Read)
}

fn device_and_inode(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

impl Bound {
    /// Binds `listen` for `core`.
    ///
    /// # Errors
    ///
    /// One line that names the address and what is wrong with it.
    pub fn bind(listen: &Listen, core: usize) -> Result<Bound, String> {
        Bound::bind_for(Flag::Listen, listen, core)
    }

    /// As [`bind`](Self::bind), for an address that another flag gave.
    ///
    /// # Errors
    ///
    /// One line that names the address and what is wrong with it.
    pub fn bind_for(flag: Flag, listen: &Listen, core: usize) -> Result<Bound, String> {
        let bind = || match listen {
            Listen::Tcp(_) => Bound::bind_tcp(listen),
            Listen::Unix(pattern) => Bound::bind_unix(flag, listen, Listen::unix_path(pattern, core)),
        };
        patiently(bind).map_err(|error| refused(flag, listen, &error))
    }

    /// Tries what [`bind_for`](Self::bind_for) does, and leaves nothing behind: of a unix socket only the lock is taken, as
    /// a stale socket is another one's to replace.
    ///
    /// # Errors
    ///
    /// Those of the bind.
    pub fn try_for(flag: Flag, listen: &Listen, core: usize) -> Result<Tried, String> {
        let attempt = || match listen {
            Listen::Tcp(_) => {
                let bound = Bound::bind_tcp(listen)?;
                let name = bound.name();
                Ok(Tried { _held: Held::Tcp { _socket: bound.socket }, name, stale: false })
            }
            Listen::Unix(pattern) => {
                let path = Listen::unix_path(pattern, core);
                let was_there = Lock::path(&path).exists();
                let mut lock = Lock::of(&path)?;
                lock.stays = was_there;
                SockAddr::unix(&path)?;
                let stale = look(&path)? == Place::Stale;
                let name = format!("unix:{}", path.display());
                Ok(Tried { _held: Held::Unix { _lock: lock }, name, stale })
            }
        };
        patiently(attempt).map_err(|error| refused(flag, listen, &error))
    }

    /// Looks at what [`bind_for`](Self::bind_for) would find at the path of a unix socket, and touches nothing: for a
    /// directory that is another lock's.
    ///
    /// # Errors
    ///
    /// Those of the bind.
    pub fn look_for(flag: Flag, listen: &Listen, path: &Path) -> Result<Tried, String> {
        let found = SockAddr::unix(path).and_then(|_| look(path));
        let stale = found.map_err(|error| refused(flag, listen, &error))? == Place::Stale;
        Ok(Tried { _held: Held::Nothing, name: format!("unix:{}", path.display()), stale })
    }

    fn bind_tcp(listen: &Listen) -> io::Result<Bound> {
        let Listen::Tcp(address) = listen else { unreachable!("called for TCP addresses") };
        let socket = socket2::Socket::new(Domain::for_address(*address), Type::STREAM, Some(Protocol::TCP))?;
        // A restart must not wait for the old connections' TIME_WAIT to pass.
        socket.set_reuse_address(true)?;
        socket.bind(&SockAddr::from(*address))?;
        // A port that the kernel chose is nobody else's, and would be lost with the listening.
        if address.port() != 0 {
            claim(&socket)?;
        }
        // Accepted sockets inherit it: answers are written whole, so there is nothing to coalesce.
        socket.set_tcp_nodelay(true)?;
        Ok(Bound { socket, listen: listen.clone(), path: None })
    }

    /// Binds without monoio, which would set SO_REUSEPORT: Linux refuses that on unix sockets since 6.12.
    fn bind_unix(flag: Flag, listen: &Listen, path: PathBuf) -> io::Result<Bound> {
        let lock = Lock::of(&path)?;
        if look(&path)? == Place::Stale {
            fs::remove_file(&path)?;
        }
        let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.bind(&SockAddr::unix(&path)?)?;
        let path = UnixPath { file: device_and_inode(&path)?, path, _lock: lock };
        fs::set_permissions(&path.path, fs::Permissions::from_mode(flag.mode()))?;
        Ok(Bound { socket, listen: listen.clone(), path: Some(path) })
    }

    /// The address as text, with the port that the kernel chose if port 0 was given.
    pub fn name(&self) -> String {
        match (&self.listen, self.socket.local_addr()) {
            (Listen::Tcp(_), Ok(address)) => {
                address.as_socket().map_or_else(|| self.listen.to_string(), |address| address.to_string())
            }
            _ => match &self.path {
                Some(path) => format!("unix:{}", path.path.display()),
                None => self.listen.to_string(),
            },
        }
    }

    /// Begins to listen. epoll needs a non-blocking socket, io_uring a blocking one.
    pub fn listen(mut self, backlog: i32, nonblocking: bool) -> io::Result<Socket> {
        if let Listen::Tcp(_) = self.listen {
            // Old connections are in the way of a socket that does not allow this, and accepted ones inherit it.
            self.socket.set_reuse_address(true)?;
        }
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
        if device_and_inode(&self.path).is_ok_and(|file| file == self.file)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::debug!(%error, path = %self.path.display(), "removing a socket");
        }
    }
}

/// Tries as long as another process may be about to let go of the address.
fn patiently<T>(attempt: impl Fn() -> io::Result<T>) -> io::Result<T> {
    let began = Instant::now();
    loop {
        match attempt() {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && began.elapsed() < BIND_TIME_MAX => {
                std::thread::sleep(BIND_PAUSE);
            }
            ended => return ended,
        }
    }
}

fn refused(flag: Flag, listen: &Listen, error: &io::Error) -> String {
    let flag = flag.name();
    let remedy = match error.kind() {
        io::ErrorKind::AddrInUse => format!("; another server listens there: stop it or give another {flag}"),
        io::ErrorKind::PermissionDenied => format!("; give another {flag} or run as a user who may"),
        io::ErrorKind::NotFound => format!("; its directory does not exist: make it or give another {flag}"),
        _ => format!("; give another {flag}"),
    };
    format!("cannot listen on {listen}: {error}{remedy}")
}

/// What is at a path, if it may be taken.
fn look(path: &Path) -> io::Result<Place> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Place::Free),
        Err(error) => Err(error),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            Err(io::Error::new(io::ErrorKind::AlreadyExists, "a file that is no socket is there"))
        }
        Ok(_) if is_listened_on(path)? => Err(io::ErrorKind::AddrInUse.into()),
        Ok(_) => Ok(Place::Stale),
    }
}

fn is_listened_on(path: &Path) -> io::Result<bool> {
    let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // A listener with a full backlog would make a blocking connect wait.
    socket.set_nonblocking(true)?;
    match socket.connect(&SockAddr::unix(path)?) {
        Ok(()) => Ok(true),
        Err(error) => match error.kind() {
            io::ErrorKind::WouldBlock => Ok(true),
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => Ok(false),
            // Of another kind, or of a user whose sockets are not ours: nobody knows that it is stale.
            _ => Err(io::Error::new(
                error.kind(),
                format!("a socket is there that may be somebody's: {error}"),
            )),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_of_another_kind_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("dgram");
        let _theirs = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
        let listen: Listen = format!("unix:{}", path.display()).parse().unwrap();
        let Err(error) = Bound::bind(&listen, 0) else { panic!("somebody's socket was replaced") };
        assert!(error.contains("may be somebody's"), "{error}");
        assert!(path.exists());
    }

    #[test]
    fn a_lock_is_a_file_of_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let listen: Listen = format!("unix:{}/x.sock", directory.path().display()).parse().unwrap();
        let (lock, target) = (directory.path().join("x.sock.lock"), directory.path().join("target"));
        std::os::unix::fs::symlink(&target, &lock).unwrap();
        assert!(Bound::bind(&listen, 0).is_err(), "a link was followed");
        assert!(!target.exists());
        fs::remove_file(&lock).unwrap();
        nix::unistd::mkfifo(&lock, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(Bound::bind(&listen, 0).is_err(), "a pipe was taken for a lock");
    }

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
        // A successor that has the path by now keeps it.
        let taken_over = directory.path().join("core-7.sock");
        fs::remove_file(&taken_over).unwrap();
        let successor = std::os::unix::net::UnixListener::bind(&taken_over).unwrap();
        drop(listening);
        assert!(taken_over.exists());
        drop(successor);
        fs::write(directory.path().join("core-8.sock"), "precious").unwrap();
        assert!(Bound::bind(&listen, 8).is_err());
        assert_eq!(fs::read(directory.path().join("core-8.sock")).unwrap(), b"precious");
    }

    #[test]
    fn what_is_bound_is_claimed_before_it_listens() {
        let directory = tempfile::tempdir().unwrap();
        let unix: Listen = format!("unix:{}", directory.path().join("a.sock").display()).parse().unwrap();
        // A port that is free now.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        for listen in [unix, Listen::Tcp(free)] {
            let first = Bound::bind(&listen, 0).unwrap();
            let Err(error) = Bound::bind(&listen, 0) else { panic!("{listen} was claimed twice") };
            assert!(error.contains("another server listens there"), "{error}");
            drop(first);
            drop(Bound::bind(&listen, 0).unwrap());
        }
        let left: Vec<_> = fs::read_dir(directory.path()).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }

    /// The port is claimed as the kernel will see it when both listen, by addresses that overlap and no others; until then
    /// a client is refused.
    #[test]
    fn addresses_that_overlap_are_claimed_before_they_listen() {
        if std::net::TcpListener::bind("[::1]:0").is_err() {
            return println!("skipped: no IPv6 here");
        }
        for (held, taken, free) in [
            ("0.0.0.0", &["0.0.0.0", "127.0.0.1", "[::]"][..], &["[::1]"][..]),
            ("127.0.0.1", &["127.0.0.1", "0.0.0.0", "[::]"], &["127.0.0.2", "[::1]"]),
            ("[::]", &["[::]", "[::1]", "0.0.0.0", "127.0.0.1"], &[]),
            ("[::1]", &["[::1]", "[::]"], &["127.0.0.1", "0.0.0.0"]),
        ] {
            // A port that is free on all addresses.
            let port = std::net::TcpListener::bind("[::]:0").unwrap().local_addr().unwrap().port();
            let bind = |address: &str| Bound::bind_tcp(&format!("{address}:{port}").parse().unwrap());
            let first = bind(held).unwrap();
            let near = held.replace("0.0.0.0", "127.0.0.1").replace("[::]", "[::1]");
            let near = format!("{near}:{port}");
            let client = || std::net::TcpStream::connect(&near).map_err(|error| error.kind());
            assert_eq!(client().err(), Some(io::ErrorKind::ConnectionRefused));
            let expect_taken = || {
                for address in taken {
                    let bound = bind(address).map(|_| ()).map_err(|error| error.kind());
                    assert_eq!(bound, Err(io::ErrorKind::AddrInUse), "{address} beside {held}");
                }
            };
            expect_taken();
            for address in free {
                drop(bind(address).unwrap().listen(1, false).unwrap());
            }
            let listening = first.listen(1, false).unwrap();
            assert!(client().is_ok());
            expect_taken();
            drop(listening);
            drop(bind(held).unwrap());
        }
    }

    #[test]
    fn one_of_many_claims_an_address() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let listens = [Listen::Tcp(free), format!("0.0.0.0:{}", free.port()).parse().unwrap()];
        for _ in 0..100 {
            let barrier = std::sync::Barrier::new(4);
            let bound: Vec<_> = std::thread::scope(|scope| {
                let bind = |listen| {
                    barrier.wait();
                    Bound::bind_tcp(listen)
                };
                let threads: Vec<_> =
                    listens.iter().cycle().take(4).map(|listen| scope.spawn(move || bind(listen))).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            assert_eq!(bound.iter().filter(|bound| bound.is_ok()).count(), 1);
        }
    }

    #[test]
    fn a_port_that_the_kernel_chose_stays() {
        let bound = Bound::bind(&"127.0.0.1:0".parse().unwrap(), 0).unwrap();
        let name = bound.name();
        let _listening = bound.listen(1, false).unwrap();
        assert!(std::net::TcpStream::connect(name).is_ok());
    }

    #[test]
    fn a_restart_does_not_wait_for_old_connections() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        for _ in 0..2 {
            let bound = Bound::bind(&Listen::Tcp(free), 0).unwrap();
            let Ok(Socket::Tcp(listener)) = bound.listen(1, false) else { panic!("a listener") };
            let mut client = std::net::TcpStream::connect(free).unwrap();
            // The server closes first: its port is in TIME_WAIT.
            drop(listener.accept().unwrap());
            assert_eq!(io::Read::read(&mut client, &mut [0]).unwrap(), 0);
        }
    }

    #[test]
    fn a_taken_port_is_said() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let listen = Listen::Tcp(taken.local_addr().unwrap());
        let Err(error) = Bound::bind(&listen, 0) else { panic!("bound twice") };
        assert!(error.contains("another server listens there"), "{error}");
    }
}
