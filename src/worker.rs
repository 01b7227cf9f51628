//! One core: a pinned thread with its ring, listeners, shard and database handle. It starts and stops them; it
//! answers nothing itself.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use monoio::io::{AsyncReadRent, AsyncWriteRent};
use monoio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use monoio::time::sleep;
use nix::sys::socket::{Shutdown, shutdown};
use tokio::sync::oneshot;

use crate::connection::{Connections, Service, serve};
use crate::driver::{self, Chosen, Wanted};
use crate::handlers::Api;
use crate::health::Health;
use crate::limits::{
    ACCEPT_BACKOFF, ACCEPT_LOG_PERIOD, DRAIN_BACKLOG_QUIET, DRAIN_IDLE_TIME_MAX, DRAIN_TIME_MAX,
    LISTEN_BACKLOG, SWEEP_PERIOD,
};
use crate::listener::{Bound, Socket};
use crate::mesh::Minter;
use crate::postgres::{Learnt, Link, ServerFacts};
use crate::ring;
use crate::shard::Shard;
use crate::topology;

/// All that one core is made of.
pub struct Plan {
    /// The core's number in this instance.
    pub core: usize,
    /// The logical CPU it is pinned to.
    pub cpu: usize,
    /// What drives its sockets.
    pub driver: Wanted,
    /// Sockets that are bound and do not listen yet.
    pub sockets: Vec<Bound>,
    /// Its Postgres thread.
    pub link: Link,
    /// What that thread's server said at start.
    pub server: ServerFacts,
    /// Bytes for pessoas and index.
    pub cache_bytes: usize,
    /// Connections at once.
    pub connections_max: usize,
    /// One message, or the sender's end, stops the core.
    pub stop: ring::Receiver<()>,
}

/// A core that listens.
pub struct Serving {
    /// The driver that runs it.
    pub driver: Chosen,
    /// Whether the kernel pinned it, or why not.
    pub pinned: Result<(), String>,
    /// Rows that were loaded.
    pub rows: usize,
    /// How long that took.
    pub load_time: Duration,
}

/// Runs one core until it is told to stop and has drained. `serving` is called once, when it listens.
///
/// # Errors
///
/// One line: the driver was refused or a socket cannot listen.
pub fn run(plan: Plan, serving: impl FnOnce(Serving)) -> Result<(), String> {
    let pinned = topology::pin(plan.cpu).map_err(|errno| format!("not pinned to CPU {}: {errno}", plan.cpu));
    let (mut driver, chosen) = driver::build(plan.driver).map_err(|error| error.to_string())?;
    let result = driver.block_on(core(plan, chosen, pinned, serving));
    // Tasks may still wait on this ring; the process is about to exit and the kernel cleans up better.
    std::mem::forget(driver);
    result
}

async fn core(
    plan: Plan,
    driver: Chosen,
    pinned: Result<(), String>,
    serving: impl FnOnce(Serving),
) -> Result<(), String> {
    let began = Instant::now();
    let shard = Rc::new(RefCell::new(Shard::new(plan.cache_bytes)));
    let (database, replies) = plan.link.open();
    let (loaded, until_loaded) = oneshot::channel();
    monoio::spawn(replies.run(keep(Rc::clone(&shard), loaded)));
    monoio::spawn({
        let database = Rc::clone(&database);
        async move { database.flush().await }
    });
    until_loaded.await.map_err(|_| "the database thread ended while loading".to_owned())?;

    let connections = Connections::new(plan.connections_max);
    let api = Rc::new(Api {
        shard: Rc::clone(&shard),
        database,
        minter: RefCell::new(Minter::new().map_err(|error| format!("no randomness for ids: {error}"))?),
        health: Health {
            started: Instant::now(),
            driver: driver.clone(),
            cores: vec![plan.cpu],
            cache_bytes: plan.cache_bytes,
            database: plan.server,
            connections: Rc::clone(&connections),
        },
    });
    monoio::spawn(sweep(Rc::clone(&connections)));

    let mut listeners = Vec::new();
    let mut paths = Vec::new();
    for bound in plan.sockets {
        let name = bound.name();
        let socket = bound.listen(LISTEN_BACKLOG, driver.name == "epoll");
        let fd = socket.and_then(|socket| match socket {
            Socket::Tcp(socket) => accept_from(TcpListener::from_std(socket)?, &connections, &api),
            Socket::Unix(socket, path) => {
                paths.push(path);
                accept_from(UnixListener::from_std(socket)?, &connections, &api)
            }
        });
        listeners.push(fd.map_err(|error| format!("cannot listen on {name}: {error}"))?);
    }
    let rows = shard.borrow().len();
    serving(Serving { driver, pinned, rows, load_time: began.elapsed() });

    let mut stop = plan.stop;
    stop.pop().await;
    drain(&listeners, &connections).await;
    api.database.close();
    Ok(())
}

/// What the database says about its rows goes into the shard, before any client hears of it.
fn keep(shard: Rc<RefCell<Shard>>, loaded: oneshot::Sender<()>) -> impl FnMut(Learnt<'_>) {
    let mut loaded = Some(loaded);
    move |learnt| match learnt {
        Learnt::Committed(record) => {
            let mut shard = shard.borrow_mut();
            shard.learn(&record.pessoa.apelido);
            shard.insert(record.pessoa.id, &record.search_text, &record.json);
        }
        Learnt::Taken(apelido) => shard.borrow_mut().learn(apelido),
        Learnt::Loaded => {
            if let Some(loaded) = loaded.take() {
                // The core gave up waiting only if it is ending.
                let _core_is_gone = loaded.send(()).is_err();
            }
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

/// Takes connections from a listener; its file descriptor, to end that one day.
fn accept_from<L: Accept>(listener: L, connections: &Rc<Connections>, api: &Rc<Api>) -> io::Result<RawFd> {
    let fd = listener.as_raw_fd();
    monoio::spawn(accept(listener, Rc::clone(connections), Rc::clone(api)));
    Ok(fd)
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
            Err(_) if connections.draining() => return,
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
    for &fd in listeners {
        if let Err(errno) = shutdown(fd, Shutdown::Read) {
            tracing::debug!(%errno, "shutting a listener down");
        }
    }
    while connections.open() > 0 && began.elapsed() < DRAIN_TIME_MAX {
        if began.elapsed() >= DRAIN_IDLE_TIME_MAX {
            connections.end_idle();
        }
        sleep(DRAIN_BACKLOG_QUIET).await;
    }
    if connections.open() > 0 {
        tracing::warn!(open = connections.open(), "connections were still open after {DRAIN_TIME_MAX:?}");
    }
}
