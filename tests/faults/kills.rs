//! `kill -9` of the server, of Postgres, and of both at once, under load.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::cluster::{Cluster, processes_with};
use crate::load::{Attempt, Load, Pessoa, seed, verify, wait_until};
use crate::processes::{Home, family, kill_family, runs, send};
use crate::server::Server;
use crate::{RECOVERY_SECONDS_MAX, each_server, lasting_socket};

const CLIENTS: usize = 6;

fn assert_recovered(what: &str, took: Duration) {
    println!("{what}: first new 201 after {took:?}");
    assert!(took <= Duration::from_secs(RECOVERY_SECONDS_MAX), "{what}: {took:?}");
}

#[test]
fn a_killed_server() {
    each_server(|arguments| {
        let cluster = Cluster::start();
        let (listen, address) = lasting_socket(cluster.directory());
        let start = || Server::on(&cluster.config(), &[&["--listen", &listen], arguments].concat());
        let mut server = start();
        let load = Load::start(&address, CLIENTS, seed());
        for _ in 0..3 {
            load.wait_for(200);
            server.kill();
            // Its sockets are still there; the next server replaces them.
            server = start();
        }
        load.wait_for(50);
        verify(&load.finish(), &cluster.config(), &server.tcp());
    });
}

#[test]
fn a_killed_postgres() {
    each_server(|arguments| {
        let mut cluster = Cluster::start();
        let server = Server::on(&cluster.config(), arguments);
        let known = Pessoa::named("conhecida").post_to(&server);
        assert_eq!(known.status, 201);
        let stop = AtomicBool::new(false);
        let attempts = thread::scope(|scope| {
            // Dropped with the scope's closure: the reader ends also when something here panics.
            let stopped = Stop(&stop);
            let reader = scope.spawn(|| {
                let mut connection = server.connect();
                let mut reads = 0_u32;
                while !stop.load(Ordering::Relaxed) {
                    let read = connection.ask("GET", &format!("/pessoas/{}", known.id()), "");
                    assert_eq!((read.status, &read.body), (200, &known.body));
                    reads += 1;
                    thread::sleep(Duration::from_millis(1));
                }
                reads
            });
            let load = Load::start(&server.tcp(), CLIENTS, seed());
            for outlasts_deadlines in [true, false, false] {
                load.wait_for(200);
                kill_family(cluster.embedded.pid().expect("a running Postgres"));
                if outlasts_deadlines {
                    let told = load.unavailable() + CLIENTS;
                    // What memory cannot answer is unavailable; it is not absent.
                    for target in ["/pessoas/018f4a52-0000-7000-8000-000000000000", "/contagem-pessoas"] {
                        let server = &server;
                        scope.spawn(move || {
                            let answer = server.ask("GET", target, "");
                            assert_eq!(
                                (answer.status, answer.header("Retry-After")),
                                (503, Some("1")),
                                "{target}"
                            );
                        });
                    }
                    wait_until("503 for every client", || load.unavailable() >= told);
                    // By now memory is older than a second.
                    assert_eq!(server.ask("GET", "/pessoas?t=conhecida", "").status, 503);
                    let health = server.ask("GET", "/healthz", "");
                    assert_eq!(
                        (health.status, &health.json()["database"]["reachable"]),
                        (200, &false.into())
                    );
                }
                assert!(cluster.embedded.ensure_running().expect("a start"));
                assert_recovered("Postgres killed and started again", load.wait_for(1));
            }
            load.wait_for(50);
            drop(stopped);
            println!("{} cached reads meanwhile", reader.join().expect("the reader"));
            // Only the database went away: every request had its answer, on the connection it came by.
            assert_eq!(load.lost(), 0);
            load.finish()
        });
        let known = Attempt::acknowledged(&Pessoa::named("conhecida"), &known);
        verify(&[attempts, vec![known]].concat(), &cluster.config(), &server.tcp());
    });
}

/// Says stop when dropped.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_private_postgres_and_its_server() {
    each_server(|arguments| {
        let home = Home::new();
        let (listen, address) = lasting_socket(home.path());
        let data_dir = home.data_dir_text();
        let start = || Server::start(&[&["--listen", &listen, "--data-dir", &data_dir], arguments].concat());
        let mut server = start();
        let tag = home.tag();
        let load = Load::start(&address, CLIENTS, seed());
        let postmaster = || home.postmaster().expect("a running Postgres");

        // The database alone: its server starts it again.
        load.wait_for(200);
        let first = postmaster();
        kill_family(first);
        // A 201 from before the kill may still be on its way, but only another Postgres gives those that follow.
        wait_until("another Postgres", || home.postmaster().is_some_and(|pid| pid != first));
        let second = postmaster();
        assert_recovered("private Postgres killed", load.wait_for(1));

        // The server alone: its Postgres stays, and the next server takes it over.
        load.wait_for(200);
        server.kill();
        assert!(runs(second));
        server = start();
        assert_eq!(postmaster(), second);
        assert_recovered("server killed", load.wait_for(1));

        // Both at once.
        load.wait_for(200);
        let killed = second;
        send(i32::try_from(server.pid()).expect("a pid"), Signal::SIGKILL);
        kill_family(killed);
        server.wait(Duration::from_secs(10));
        server = start();
        assert_ne!(postmaster(), killed);
        assert_recovered("server and Postgres killed", load.wait_for(1));
        load.wait_for(50);
        let attempts = load.finish();
        verify(&attempts, &home.config(), &server.tcp());

        // An end that was asked for leaves nothing behind, and the next start finds every row again.
        for signal in [Signal::SIGTERM, Signal::SIGINT] {
            let postgres = family(postmaster());
            assert!(postgres.len() > 1 && !processes_with(&tag).is_empty());
            server.signal(signal);
            let status = server.wait(Duration::from_secs(10));
            assert_eq!(status.code(), Some(0), "{signal}: {:#?}", server.log());
            assert_eq!(processes_with(&tag), [] as [String; 0], "{signal}");
            assert!(postgres.iter().all(|&pid| !runs(pid)), "{signal}");
            assert!(!home.path().join("api-0.sock").exists(), "{signal}");
            assert!(!home.data_dir().join("postgres/postmaster.pid").exists(), "{signal}");
            server = start();
            verify(&attempts, &home.config(), &server.tcp());
        }
    });
}

#[test]
fn a_start_that_is_told_to_stop() {
    // A server that waits for its database must not wait on when it is told to stop.
    each_server(|arguments| {
        let directory = crate::cluster::temporary_directory();
        let (listen, _) = lasting_socket(directory.path());
        let url = format!("host={} user=ninguem dbname=nada", directory.path().display());
        let mut command = crate::server::binary();
        command.args(["--log-format", "json", "--listen", &listen, "--database-url", &url]).args(arguments);
        let mut server = Server::spawn(command);
        wait_until("a server that waits", || {
            server.events().iter().any(|event| event["message"] == "waiting for the database")
        });
        let began = Instant::now();
        server.signal(Signal::SIGTERM);
        let status = server.wait(Duration::from_secs(10));
        println!("ended in {:?}", began.elapsed());
        assert_eq!(status.code(), Some(0), "{:#?}", server.log());
        assert_eq!(fs::read_dir(directory.path()).expect("the directory").count(), 0);
    });
}
