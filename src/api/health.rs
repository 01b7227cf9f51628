//! What an instance says of itself in `/healthz`. It reads counters and states; it decides nothing.

use std::rc::Rc;
use std::time::Instant;

use serde::Serialize;

use crate::core::driver::Chosen;
use crate::net::conversation::Connections;
use crate::people::partition::PartitionState;
use crate::postgres::ServerFacts;

/// The lasting facts of one core's instance, and where that core's counters are.
pub struct Health {
    /// When the core was started.
    pub started: Instant,
    /// The driver that runs it, and why.
    pub driver: Chosen,
    /// The logical CPUs of the instance's cores.
    pub cpus: Vec<usize>,
    /// The budget of each core's memory.
    pub cache_bytes: usize,
    /// What the database server said at start.
    pub server: ServerFacts,
    /// This core's connections.
    pub connections: Rc<Connections>,
}

#[derive(Serialize)]
struct Document<'a> {
    status: &'static str,
    version: &'static str,
    uptime_seconds: u64,
    driver: DriverState<'a>,
    cores: &'a [usize],
    database: DatabaseState<'a>,
    cache: CacheState,
    connections: ConnectionState,
}

#[derive(Serialize)]
struct DriverState<'a> {
    name: &'a str,
    reason: &'a str,
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

/// Those of the core that answers.
#[derive(Serialize)]
struct ConnectionState {
    open: usize,
    accepted: u64,
    panics: u64,
}

impl Health {
    /// Whether a balancer should send requests here.
    pub fn serving(&self, cores: &[PartitionState]) -> bool {
        !self.connections.draining() && cores.len() == self.cpus.len() && cores.iter().all(|core| core.loaded)
    }

    /// The document, as JSON.
    pub fn render(&self, cores: &[PartitionState]) -> String {
        let sum = |of: fn(&PartitionState) -> usize| cores.iter().map(of).sum();
        let document = Document {
            status: match (self.serving(cores), self.connections.draining()) {
                (true, _) => "serving",
                (false, true) => "draining",
                (false, false) => "loading",
            },
            version: env!("CARGO_PKG_VERSION"),
            uptime_seconds: self.started.elapsed().as_secs(),
            driver: DriverState { name: self.driver.name, reason: &self.driver.reason },
            cores: &self.cpus,
            database: DatabaseState {
                reachable: cores.iter().all(|core| core.reachable),
                version: &self.server.version,
                durable: self.server.durable,
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
            connections: ConnectionState {
                open: self.connections.open(),
                accepted: self.connections.accepted(),
                panics: self.connections.panics(),
            },
        };
        sonic_rs::to_string(&document).expect("numbers and strings are always JSON")
    }
}
