//! Attacks on memory, each on every size of box.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cgroup::Cgroup;
use crate::cluster::{Cluster, temporary_directory};
use crate::load::{Pessoa, wait_until};
use crate::polite::Polite;
use crate::processes::Frozen;
use crate::resident_mib;
use crate::server::{Address, Connection, Server, binary, database_url, request};

const MIB: usize = 1 << 20;

/// Memory limit in MiB and cores.
const BOXES: [(usize, &str); 4] = [(512, "1"), (512, "2"), (128, "1"), (128, "2")];

/// How long an attack lasts after everything was sent.
const ATTACK_TIME: Duration = Duration::from_millis(700);

/// A server in a box, with a pessoa for polite clients.
struct Boxed {
    // Dropped in this order.
    server: Server,
    cluster: Cluster,
    cgroup: Cgroup,
    directory: tempfile::TempDir,
    /// The path of the polite clients' pessoa.
    known: String,
}

impl Boxed {
    fn start(name: &str, (mib, cores): (usize, &str)) -> Option<Boxed> {
        let cgroup = match Cgroup::with_memory(&format!("{name}-{mib}-{cores}"), mib * MIB) {
            Ok(cgroup) => cgroup,
            Err(why) => {
                println!("skipped: no cgroup can be made here: {why}");
                return None;
            }
        };
        let cluster = Cluster::start();
        let directory = temporary_directory();
        let listen = format!("unix:{}/core-{{core}}.sock", directory.path().display());
        let mut command = binary();
        command.args(["--log-format=json", "--listen=127.0.0.1:0", "--cores", cores]);
        command.args(["--listen", &listen, "--database-url", &database_url(&cluster.config())]);
        let mut server = Server::spawn(cgroup.enclose(&command));
        server.wait_until_serving();
        let known = format!("/pessoas/{}", Pessoa::named("conhecida").post_to(&server).id());
        Some(Boxed { server, cluster, cgroup, directory, known })
    }

    /// The cores' own sockets. A unix socket holds little, so that what is not read stays in the server.
    fn sockets(&self) -> Vec<Address> {
        self.server.addresses().split_off(1)
    }

    /// What the server holds, asked on a connection from before the attack: it may have no room for another.
    fn held(probe: &mut Connection) -> Value {
        probe.ask("GET", "/healthz", "").json()["held"].take()
    }

    /// Lets `attack` open its connections, and judges the server while they last and after they left.
    fn judge(&self, name: &str, attack: impl FnOnce(&[Address]) -> Vec<Connection>) {
        let before = resident_mib(&self.server);
        let mut probe = self.server.connect();
        let polite = Polite::start(&self.sockets(), &self.known);
        std::thread::sleep(ATTACK_TIME);
        let quiet = polite.end();
        let polite = Polite::start(&self.sockets(), &self.known);
        let began = Instant::now();
        let attackers = attack(&self.sockets());
        std::thread::sleep(ATTACK_TIME);
        let (during, held, lasted) = (resident_mib(&self.server), Self::held(&mut probe), began.elapsed());
        let attacked = polite.end();
        let count = attackers.len();
        drop(attackers);
        wait_until("nothing held", || {
            let held = Self::held(&mut probe);
            ["received_bytes", "waiting_bytes", "gathered_bytes"].iter().all(|account| held[account] == 0)
        });
        // Memory is given back when a second turns, three times. Rows that the attack created stay.
        let given_back = Instant::now();
        let mut after = resident_mib(&self.server);
        while after > before + 32 && given_back.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(100));
            after = resident_mib(&self.server);
        }
        println!(
            "{name}: {count} attackers for {lasted:.1?}; RSS {before} -> {during} -> {after} MiB; held {held}; polite \
             (requests, p50, p99) {quiet:.1?} -> {attacked:.1?}"
        );
        assert!(after <= before + 32, "memory is not given back: {before} -> {during} -> {after} MiB");
        assert_eq!(self.cgroup.kills(), 0);
        // It was an attack: nearly all of them came in, or were told that there is no room.
        assert!(count > 600, "{count} connections could be opened; is the limit on open files low?");
        assert!(attacked.2 < Duration::from_secs(5), "a polite client waited: {attacked:?}");
        let limit = usize::try_from(held["limit_bytes"].as_u64().expect("a limit")).expect("it fits");
        let sum: u64 = ["connections_bytes", "received_bytes", "waiting_bytes", "gathered_bytes"]
            .iter()
            .map(|account| held[account].as_u64().expect("a number"))
            .sum();
        // Refusals themselves take a little.
        assert!(usize::try_from(sum).expect("it fits") <= limit + MIB, "{held}");
    }

    /// Rows whose bodies are some 60 KB each, all found by one term.
    fn add_long_pessoas(&self, count: usize, items: usize) {
        let item = "i".repeat(32);
        for number in 0..count {
            let pessoa = json!({
                "apelido": format!("longa{number}"), "nome": "Longa", "nascimento": "2000-01-01",
                "stack": vec![item.as_str(); items],
            });
            assert_eq!(self.server.ask("POST", "/pessoas", &pessoa.to_string()).status, 201);
        }
    }

    /// The backends of the server's connections for commits stand still.
    fn stop_commits(&self) -> Frozen {
        let backends = "select pid from pg_stat_activity where application_name like 'rinha % commit'";
        Frozen::freeze(self.cluster.query(backends).iter().map(|pid| pid.parse().expect("a pid")).collect())
    }
}

/// As many connections as are let in, each of which sends `bytes`.
fn attackers(addresses: &[Address], count: usize, bytes: impl Fn(usize) -> Vec<u8>) -> Vec<Connection> {
    let mut connections = Vec::new();
    for (number, address) in (0..count).zip(addresses.iter().cycle()) {
        let Ok(mut connection) = Connection::try_open(address) else { continue };
        // One that is refused may be closed under what it sends.
        let _ = connection.try_send(bytes(number));
        connections.push(connection);
    }
    connections
}

fn each_box(name: &str, attack: impl Fn(&Boxed)) {
    for size in BOXES {
        println!("{name}: {} MiB, {} cores", size.0, size.1);
        let _alone = crate::ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(boxed) = Boxed::start(name, size) {
            attack(&boxed);
            assert!(boxed.directory.path().exists());
        }
    }
}

/// Long answers that nobody reads, from every core.
#[test]
fn searches_that_nobody_reads() {
    each_box("searches", |boxed| {
        boxed.add_long_pessoas(60, 1_700);
        boxed.judge("searches", |addresses| {
            attackers(addresses, 1_000, |_| request("GET", "/pessoas?t=longa", "").into_bytes())
        });
        // Afterwards a search is answered again, whole.
        let found = boxed.server.ask("GET", "/pessoas?t=longa", "");
        assert_eq!((found.status, found.json().as_array().map(Vec::len)), (200, Some(50)));
    });
}

/// An answer that is ready waits behind a create that is not.
#[test]
fn answers_that_gather_behind_a_request_that_waits() {
    each_box("gathered", |boxed| {
        boxed.add_long_pessoas(4, 1_550);
        let frozen = boxed.stop_commits();
        boxed.judge("gathered", |addresses| {
            attackers(addresses, 700, |number| {
                let create = Pessoa::named(&format!("espera{number}")).body();
                [request("GET", "/pessoas?t=longa", ""), request("POST", "/pessoas", &create)]
                    .concat()
                    .into_bytes()
            })
        });
        drop(frozen);
        wait_until("a create", || Pessoa::named("depois").post_to(&boxed.server).status == 201);
    });
}

/// Bodies that are never complete, of a known length and in chunks.
#[test]
fn bodies_on_their_way_in() {
    each_box("bodies", |boxed| {
        boxed.judge("bodies", |addresses| {
            attackers(addresses, 2_000, |number| {
                let head = match number % 2 {
                    0 => "Content-Length: 65536\r\n\r\n".to_owned(),
                    _ => "Transfer-Encoding: chunked\r\n\r\n10000\r\n".to_owned(),
                };
                let mut bytes = format!("POST /pessoas HTTP/1.1\r\nHost: a\r\n{head}").into_bytes();
                bytes.resize(bytes.len() + 65_000, b' ');
                bytes
            })
        });
    });
}

/// Creates of the longest bodies, while the database stands still.
#[test]
fn creates_that_wait() {
    each_box("creates", |boxed| {
        let frozen = boxed.stop_commits();
        let item = "i".repeat(32);
        boxed.judge("creates", |addresses| {
            attackers(addresses, 1_024, |number| {
                let pessoa = json!({
                    "apelido": format!("longa{number}"), "nome": "Longa", "nascimento": "2000-01-01",
                    "stack": vec![item.as_str(); 1_700],
                });
                request("POST", "/pessoas", &pessoa.to_string()).into_bytes()
            })
        });
        drop(frozen);
        wait_until("a create", || Pessoa::named("depois").post_to(&boxed.server).status == 201);
    });
}

/// More connections than a small box has room for: those that are in are served, the others are told.
#[test]
fn connections_that_say_nothing() {
    each_box("connections", |boxed| {
        boxed.judge("connections", |addresses| attackers(addresses, 7_000, |_| Vec::new()));
    });
}

/// A connection that was busy, with a long body and a long answer, keeps no more than one that never was.
#[test]
fn idle_connections_are_small() {
    const CONNECTIONS: usize = 1_000;
    let _alone = crate::ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let cluster = Cluster::start();
    let server = Server::on(&cluster.config(), &["--cores", "1"]);
    let body = |number: usize| {
        let stack = vec!["i".repeat(32); 1_500];
        json!({"apelido": format!("longa{number}"), "nome": "L", "nascimento": "2000-01-01", "stack": stack})
            .to_string()
    };
    let create = |number: usize| {
        let body = body(number);
        format!(
            "POST /pessoas HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
            body.len()
        )
    };
    let id = {
        let mut connection = server.connect();
        connection.send(create(0));
        connection.receive().id()
    };
    // The first ones fill what is allocated once for all.
    let path = format!("/pessoas/{id}");
    let busy = |count: usize| -> Vec<Connection> {
        let made = (0..count).map(|_| {
            let mut connection = server.connect();
            // A duplicate, as chunks, and a long answer: both buffers grow.
            connection.send(create(0));
            assert_eq!(connection.receive().status, 422);
            assert_eq!(connection.ask("GET", &path, "").status, 200);
            connection
        });
        made.collect()
    };
    drop(busy(200));
    wait_until("closed connections", || {
        server.ask("GET", "/healthz", "").json()["connections"]["open"].as_u64() < Some(5)
    });
    let before = resident_mib(&server);
    let connections = busy(CONNECTIONS);
    std::thread::sleep(Duration::from_millis(300));
    let held = server.ask("GET", "/healthz", "").json()["held"].take();
    let grown = resident_mib(&server).saturating_sub(before);
    println!("{CONNECTIONS} idle connections: RSS +{grown} MiB, held {held}");
    assert_eq!((&held["received_bytes"], &held["gathered_bytes"]), (&json!(0), &json!(0)));
    // 6 KiB each, in the build for tests, whose tasks are larger, and what the allocator keeps around them.
    assert!(grown <= 8, "{grown} MiB");
    drop(connections);
}
