//! What a row of the contract is checked in: a server on a database of its own, and a way to reach it. It knows no
//! row itself.
//!
//! Each test has a cluster of its own. One for all tests would be a static, which is never dropped: its Postgres would
//! outlive the tests. It would also need the more connections, the more tests run at once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::Builder;

use tempfile::TempDir;
use tokio_postgres::Config;

use crate::answer::Client;
use crate::cluster::{self, Cluster, temporary_directory};
use crate::server::{Address, Connection, Response, Server, request};

/// The sets of server arguments that every row must hold with.
pub(crate) const ARGUMENTS: &[&[&str]] = &[
    &["--cores", "1"],
    &["--cores", "1", "--driver", "epoll"],
    &["--cores", "1", "--cache-bytes", CACHE_WITHOUT_BODIES],
    &["--cores", "1", "--cache-bytes", CACHE_WITHOUT_INDEX],
    &["--cores", "2"],
    // More threads than CPUs, on most machines that test this.
    &["--cores", "4"],
];

/// Room for the index of everyone, and not for everyone's body.
const CACHE_WITHOUT_BODIES: &str = "768KiB";
/// As little memory as the server takes: searches and most bodies come from Postgres.
const CACHE_WITHOUT_INDEX: &str = "64KiB";

/// Rows from before the start, as many as the small caches have no room for. No test searches for what they contain:
/// `一` and digits.
const PAST: &str = r"
    INSERT INTO pessoas (id, apelido, nome, nascimento, search)
    SELECT gen_random_uuid(), apelido, nome, '2000-01-01',
           convert_to(apelido, 'UTF8') || '\x00'::bytea || convert_to(nome, 'UTF8')
    FROM (SELECT '一' || number AS apelido, repeat('一', 100) AS nome FROM generate_series(1, 1000) AS number) AS past";

/// How a client reaches the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Tcp,
    Unix,
    /// Both in turns.
    Both,
}

/// A server, its database and the way to it.
pub(crate) struct World {
    pub(crate) server: Server,
    pub(crate) database: Config,
    pub(crate) arguments: &'static [&'static str],
    transport: Transport,
    connections: AtomicUsize,
    sockets: TempDir,
}

/// Calls `check` with a world for each set of arguments and each transport, one after the other, on a cluster of their
/// own. `rows` are there before the servers start.
pub(crate) fn in_every_world(rows: &str, check: impl Fn(&World) + Sync) {
    let cluster = Cluster::start();
    for arguments in ARGUMENTS {
        // What a cache holds does not depend on how it is asked.
        let transports: &[Transport] = match arguments.contains(&"--cache-bytes") {
            true => &[Transport::Both],
            false => &[Transport::Tcp, Transport::Unix],
        };
        for &transport in transports {
            let check = || check(&World::start(&cluster, arguments, transport, rows));
            side_by_side(&[(&*format!("{} over {transport:?}", arguments.join(" ")), &check)]);
        }
    }
}

/// Runs each task in a thread of its name, which a failure's message then has.
pub(crate) fn side_by_side(tasks: &[(&str, &(dyn Fn() + Sync))]) {
    std::thread::scope(|scope| {
        for &(name, task) in tasks {
            Builder::new().name(name.to_owned()).spawn_scoped(scope, task).expect("a thread");
        }
    });
}

impl World {
    /// Makes a database, in which `rows` are the oldest, and starts a server on it. The cluster must outlive the world.
    pub(crate) fn start(
        cluster: &Cluster,
        arguments: &'static [&'static str],
        transport: Transport,
        rows: &str,
    ) -> World {
        let database = new_database(cluster);
        cluster::query(&database, &format!("{}; {rows}; {PAST}", include_str!("../../schema.sql")));
        let sockets = temporary_directory();
        let server = start_server(&database, arguments, &sockets, "");
        let connections = AtomicUsize::new(0);
        World { server, database, arguments, transport, connections, sockets }
    }

    /// Another instance on the same database.
    pub(crate) fn other_instance(&self) -> Server {
        start_server(&self.database, self.arguments, &self.sockets, "other-")
    }

    /// Whether memory holds no index, so that Postgres answers every search.
    pub(crate) fn has_no_index(&self) -> bool {
        self.arguments.contains(&CACHE_WITHOUT_INDEX)
    }

    /// Checks that the small caches are as small as intended, and no smaller: else the world would test what others
    /// test already.
    pub(crate) fn check_cache(&self) {
        let cache = self.ask("GET", "/healthz", "").json()["cache"].take();
        assert_eq!(cache["search_complete"], !self.has_no_index(), "{cache}");
        if self.arguments.contains(&CACHE_WITHOUT_BODIES) {
            assert_ne!(cache["bodies_dropped"], 0, "{cache}");
        }
    }

    /// The places that lead to the server, in the order in which connections are made to them.
    pub(crate) fn addresses(&self) -> Vec<Address> {
        addresses(&self.server, self.transport)
    }

    /// A new connection.
    pub(crate) fn connect(&self) -> Client {
        let addresses = self.addresses();
        let turn = self.connections.fetch_add(1, Ordering::Relaxed);
        Client::new(Connection::open(&addresses[turn % addresses.len()]))
    }

    /// A well-formed request on a connection of its own.
    pub(crate) fn ask(&self, method: &str, target: &str, body: impl AsRef<[u8]>) -> Response {
        self.connect().ask(method, target, body)
    }

    /// A body for `POST /pessoas`.
    pub(crate) fn create(&self, body: impl AsRef<[u8]>) -> Response {
        self.ask("POST", "/pessoas", body)
    }

    /// What Postgres says itself.
    pub(crate) fn query(&self, statement: &str) -> Vec<String> {
        cluster::query(&self.database, statement)
    }

    /// What Postgres counts itself.
    pub(crate) fn rows(&self) -> u64 {
        self.query("SELECT count(*) FROM pessoas")[0].parse().unwrap()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // A kill loses nothing, as Postgres is not the server's own. An orderly end would cost each world the time of a
        // drain.
        if !self.server.has_ended() {
            self.server.kill();
        }
    }
}

/// The addresses of a server that `transport` may use.
pub(crate) fn addresses(server: &Server, transport: Transport) -> Vec<Address> {
    let allowed = |address: &Address| match transport {
        Transport::Tcp => matches!(address, Address::Tcp(_)),
        Transport::Unix => matches!(address, Address::Unix(_)),
        Transport::Both => true,
    };
    server.addresses().into_iter().filter(allowed).collect()
}

fn new_database(cluster: &Cluster) -> Config {
    static DATABASES: AtomicUsize = AtomicUsize::new(0);
    let name = format!("world{}", DATABASES.fetch_add(1, Ordering::Relaxed));
    cluster.query(&format!("CREATE DATABASE {name}"));
    let mut database = cluster.config();
    database.dbname(&name);
    database
}

fn start_server(database: &Config, arguments: &[&str], sockets: &TempDir, name: &str) -> Server {
    let listen = format!("unix:{}/{name}{{core}}.sock", sockets.path().display());
    Server::on(database, &[&["--listen", &listen], arguments].concat())
}

/// A body for `POST /pessoas` whose other members are right.
pub(crate) fn person(apelido: &str) -> String {
    format!(r#"{{"apelido":"{apelido}","nome":"Ana","nascimento":"2000-02-29"}}"#)
}

/// A request whose body comes in two chunks.
pub(crate) fn chunked(target: &str, body: &str) -> String {
    let (first, second) = body.split_at(body.len() / 2);
    let head = request("POST", target, "").replace("\r\n\r\n", "\r\nTransfer-Encoding: chunked\r\n\r\n");
    format!("{head}{:x}\r\n{first}\r\n{:X};a=b\r\n{second}\r\n0\r\n\r\n", first.len(), second.len())
}
