//! What an instance says of itself in `/healthz`. It reads counters and states; it decides nothing.

use std::rc::Rc;
use std::time::Instant;

use serde::Serialize;

use crate::connection::Connections;
use crate::driver::Chosen;
use crate::postgres::{Database, ServerFacts};
use crate::shard::Shard;

/// The lasting facts of one core, and where its counters are.
pub struct Health {
    /// When the process began to serve.
    pub started: Instant,
    /// The driver that runs, and why.
    pub driver: Chosen,
    /// The logical CPUs of the instance's cores.
    pub cores: Vec<usize>,
    /// The budget of this core's shard.
    pub cache_bytes: usize,
    /// What the database server said at start.
    pub database: ServerFacts,
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

#[derive(Serialize)]
struct ConnectionState {
    open: usize,
    accepted: u64,
    panics: u64,
}

impl Health {
    /// Whether a balancer should send requests here.
    pub fn serving(&self) -> bool {
        !self.connections.draining()
    }

    /// The document, as JSON.
    pub fn render(&self, shard: &Shard, database: &Database) -> String {
        let memory = shard.memory();
        let document = Document {
            status: if self.serving() { "serving" } else { "draining" },
            version: env!("CARGO_PKG_VERSION"),
            uptime_seconds: self.started.elapsed().as_secs(),
            driver: DriverState { name: self.driver.name, reason: &self.driver.reason },
            cores: &self.cores,
            database: DatabaseState {
                reachable: database.reachable(),
                version: &self.database.version,
                durable: self.database.durable,
                creates_waiting: database.creates_waiting(),
                reads_waiting: database.reads_waiting(),
            },
            cache: CacheState {
                pessoas: memory.pessoas,
                bytes: memory.total,
                budget_bytes: self.cache_bytes,
                bodies_dropped: memory.bodies_dropped,
                search_complete: memory.complete,
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
