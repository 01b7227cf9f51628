//! One listener for several cores: a thread that accepts and hands each connection to the next core in turn. It
//! reads and writes nothing.
//!
//! A SO_REUSEPORT listener on each core was measured instead: it leaves the spread to chance, and one core got most of
//! a few connections, where turns give each core its share (`perf/results/2026-11-24.md`, "One listener for two
//! cores"). A thread that blocks in `accept` costs no core time between connections, and needs neither io_uring nor
//! epoll.

use std::io;
use std::net::TcpStream;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use nix::sys::socket::{Shutdown, shutdown};

use super::listener::{Bound, Socket, UnixPath};
use crate::channel::ring;
use crate::limits::{
    ACCEPT_BACKOFF, ACCEPT_LOG_PERIOD, DRAIN_BACKLOG_QUIET, DRAIN_IDLE_TIME_MAX, HANDOVER_MAX, LISTEN_BACKLOG,
};

/// An accepted connection on its way to its core; its socket is a blocking one.
pub enum Accepted {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a unix socket.
    Unix(UnixStream),
}

/// A shared listener that is not accepting yet.
pub struct Acceptor {
    bound: Bound,
    cores: Vec<ring::Sender<Accepted>>,
}

/// A shared listener's thread.
pub struct Accepting {
    fd: RawFd,
    accepted: Arc<AtomicU64>,
    draining: Arc<AtomicBool>,
    /// Removed when the server leaves.
    _path: Option<UnixPath>,
}

impl Acceptor {
    /// An acceptor on `bound`, and for each core the ring in which it gets its connections.
    pub fn new(bound: Bound, cores: usize) -> (Acceptor, Vec<ring::Receiver<Accepted>>) {
        let (senders, receivers) = (0..cores).map(|_| ring::channel(HANDOVER_MAX)).unzip();
        (Acceptor { bound, cores: senders }, receivers)
    }

    /// Listens, and hands connections over until [`Accepting::drain`].
    ///
    /// # Errors
    ///
    /// One line: the socket cannot listen or the thread cannot start.
    pub fn start(mut self) -> Result<Accepting, String> {
        let name = self.bound.name();
        let error = |error: io::Error| format!("cannot listen on {name}: {error}");
        let (socket, path) = match self.bound.listen(LISTEN_BACKLOG, false).map_err(error)? {
            Socket::Tcp(socket) => (Listener::Tcp(socket), None),
            Socket::Unix(socket, path) => (Listener::Unix(socket), Some(path)),
        };
        let accepting = Accepting {
            fd: socket.as_raw_fd(),
            accepted: Arc::default(),
            draining: Arc::default(),
            _path: path,
        };
        let (accepted, draining) = (Arc::clone(&accepting.accepted), Arc::clone(&accepting.draining));
        let run = move || accept(&socket, &mut self.cores, &accepted, &draining);
        std::thread::Builder::new().name("acceptor".to_owned()).spawn(run).map_err(error)?;
        Ok(accepting)
    }
}

impl Accepting {
    /// Waits until the backlog is empty, and then shuts the listener down: a shutdown resets what is in the backlog.
    pub fn drain(&self) {
        let began = Instant::now();
        loop {
            let accepted = self.accepted.load(Ordering::Relaxed);
            std::thread::sleep(DRAIN_BACKLOG_QUIET);
            let quiet = self.accepted.load(Ordering::Relaxed) == accepted;
            if quiet || began.elapsed() >= DRAIN_IDLE_TIME_MAX {
                break;
            }
        }
        self.draining.store(true, Ordering::Release);
        if let Err(errno) = shutdown(self.fd, Shutdown::Read) {
            tracing::debug!(%errno, "shutting a listener down");
        }
    }
}

enum Listener {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

impl Listener {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            Listener::Tcp(listener) => listener.as_raw_fd(),
            Listener::Unix(listener) => listener.as_raw_fd(),
        }
    }

    fn accept(&self) -> io::Result<Accepted> {
        match self {
            Listener::Tcp(listener) => listener.accept().map(|(stream, _)| Accepted::Tcp(stream)),
            Listener::Unix(listener) => listener.accept().map(|(stream, _)| Accepted::Unix(stream)),
        }
    }
}

fn accept(
    listener: &Listener,
    cores: &mut [ring::Sender<Accepted>],
    accepted: &AtomicU64,
    draining: &AtomicBool,
) {
    let mut next = 0;
    let mut said: Option<Instant> = None;
    loop {
        match listener.accept() {
            Ok(stream) => {
                accepted.fetch_add(1, Ordering::Relaxed);
                next = hand_over(stream, cores, next);
            }
            // A drain shut the listener down while this call waited.
            Err(_) if draining.load(Ordering::Acquire) => return,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Out of file descriptors or memory: the call fails at once, over and over, until some are free.
            Err(error) => {
                if said.is_none_or(|at| at.elapsed() >= ACCEPT_LOG_PERIOD) {
                    tracing::warn!(%error, "cannot accept a connection; trying on");
                    said = Some(Instant::now());
                }
                std::thread::sleep(ACCEPT_BACKOFF);
            }
        }
    }
}

/// Gives the connection to the core whose turn it is, or to the next core that has room. Returns whose turn is next.
fn hand_over(mut stream: Accepted, cores: &mut [ring::Sender<Accepted>], turn: usize) -> usize {
    loop {
        for offset in 0..cores.len() {
            let core = (turn + offset) % cores.len();
            match cores[core].push(stream) {
                Ok(()) => {
                    cores[core].wake();
                    return (core + 1) % cores.len();
                }
                Err(back) => stream = back,
            }
        }
        // The ring of every core is full: further connections wait in the backlog.
        std::thread::sleep(ACCEPT_BACKOFF);
    }
}
