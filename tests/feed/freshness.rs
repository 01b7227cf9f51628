//! While the feed is away, slow or behind, a search is answered by Postgres or refused, never by an old memory.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::cluster::Cluster;
use crate::load::wait_until;
use crate::processes::{Frozen, send};
use crate::race::body;
use crate::server::Server;
use crate::{FRESH_MAX, fill, found, insert, search, wait_for_rows, wait_until_fresh};

/// The backends of the sessions with this name.
fn backends(cluster: &Cluster, name: &str) -> Vec<i32> {
    let pids = cluster
        .query(&format!("select pid from pg_stat_activity where application_name like 'rinha % {name}'"));
    pids.iter().map(|pid| pid.parse().unwrap()).collect()
}

/// Searches until the pessoa is found. A search that starts within the second may miss it; a later one finds it or is
/// refused.
#[track_caller]
fn found_in_time(server: &Server, apelido: &str, committed: Instant) -> Duration {
    let mut connection = server.connect();
    wait_until(apelido, || {
        let began = committed.elapsed();
        let answer = connection.ask("GET", &format!("/pessoas?t={apelido}"), "");
        let is_found = found(&answer).is_some_and(|found| found == [apelido]);
        assert!(
            is_found || began < FRESH_MAX || answer.status == 503,
            "{apelido} is not found {began:?} after its 201: {}",
            answer.text()
        );
        is_found
    });
    committed.elapsed()
}

#[test]
fn a_frozen_feed_hides_no_row_for_longer_than_a_second() {
    let cluster = Cluster::start();
    let one = Server::on(&cluster.config(), &["--cores", "1"]);
    let feed_of_one = backends(&cluster, "feed");
    let other = Server::on(&cluster.config(), &["--cores", "2"]);
    wait_until_fresh(&other);
    for round in 0..3 {
        let frozen = backends(&cluster, "feed").into_iter().filter(|pid| !feed_of_one.contains(pid));
        let frozen = Frozen::freeze(frozen.collect());
        let apelido = format!("frozen{round}.");
        assert_eq!(one.ask("POST", "/pessoas", &body(&apelido, "x")).status, 201);
        let took = found_in_time(&other, &apelido, Instant::now());
        println!("found after {took:?}");
        drop(frozen);
        // Back to memory, on a new session.
        wait_until_fresh(&other);
    }
}

#[test]
fn without_postgres_a_search_is_refused_once_memory_is_too_old() {
    let mut cluster = Cluster::start();
    for cores in ["1", "2"] {
        let server = Server::on(&cluster.config(), &["--cores", cores]);
        let created = server.ask("POST", "/pessoas", &body(&format!("known{cores}."), "x"));
        assert_eq!(created.status, 201);
        cluster.embedded.stop().unwrap();
        let stopped = Instant::now();
        let refused = wait_until("a refusal", || {
            let began = stopped.elapsed();
            let answer = search(&server, &format!("known{cores}."));
            match answer.status {
                200 => assert!(began < FRESH_MAX, "memory answers {began:?} after the end of Postgres"),
                status => {
                    assert_eq!(status, 503, "{}", answer.text());
                    assert!(answer.header("Retry-After").is_some(), "{answer:?}");
                }
            }
            answer.status == 503
        });
        println!("{cores} cores: refused after {refused:?}");
        // What is in memory is still there, by its id, and the instance is well.
        let got = server.ask("GET", &format!("/pessoas/{}", created.id()), "");
        assert_eq!((got.status, got.text()), (200, created.text()));
        assert_eq!(server.ask("GET", "/healthz", "").status, 200);
        assert!(cluster.embedded.ensure_running().unwrap());
        wait_until("a search", || search(&server, &format!("known{cores}.")).status == 200);
        wait_until_fresh(&server);
    }
}

/// No commit ends, because it waits for a standby that is not there; the feed goes on asking.
#[test]
fn the_feed_waits_for_no_commit() {
    let cluster = Cluster::start();
    let server = Server::on(&cluster.config(), &[]);
    assert_eq!(server.ask("POST", "/pessoas", &body("before", "x")).status, 201);
    cluster.query("alter system set synchronous_standby_names = 'nobody'");
    cluster.query("select pg_reload_conf()");
    wait_until("the setting", || cluster.query("show synchronous_standby_names") == ["nobody"]);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| server.ask("POST", "/pessoas", &body("waits", "x")));
        // One that commits without the wait, which nobody announces: it is found by the feed's questions.
        wait_until("a commit that waits", || {
            cluster.query("select count(*) from pg_stat_activity where wait_event = 'SyncRep'") == ["1"]
        });
        for number in 0..5 {
            let apelido = format!("local{number}.");
            cluster.query(&format!(
                "set synchronous_commit = local; insert into pessoas (id, apelido, nome, nascimento) \
                 values (gen_random_uuid(), '{apelido}', 'x', '2000-01-01')"
            ));
            found_in_time(&server, &apelido, Instant::now());
            wait_for_rows(&server, 2 + number);
        }
        // The nudge ends, though no other commit does.
        cluster.query("select set_config('synchronous_commit', 'off', true), pg_notify('rinha', '')");
        cluster.query("alter system reset synchronous_standby_names");
        cluster.query("select pg_reload_conf()");
        assert_eq!(waiting.join().unwrap().status, 201);
    });
}

/// The rows of a large transaction and the fresh ones of others reach the cores side by side.
#[test]
fn a_large_transaction_makes_nobody_wait() {
    let cluster = Cluster::start();
    let one = Server::on(&cluster.config(), &["--cores", "1"]);
    let other = Server::on(&cluster.config(), &["--cores", "2"]);
    insert(&cluster, "warm", &[]);
    found_in_time(&other, "warm", Instant::now());
    fill(&cluster, 50_000);
    let filled = Instant::now();
    let mut slowest = Duration::ZERO;
    let mut number = 0;
    // While the large one is on its way, memory is as old as that.
    while found(&search(&other, "past49999")).is_none_or(|found| found.is_empty()) || number < 20 {
        assert!(filled.elapsed() < crate::load::WAIT_MAX);
        let apelido = format!("fresh{number}.");
        assert_eq!(one.ask("POST", "/pessoas", &body(&apelido, "x")).status, 201);
        slowest = slowest.max(found_in_time(&other, &apelido, Instant::now()));
        number += 1;
    }
    println!("all found after {:?}, fresh ones within {slowest:?}", filled.elapsed());
    wait_until_fresh(&other);
    for server in [&one, &other] {
        wait_for_rows(server, 50_001 + number);
    }
    // Its session is gone when it is done.
    wait_until("one connection less", || backends(&cluster, "bulk").is_empty());
}

/// A crash of the feed's sessions in the middle of a large transaction loses none of its rows.
#[test]
fn a_large_transaction_survives_the_loss_of_its_session() {
    let cluster = Cluster::start();
    let server = Server::on(&cluster.config(), &["--cores", "2"]);
    let rows: usize = 30_000;
    for (round, role) in ["bulk", "feed"].into_iter().enumerate() {
        cluster.query("truncate pessoas");
        fill(&cluster, rows);
        let mut victims = Vec::new();
        wait_until("the session", || {
            victims = backends(&cluster, role);
            !victims.is_empty()
        });
        for victim in victims {
            send(victim, Signal::SIGTERM);
        }
        // What was deleted by hand stays in memory, and the new rows have ids of their own.
        wait_for_rows(&server, (round + 1) * rows);
        wait_until_fresh(&server);
        for number in (10_000..=rows).step_by(997) {
            let apelido = format!("past{number}");
            assert!(
                found(&search(&server, &apelido)).is_some_and(|found| found.contains(&apelido)),
                "{apelido}"
            );
        }
    }
}
