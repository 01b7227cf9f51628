//! The database is away: 503 with `Retry-After`, and never a guess.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio_postgres::Config;

use crate::answer::{Client, expect, request};
use crate::cluster::{self, Cluster};
use crate::server::{Address, Connection, Response};
use crate::world::{ARGUMENTS, Transport, World, person};

/// Longer than any server takes to notice that its database is back.
const RECOVERY_TIME_MAX: Duration = Duration::from_secs(20);

/// More searches than may wait for Postgres, on any number of cores that a test is run with.
const SEARCHERS: usize = 100;

/// What is asked while the database is away, and the start of the refusal's detail.
const ASKED: &[(&str, &str, &str)] = &[
    ("POST", "/pessoas", "503 the database did not answer in time; the pessoa may exist"),
    // Never a 404 by guess.
    ("GET", "/pessoas/00000000-0000-0000-0000-00000000000f", "503 the database did not answer in time"),
    ("HEAD", "/pessoas/00000000-0000-0000-0000-00000000000e", "503"),
    ("GET", "/contagem-pessoas", "503 the database did not answer in time"),
];

/// A database that does not answer, though its connections stand and new ones are let in: the outcome of what it was sent is
/// open.
pub(crate) fn a_cluster_that_hangs() {
    let cluster = Cluster::start();
    let worlds = start(&cluster);
    let stopped: Vec<StoppedBackends> =
        worlds.iter().map(|(world, _)| StoppedBackends::stop(&world.database)).collect();
    let postmaster = StoppedBackends::stop_postmaster(cluster.embedded.pid().unwrap());
    away(&worlds);
    drop((postmaster, stopped));
    back(&worlds);
}

/// A database that is gone, and comes back.
pub(crate) fn a_cluster_that_stops() {
    let mut cluster = Cluster::start();
    let worlds = start(&cluster);
    cluster.embedded.stop().unwrap();
    away(&worlds);
    cluster.embedded.ensure_running().unwrap();
    back(&worlds);
}

/// Starts a world for each set of arguments, and creates a pessoa in it.
fn start(cluster: &Cluster) -> Vec<(World, Response)> {
    let start = |arguments: &&'static [&'static str]| {
        let world = World::start(cluster, arguments, Transport::Both, "");
        let known = world.create(person("known"));
        expect(&known, "201");
        // Each core's connection for searches is made when the first search needs it.
        for address in &world.addresses() {
            expect(&open(address).ask("GET", "/pessoas?t=known", ""), "200");
        }
        (world, known)
    };
    ARGUMENTS.iter().map(start).collect()
}

/// Everything is asked at once, of every server, so that this takes as long as one wait.
fn away(worlds: &[(World, Response)]) {
    std::thread::scope(|scope| {
        for (world, known) in worlds {
            for (method, target, expected) in ASKED {
                let mut clients: Vec<Client> = world.addresses().iter().map(open).collect();
                scope.spawn(move || {
                    let body = if *method == "POST" { person("asked while away") } else { String::new() };
                    for client in &mut clients {
                        client.send(request(method, target, body.as_bytes()));
                    }
                    for client in &mut clients {
                        check_unavailable(&client.receive_to(method), expected);
                        client.expect_alive();
                    }
                });
            }
            scope.spawn(move || {
                if world.has_no_index() { little_memory(world, known) } else { memory(world, known) }
            });
        }
    });
}

fn open(address: &Address) -> Client {
    Client::new(Connection::open(address))
}

#[track_caller]
fn check_unavailable(response: &Response, expected: &str) {
    assert_eq!(response.status, 503);
    // The answer to HEAD has no detail.
    if !response.body.is_empty() {
        expect(response, expected);
    }
    let seconds: u64 = response.header("Retry-After").expect("Retry-After").parse().expect("seconds");
    assert!(seconds > 0);
}

/// What memory can answer goes on, and `/healthz` speaks of the instance. A search is right or refused: past a second
/// memory may lack what others committed.
fn memory(world: &World, known: &Response) {
    for _ in 0..10 {
        let got = world.ask("GET", &format!("/pessoas/{}", known.id()), "");
        assert_eq!((got.status, got.text()), (200, known.text()));
        // For a second at most: then another instance may have committed what memory has not heard of.
        let found = world.ask("GET", "/pessoas?t=KNOWN", "");
        match found.status {
            200 => assert_eq!(found.text(), format!("[{}]", known.text())),
            _ => check_unavailable(&found, "503 "),
        }
        expect(&world.ask("GET", "/healthz", ""), "200");
    }
}

/// What memory has no room for is not guessed either, and no more searches wait than the queue holds.
fn little_memory(world: &World, known: &Response) {
    let got = world.ask("GET", &format!("/pessoas/{}", known.id()), "");
    assert!(got.status == 200 || got.status == 503, "{got:?}");
    expect(&world.ask("GET", "/healthz", ""), "200");
    let refused_at_once = std::thread::scope(|scope| {
        let clients = world.addresses().iter().cycle().take(SEARCHERS).map(open).collect::<Vec<_>>();
        let search = |mut client: Client| {
            let answer = client.ask("GET", "/pessoas?t=known", "");
            check_unavailable(&answer, "503 ");
            answer.text().contains("too many reads are waiting")
        };
        let searching: Vec<_> =
            clients.into_iter().map(|client| scope.spawn(move || search(client))).collect();
        searching.into_iter().map(|search| search.join().unwrap()).filter(|&refused| refused).count()
    });
    assert!(0 < refused_at_once && refused_at_once < SEARCHERS, "{refused_at_once}");
}

/// A client that tries again learns what became of its pessoa, of which there is never a second one.
fn back(worlds: &[(World, Response)]) {
    for (world, _) in worlds {
        let mut answer = None;
        wait_until("the database to be noticed", || {
            let again = world.create(person("asked while away"));
            answer = (again.status != 503).then_some(again.status);
            answer.is_some()
        });
        assert!(matches!(answer, Some(201 | 422)), "{answer:?}");
        assert_eq!(world.query("SELECT count(*) FROM pessoas WHERE apelido = 'asked while away'"), ["1"]);
        expect(
            &world.create(person("asked while away")),
            "422 `apelido`: expected one that no other pessoa has",
        );
        expect(&world.ask("GET", ASKED[1].1, ""), "404 no pessoa has this id");
        expect(&world.ask("GET", "/contagem-pessoas", ""), "200");
        wait_until("every connection to the database", || {
            world.ask("GET", "/healthz", "").json()["database"]["reachable"] == true
        });
    }
}

/// The server's backends in Postgres, stopped by SIGSTOP until this is dropped.
pub(crate) struct StoppedBackends(Vec<Pid>);

impl StoppedBackends {
    /// Stops the backends of the server on `database`. All of the server's connections must have been used before.
    pub(crate) fn stop(database: &Config) -> StoppedBackends {
        let backends = "SELECT pid FROM pg_stat_activity \
                        WHERE datname = current_database() AND application_name LIKE 'rinha %'";
        let pids = cluster::query(database, backends);
        assert!(pids.len() >= 2, "expected backends for commits and for reads");
        let stopped = StoppedBackends(pids.iter().map(|pid| Pid::from_raw(pid.parse().unwrap())).collect());
        for &pid in &stopped.0 {
            kill(pid, Signal::SIGSTOP).unwrap();
        }
        stopped
    }
}

impl StoppedBackends {
    /// Stops a postmaster: it lets clients in, and answers none of them.
    fn stop_postmaster(pid: i32) -> StoppedBackends {
        let pid = Pid::from_raw(pid);
        kill(pid, Signal::SIGSTOP).unwrap();
        StoppedBackends(vec![pid])
    }
}

impl Drop for StoppedBackends {
    fn drop(&mut self) {
        for &pid in &self.0 {
            // A backend that was killed meanwhile needs no waking.
            let _ = kill(pid, Signal::SIGCONT);
        }
    }
}

/// Waits for what no event announces.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < RECOVERY_TIME_MAX, "expected {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
