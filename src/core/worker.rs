//! One core: a pinned thread with its ring, listeners, partition and database handle. It starts and stops them; it
//! answers nothing itself.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use monoio::io::{AsyncReadRent, AsyncWriteRent};
use monoio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use monoio::time::sleep;
use nix::sys::socket::{Shutdown, shutdown};

use crate::api::handlers::Api;
use crate::api::health::Health;
use crate::channel::ring;
use crate::core::driver::{self, Chosen, Wanted};
use crate::core::topology;
use crate::limits::{
    ACCEPT_BACKOFF, ACCEPT_LOG_PERIOD, DRAIN_BACKLOG_QUIET, DRAIN_IDLE_TIME_MAX, DRAIN_TIME_MAX, FEED_PAUSE,
    FEED_TURN_MAX, LISTEN_BACKLOG, SWEEP_PERIOD,
};
use crate::net::acceptor::Accepted;
use crate::net::conversation::{Connections, Service, serve};
use crate::net::listener::{Bound, Socket};
use crate::people::home::Minter;
use crate::people::mesh::{Mesh, Wiring};
use crate::people::partition::Partition;
use crate::postgres::{Fed, Link, ServerFacts};

/// All that one core is made of.
pub struct Plan {
    /// The core's number in this instance.
    pub core: usize,
    /// The logical CPU of every core of the instance.
    pub cpus: Vec<usize>,
    /// What drives its sockets.
    pub driver: Wanted,
    /// Sockets of its own that are bound and do not listen yet.
    pub sockets: Vec<Bound>,
    /// Connections that others accepted for it.
    pub handed: Vec<ring::Receiver<Accepted>>,
    /// Its Postgres thread.
    pub link: Link,
    /// What the feed sends it.
    pub rows: ring::Receiver<Fed>,
    /// Its rings to the other cores.
    pub wiring: Wiring,
    /// What the database server said at start.
    pub server: ServerFacts,
    /// Bytes for its pessoas and index.
    pub cache_bytes: usize,
    /// Connections at once.
    pub connections_max: usize,
    /// What it is to do next.
    pub commands: ring::Receiver<Command>,
}

/// What a core is told, in this order.
#[derive(Debug)]
pub enum Command {
    /// All cores are loaded: take requests.
    Listen,
    /// Take no new connections, and answer what was received.
    Drain,
    /// All cores have drained: no one will ask any more.
    Leave,
}

/// What a core says of itself.
pub enum Event {
    /// Its share of the table is in memory.
    Loaded {
        /// Rows that were loaded.
        rows: usize,
        /// How long that took.
        time: Duration,
    },
    /// It takes requests.
    Serving(Serving),
    /// Its clients are gone; it still answers the other cores.
    Drained,
}

/// A core that takes requests.
pub struct Serving {
    /// The core's number.
    pub core: usize,
    /// The driver that runs it.
    pub driver: Chosen,
    /// Whether the kernel pinned it, or why not.
    pub pinned: Result<(), String>,
}

/// Runs one core until it is told to leave.
///
/// # Errors
///
/// One line: the driver was refused or a socket cannot listen.
pub fn run(plan: Plan, tell: impl Fn(Event) + 'static) -> Result<(), String> {
    let cpu = plan.cpus[plan.core];
    let pinned = topology::pin(cpu).map_err(|errno| format!("not pinned to CPU {cpu}: {errno}"));
    let (mut driver, chosen) = driver::build(plan.driver).map_err(|error| error.to_string())?;
    let result = driver.block_on(core(plan, chosen, pinned, Rc::new(tell)));
    // Tasks may still wait on this ring; the process is about to exit and the kernel cleans up better.
    std::mem::forget(driver);
    result
}

async fn core(
    plan: Plan,
    driver: Chosen,
    pinned: Result<(), String>,
    tell: Rc<impl Fn(Event) + 'static>,
) -> Result<(), String> {
    let minter = Minter::new().map_err(|error| format!("no randomness for ids: {error}"))?;
    let (database, replies) = plan.link.open();
    let partition =
        Rc::new(Partition::new(plan.core, plan.cpus.len(), plan.cache_bytes, Rc::clone(&database), minter));
    let learner = Rc::clone(&partition);
    monoio::spawn(replies.run(move |learnt| learner.learn(learnt)));
    monoio::spawn(async move { database.flush().await });
    monoio::spawn(hear(plan.rows, Rc::clone(&partition), Rc::clone(&tell)));

    let connections = Connections::new(plan.connections_max);
    let api = Rc::new(Api {
        mesh: Mesh::join(plan.wiring, Rc::clone(&partition)),
        health: Health {
            started: Instant::now(),
            driver: driver.clone(),
            cpus: plan.cpus,
            cache_bytes: plan.cache_bytes,
            server: plan.server,
            connections: Rc::clone(&connections),
        },
    });
    monoio::spawn(sweep(Rc::clone(&connections)));

    let gate = Gate { connections, api, nonblocking: driver.name == "epoll" };
    let (mut sockets, mut handed) = (plan.sockets, plan.handed);
    let (mut listeners, mut paths) = (Vec::new(), Vec::new());
    let mut commands = plan.commands;
    while let Some(command) = commands.pop().await {
        match command {
            Command::Listen => {
                for bound in sockets.drain(..) {
                    let name = bound.name();
                    let opened = gate.open(bound, &mut paths);
                    listeners.push(opened.map_err(|error| format!("cannot listen on {name}: {error}"))?);
                }
                for receiver in handed.drain(..) {
                    gate.admit(receiver);
                }
                let pinned = pinned.clone();
                tell(Event::Serving(Serving { core: plan.core, driver: driver.clone(), pinned }));
            }
            Command::Drain => {
                // What was bound and never listened has no backlog.
                handed.clear();
                drain(&listeners, &gate.connections).await;
                tell(Event::Drained);
            }
            Command::Leave => break,
        }
    }
    partition.close();
    Ok(())
}

/// Takes in what the feed sends, for ever.
async fn hear(mut rows: ring::Receiver<Fed>, partition: Rc<Partition>, tell: Rc<impl Fn(Event) + 'static>) {
    let began = Instant::now();
    let mut told = false;
    let mut turn = 0;
    while let Some(fed) = rows.pop().await {
        // A ring that never runs empty would keep all else waiting; only a timer lets the driver have a turn.
        turn += 1;
        if turn == FEED_TURN_MAX {
            turn = 0;
            sleep(FEED_PAUSE).await;
        }
        // After another history was loaded the others need not hear: this core answers all along.
        if partition.hear(fed) && !told {
            told = true;
            tell(Event::Loaded { rows: partition.state().memory.pessoas, time: began.elapsed() });
        }
    }
}

/// The core's clock, aligned to the second so that `Date` is right.
pub async fn sweep(connections: Rc<Connections>) {
    loop {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let into_second = Duration::from_nanos(u64::from(now.subsec_nanos()));
        sleep(SWEEP_PERIOD.saturating_sub(into_second)).await;
        connections.sweep();
    }
}

/// Where connections come in.
struct Gate {
    connections: Rc<Connections>,
    api: Rc<Api>,
    /// epoll needs sockets that do not block; io_uring must not have one.
    nonblocking: bool,
}

impl Gate {
    /// Listens, and serves what connects; the listener's file descriptor, to end that one day.
    fn open(&self, bound: Bound, paths: &mut Vec<crate::net::listener::UnixPath>) -> io::Result<RawFd> {
        match bound.listen(LISTEN_BACKLOG, self.nonblocking)? {
            Socket::Tcp(socket) => Ok(self.accept_from(TcpListener::from_std(socket)?)),
            Socket::Unix(socket, path) => {
                paths.push(path);
                Ok(self.accept_from(UnixListener::from_std(socket)?))
            }
        }
    }

    fn accept_from<L: Accept>(&self, listener: L) -> RawFd {
        let fd = listener.as_raw_fd();
        monoio::spawn(accept(listener, Rc::clone(&self.connections), Rc::clone(&self.api)));
        fd
    }

    /// Serves what an acceptor hands over, until that ends.
    fn admit(&self, mut handed: ring::Receiver<Accepted>) {
        let (connections, api, nonblocking) =
            (Rc::clone(&self.connections), Rc::clone(&self.api), self.nonblocking);
        connections.open_door();
        monoio::spawn(async move {
            while let Some(accepted) = handed.pop().await {
                let (connections, api) = (Rc::clone(&connections), Rc::clone(&api));
                let admitted = match accepted {
                    Accepted::Tcp(stream) => stream
                        .set_nonblocking(nonblocking)
                        .and_then(|()| TcpStream::from_std(stream))
                        .map(|stream| drop(monoio::spawn(serve(stream, connections, api)))),
                    Accepted::Unix(stream) => stream
                        .set_nonblocking(nonblocking)
                        .and_then(|()| UnixStream::from_std(stream))
                        .map(|stream| drop(monoio::spawn(serve(stream, connections, api)))),
                };
                if let Err(error) = admitted {
                    tracing::warn!(%error, "a connection could not be taken over");
                }
            }
            connections.close_door();
        });
    }
}

/// Serves every connection that `listener` accepts, until it is shut down while draining.
pub async fn accept<L: Accept, V: Service>(listener: L, connections: Rc<Connections>, service: Rc<V>) {
    let mut said: Option<Instant> = None;
    loop {
        match listener.next().await {
            Ok(stream) => {
                monoio::spawn(serve(stream, Rc::clone(&connections), Rc::clone(&service)));
            }
            // The listener was shut down under this accept.
            Err(_) if connections.closing() => return,
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
pub trait Accept: AsRawFd + 'static {
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

/// Accepts what the backlogs hold, lets requests end, and gives idle clients time for a last one.
async fn drain(listeners: &[RawFd], connections: &Rc<Connections>) {
    connections.drain();
    let began = Instant::now();
    // A listener that was quiet for a moment has an empty backlog; shutting down a full one would reset it.
    loop {
        let accepted = connections.accepted();
        sleep(DRAIN_BACKLOG_QUIET).await;
        if connections.accepted() == accepted || began.elapsed() >= DRAIN_IDLE_TIME_MAX {
            break;
        }
    }
    connections.close();
    for &fd in listeners {
        if let Err(errno) = shutdown(fd, Shutdown::Read) {
            tracing::debug!(%errno, "shutting a listener down");
        }
    }
    while connections.expects_more() && began.elapsed() < DRAIN_TIME_MAX {
        if began.elapsed() >= DRAIN_IDLE_TIME_MAX {
            connections.end_idle();
        }
        sleep(DRAIN_BACKLOG_QUIET).await;
    }
    if connections.open() > 0 {
        tracing::warn!(open = connections.open(), "connections were still open after {DRAIN_TIME_MAX:?}");
    }
}
