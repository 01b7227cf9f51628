//! Where one core's connections come in: from its own listeners and from acceptors, until a drain. It serves each
//! connection in a task of its own.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;
use std::time::Instant;

use monoio::io::{AsyncReadRent, AsyncWriteRent};
use monoio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use monoio::time::sleep;
use nix::sys::socket::{Shutdown, shutdown};

use super::acceptor::Accepted;
use super::conversation::serve;
use super::listener::{Bound, Socket, UnixPath};
use super::shared::Shared;
use crate::channel::ring;
use crate::http::Service;
use crate::limits::{
    ACCEPT_BACKOFF, ACCEPT_LOG_PERIOD, DRAIN_BACKLOG_QUIET, DRAIN_IDLE_TIME_MAX, DRAIN_TIME_MAX,
    LISTEN_BACKLOG,
};

/// One core's intake. Dropping it removes the paths of its unix sockets.
pub struct Intake<V> {
    shared: Rc<Shared>,
    service: Rc<V>,
    /// Whether the driver needs non-blocking sockets.
    nonblocking: bool,
    listeners: Vec<RawFd>,
    paths: Vec<UnixPath>,
}

impl<V: Service> Intake<V> {
    /// An intake without a listener yet. `service` answers the requests; `nonblocking` is whether the driver needs
    /// non-blocking sockets.
    pub fn new(shared: Rc<Shared>, service: Rc<V>, nonblocking: bool) -> Intake<V> {
        Intake { shared, service, nonblocking, listeners: Vec::new(), paths: Vec::new() }
    }

    /// Listens, and serves what connects.
    ///
    /// # Errors
    ///
    /// One line: the socket cannot listen.
    pub fn listen(&mut self, bound: Bound) -> Result<(), String> {
        let name = bound.name();
        self.accept_from(bound).map_err(|error| format!("cannot listen on {name}: {error}"))
    }

    fn accept_from(&mut self, bound: Bound) -> io::Result<()> {
        let fd = match bound.listen(LISTEN_BACKLOG, self.nonblocking)? {
            Socket::Tcp(socket) => self.spawn(TcpListener::from_std(socket)?),
            Socket::Unix(socket, path) => {
                self.paths.push(path);
                self.spawn(UnixListener::from_std(socket)?)
            }
        };
        self.listeners.push(fd);
        Ok(())
    }

    fn spawn<L: Accept>(&self, listener: L) -> RawFd {
        let fd = listener.as_raw_fd();
        monoio::spawn(accept(listener, Rc::clone(&self.shared), Rc::clone(&self.service)));
        fd
    }

    /// Serves what an acceptor hands over, until the acceptor ends.
    pub fn take_over(&self, mut handed: ring::Receiver<Accepted>) {
        let (shared, service, nonblocking) =
            (Rc::clone(&self.shared), Rc::clone(&self.service), self.nonblocking);
        shared.drain.acceptor_began();
        monoio::spawn(async move {
            while let Some(accepted) = handed.pop().await {
                let (shared, service) = (Rc::clone(&shared), Rc::clone(&service));
                let admitted = match accepted {
                    Accepted::Tcp(stream) => stream
                        .set_nonblocking(nonblocking)
                        .and_then(|()| TcpStream::from_std(stream))
                        .map(|stream| drop(monoio::spawn(serve(stream, shared, service)))),
                    Accepted::Unix(stream) => stream
                        .set_nonblocking(nonblocking)
                        .and_then(|()| UnixStream::from_std(stream))
                        .map(|stream| drop(monoio::spawn(serve(stream, shared, service)))),
                };
                if let Err(error) = admitted {
                    tracing::warn!(%error, "a connection could not be taken over");
                }
            }
            shared.drain.acceptor_ended();
        });
    }

    /// Accepts what the backlogs hold, lets requests end, and gives idle clients time for a last request.
    pub async fn drain(&self) {
        let shared = &self.shared;
        shared.drain.begin();
        let began = Instant::now();
        // A shutdown resets what is in the backlog, so wait until it is empty: nothing was accepted for a moment.
        loop {
            let accepted = shared.counters.accepted();
            sleep(DRAIN_BACKLOG_QUIET).await;
            if shared.counters.accepted() == accepted || began.elapsed() >= DRAIN_IDLE_TIME_MAX {
                break;
            }
        }
        shared.drain.expect_listeners_to_end();
        for &fd in &self.listeners {
            if let Err(errno) = shutdown(fd, Shutdown::Read) {
                tracing::debug!(%errno, "shutting a listener down");
            }
        }
        while shared.expects_more() && began.elapsed() < DRAIN_TIME_MAX {
            if began.elapsed() >= DRAIN_IDLE_TIME_MAX {
                shared.connections.end_idle();
            }
            sleep(DRAIN_BACKLOG_QUIET).await;
        }
        let open = shared.connections.count();
        if open > 0 {
            tracing::warn!(open, "connections were still open after {DRAIN_TIME_MAX:?}");
        }
    }
}

/// Serves every connection that `listener` accepts, until a drain shuts the listener down.
async fn accept<L: Accept, V: Service>(listener: L, shared: Rc<Shared>, service: Rc<V>) {
    let mut said: Option<Instant> = None;
    loop {
        match listener.next().await {
            Ok(stream) => {
                monoio::spawn(serve(stream, Rc::clone(&shared), Rc::clone(&service)));
            }
            // A drain shut the listener down while this call waited.
            Err(_) if shared.drain.listeners_are_ending() => return,
            // Out of file descriptors or memory: the call fails at once, over and over, until some are free.
            Err(error) => {
                if said.is_none_or(|at| at.elapsed() >= ACCEPT_LOG_PERIOD) {
                    tracing::warn!(%error, "cannot accept a connection; trying on");
                    said = Some(Instant::now());
                }
                sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
}

/// What TCP and unix listeners have in common.
trait Accept: AsRawFd + 'static {
    /// What it accepts.
    type Stream: AsyncReadRent + AsyncWriteRent + AsRawFd + 'static;

    /// The next connection.
    fn next(&self) -> impl Future<Output = io::Result<Self::Stream>>;
}

impl Accept for TcpListener {
    type Stream = TcpStream;

    async fn next(&self) -> io::Result<TcpStream> {
        Ok(self.accept().await?.0)
    }
}

impl Accept for UnixListener {
    type Stream = UnixStream;

    async fn next(&self) -> io::Result<UnixStream> {
        Ok(self.accept().await?.0)
    }
}
