//! What an instance says of itself in `/healthz`. It reads counters and states; it decides nothing.

use std::collections::BTreeSet;
use std::time::Instant;

use serde::Serialize;

use crate::ledger::LedgerState;
use crate::people::CoreState;

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
    /// In how many partitions the people are.
    pub partitions: usize,
    /// Of each node the version of its database server, as it said at the start, and whether a commit survives a crash of
    /// its machine, by the server's settings at the start.
    pub databases: Vec<(String, bool)>,
}

/// What drives a core's sockets.
#[derive(Serialize)]
pub struct DriverState {
    /// `io_uring` or `epoll`.
    pub name: &'static str,
    /// Why this one, and how it is set up.
    pub reason: String,
}

#[derive(Serialize)]
struct Document<'a> {
    status: &'static str,
    version: &'static str,
    uptime_seconds: u64,
    reloading: bool,
    driver: &'a DriverState,
    cores: &'a [usize],
    database: DatabaseState<'a>,
    cache: CacheState,
    connections: Connections,
    held: HeldState,
}

#[derive(Serialize)]
struct DatabaseState<'a> {
    reachable: bool,
    version: &'a str,
    durable: bool,
    creates_waiting: usize,
    reads_waiting: usize,
    /// How many there are.
    partitions: usize,
    nodes: Vec<Node<'a>>,
}

/// A database and its standbys.
#[derive(Serialize)]
struct Node<'a> {
    reachable: bool,
    version: &'a str,
    durable: bool,
    creates_waiting: usize,
    /// The numbers of those that are there.
    partitions: BTreeSet<usize>,
    /// Of those the ones that take no pessoas, as they move.
    closed: BTreeSet<usize>,
}

#[derive(Serialize)]
struct CacheState {
    pessoas: usize,
    bytes: usize,
    budget_bytes: usize,
    bodies_dropped: usize,
    search_complete: bool,
    /// Of the core that is furthest behind: what others committed within this time it may lack.
    age_ms: Option<u64>,
}

/// Of all cores together.
#[derive(Serialize)]
struct Connections {
    open: usize,
    accepted: u64,
    refused: u64,
    panics: u64,
}

/// The bytes that all cores together hold for their clients, and may hold.
#[derive(Serialize)]
struct HeldState {
    limit_bytes: usize,
    connections_bytes: usize,
    received_bytes: usize,
    waiting_bytes: usize,
    gathered_bytes: usize,
    refused: u64,
}

impl From<LedgerState> for HeldState {
    fn from(ledger: LedgerState) -> HeldState {
        HeldState {
            limit_bytes: ledger.limit,
            connections_bytes: ledger.connections,
            received_bytes: ledger.received,
            waiting_bytes: ledger.waiting,
            gathered_bytes: ledger.gathered,
            refused: ledger.refused,
        }
    }
}

impl Health {
    /// Whether a balancer should send requests here, and the document that says so, as JSON.
    pub fn render(&self, cores: &[CoreState]) -> (bool, String) {
        let draining = cores.iter().any(|core| core.connections.draining);
        let loaded = cores.len() == self.cpus.len() && cores.iter().all(|core| core.share.loaded);
        let serving = loaded && !draining;
        let reloading = cores.iter().any(|core| core.share.reloading);
        let age = CoreState::oldest(cores);
        let sum = |of: fn(&CoreState) -> usize| cores.iter().map(of).sum();
        let count = |of: fn(&CoreState) -> u64| cores.iter().map(of).sum();
        let mut ledger = LedgerState::default();
        cores.iter().for_each(|core| ledger += core.ledger);
        let document = Document {
            status: match (serving, draining) {
                (true, _) => "serving",
                (false, true) => "draining",
                (false, false) => "loading",
            },
            version: env!("CARGO_PKG_VERSION"),
            uptime_seconds: self.started.elapsed().as_secs(),
            reloading,
            driver: &self.driver,
            cores: &self.cpus,
            database: DatabaseState {
                reachable: cores.iter().all(|core| core.share.reachable),
                version: self.databases.first().map_or("", |(version, _)| version),
                durable: self.databases.iter().all(|(_, durable)| *durable),
                creates_waiting: sum(|core| core.share.lines.commit.now),
                reads_waiting: sum(|core| core.share.lines.read.now + core.share.lines.count.now),
                partitions: self.partitions,
                nodes: self.nodes(cores),
            },
            cache: CacheState {
                pessoas: sum(|core| core.share.memory.pessoas),
                bytes: sum(|core| core.share.memory.total),
                budget_bytes: self.cache_bytes * self.cpus.len(),
                bodies_dropped: sum(|core| core.share.memory.bodies_dropped),
                search_complete: loaded && cores.iter().all(|core| core.share.answers_searches()),
                age_ms: age.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
            },
            connections: Connections {
                open: sum(|core| core.connections.open),
                accepted: count(|core| core.connections.accepted),
                refused: count(|core| core.connections.refused),
                panics: count(|core| core.connections.panics),
            },
            held: ledger.into(),
        };
        (serving, sonic_rs::to_string(&document).expect("numbers and strings are always JSON"))
    }
    fn nodes(&self, cores: &[CoreState]) -> Vec<Node<'_>> {
        let databases = self.databases.iter().enumerate();
        let nodes = databases.map(|(number, (version, durable))| {
            let states = || cores.iter().filter_map(|core| core.share.nodes.get(number));
            Node {
                reachable: !cores.is_empty() && states().all(|node| node.reachable),
                version,
                durable: *durable,
                creates_waiting: states().map(|node| node.lines.commit.now).sum(),
                partitions: states().flat_map(|node| &node.partitions).copied().collect(),
                closed: states().flat_map(|node| &node.closed).copied().collect(),
            }
        });
        nodes.collect()
    }
}
