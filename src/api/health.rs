//! What an instance says of itself in `/healthz`. It reads counters and states; it decides nothing.

use std::time::Instant;

use serde::Serialize;

use crate::people::PartitionState;

/// What one core needs to answer `/healthz`: the facts of its instance that do not change, and its own counters.
pub struct Health {
    /// When the core was started.
    pub started: Instant,
    /// What drives the core's sockets.
    pub driver: DriverState,
    /// The logical CPUs of the instance's cores.
    pub cpus: Vec<usize>,
    /// The budget of each core's memory.
    pub cache_bytes: usize,
    /// The version of the database server, as it said at the start.
    pub database_version: String,
    /// Whether a commit survives a crash of the database's machine, by the database's settings at the start.
    pub durable: bool,
    /// Counts this core's connections as they are now.
    pub connections: Box<dyn Fn() -> ConnectionState>,
}

/// What drives a core's sockets.
#[derive(Serialize)]
pub struct DriverState {
    /// `io_uring` or `epoll`.
    pub name: &'static str,
    /// Why this one, and how it is set up.
    pub reason: String,
}

/// The connections of one core.
#[derive(Serialize)]
pub struct ConnectionState {
    /// Connections that are open.
    pub open: usize,
    /// Connections that were accepted since the start.
    pub accepted: u64,
    /// Connections that a panic ended.
    pub panics: u64,
    /// Whether the core is draining: a balancer should send it no more requests.
    #[serde(skip)]
    pub draining: bool,
}

#[derive(Serialize)]
struct Document<'a> {
    status: &'static str,
    version: &'static str,
    uptime_seconds: u64,
    driver: &'a DriverState,
    cores: &'a [usize],
    database: DatabaseState<'a>,
    cache: CacheState,
    /// The connections of the core that answers, not of all cores.
    connections: ConnectionState,
}

#[derive(Serialize)]
struct DatabaseState<'a> {
    reachable: bool,
    version: &'a str,
    durable: bool,
    creates_waiting: usize,
    reads_waiting: usize,
}

#[derive(Serialize)]
struct CacheState {
    pessoas: usize,
    bytes: usize,
    budget_bytes: usize,
    bodies_dropped: usize,
    search_complete: bool,
}

impl Health {
    /// Whether a balancer should send requests here, and the document that says so, as JSON.
    pub fn render(&self, cores: &[PartitionState]) -> (bool, String) {
        let connections = (self.connections)();
        let loaded = cores.len() == self.cpus.len() && cores.iter().all(|core| core.loaded);
        let serving = loaded && !connections.draining;
        let sum = |of: fn(&PartitionState) -> usize| cores.iter().map(of).sum();
        let document = Document {
            status: match (serving, connections.draining) {
                (true, _) => "serving",
                (false, true) => "draining",
                (false, false) => "loading",
            },
            version: env!("CARGO_PKG_VERSION"),
            uptime_seconds: self.started.elapsed().as_secs(),
            driver: &self.driver,
            cores: &self.cpus,
            database: DatabaseState {
                reachable: cores.iter().all(|core| core.reachable),
                version: &self.database_version,
                durable: self.durable,
                creates_waiting: sum(|core| core.creates_waiting),
                reads_waiting: sum(|core| core.reads_waiting),
            },
            cache: CacheState {
                pessoas: sum(|core| core.memory.pessoas),
                bytes: sum(|core| core.memory.total),
                budget_bytes: self.cache_bytes * self.cpus.len(),
                bodies_dropped: sum(|core| core.memory.bodies_dropped),
                search_complete: cores.iter().all(|core| core.loaded && core.memory.complete),
            },
            connections,
        };
        (serving, sonic_rs::to_string(&document).expect("numbers and strings are always JSON"))
    }
}
