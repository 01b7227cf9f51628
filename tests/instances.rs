//! Several instances on one Postgres: who wins an apelido, and how each instance learns of every committed row.

#[path = "support/cluster.rs"]
mod cluster;
#[path = "support/race.rs"]
mod race;
#[path = "support/server.rs"]
mod server;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cluster::{Cluster, connect};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use race::{PATIENCE, body, race};
use server::{Address, Connection, Server};

/// The values of `--cores` that tests run with; more threads than CPUs are allowed.
const CORES: [&str; 2] = ["1", "2"];

fn search(server: &Server, term: &str) -> Vec<String> {
    try_search(server, term).expect("an answer")
}

/// `None` when memory was too old and Postgres was away.
fn try_search(server: &Server, term: &str) -> Option<Vec<String>> {
    let response = server.ask("GET", &format!("/pessoas?t={term}"), "");
    if response.status == 503 {
        return None;
    }
    assert_eq!(response.status, 200, "{}", response.text());
    let pessoas = response.json();
    let apelido = |pessoa: &serde_json::Value| pessoa["apelido"].as_str().expect("a string").to_owned();
    Some(pessoas.as_array().expect("an array").iter().map(apelido).collect())
}

/// Waits until `server` finds exactly these apelidos by `term`, and returns how long that took.
fn wait_until_found(server: &Server, term: &str, expected: &[&str]) -> Duration {
    let began = Instant::now();
    loop {
        let mut found = try_search(server, term).unwrap_or_default();
        found.sort_unstable();
        if found == expected {
            return began.elapsed();
        }
        assert!(
            began.elapsed() < PATIENCE,
            "expected {expected:?} by {term:?}, got {found:?}: {:#?}",
            server.log()
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn insert(cluster: &Cluster, id: &str, apelido: &str) {
    cluster.query(&format!(
        "insert into pessoas (id, apelido, nome, nascimento) values ('{id}', '{apelido}', 'By Hand', '1999-12-31')"
    ));
}

/// The process of the only session with this name.
fn backend(cluster: &Cluster, name: &str) -> Pid {
    let pids = cluster
        .query(&format!("select pid from pg_stat_activity where application_name like 'rinha % {name}'"));
    assert_eq!(pids.len(), 1, "sessions for {name}");
    Pid::from_raw(pids[0].parse().expect("a pid"))
}

#[test]
fn an_apelido_has_one_winner_whichever_instance_is_asked() {
    const APELIDOS: usize = 1000;
    let cluster = Cluster::start();
    for cores in CORES {
        cluster.query("drop table if exists pessoas");
        let servers: Vec<Server> =
            (0..2).map(|_| Server::on(&cluster.config(), &["--cores", cores])).collect();
        let addresses: Vec<Address> = servers.iter().map(Server::tcp).collect();
        let winners = race(&addresses, APELIDOS);
        assert_eq!(cluster.query("select count(*), count(distinct apelido) from pessoas"), ["1000|1000"]);
        assert_eq!(winners.len(), APELIDOS, "each apelido has exactly one 201");
        let distinct: HashSet<usize> = winners.iter().map(|winner| winner.apelido).collect();
        assert_eq!(distinct.len(), APELIDOS);
        let by_first = winners.iter().filter(|winner| winner.instance == 0).count();
        println!("{cores} cores: {by_first} of {APELIDOS} were won through the first instance");
        assert!((1..APELIDOS).contains(&by_first), "both instances won some");
        for server in &servers {
            let mut connection = server.connect();
            for winner in &winners {
                let found = connection.ask("GET", &format!("/pessoas/{}", winner.response.id()), "");
                assert_eq!((found.status, found.body), (200, winner.response.body.clone()));
            }
        }
    }
}

#[test]
fn a_create_is_readable_at_once_through_the_other_instance_and_soon_found_there() {
    let cluster = Cluster::start();
    for cores in CORES {
        cluster.query("drop table if exists pessoas");
        let one = Server::on(&cluster.config(), &["--cores", cores]);
        let other = Server::on(&cluster.config(), &["--cores", cores]);
        let mut slowest = Duration::ZERO;
        let (mut to_one, mut to_other) = (one.connect(), other.connect());
        for number in 0..50 {
            let apelido = format!("fresh{number:02}");
            let created = to_one.ask("POST", "/pessoas", &body(&apelido, "Fresh"));
            assert_eq!(created.status, 201);
            // Reading a pessoa through the other instance also makes it known there: every second one is left to the
            // feed.
            if number % 2 == 0 {
                let found = to_other.ask("GET", &format!("/pessoas/{}", created.id()), "");
                assert_eq!((found.status, found.body), (200, created.body));
            } else {
                slowest = slowest.max(wait_until_found(&other, &apelido, &[&apelido]));
            }
            // On the same instance a search that starts after the 201 sees it.
            assert_eq!(search(&one, &apelido), [apelido.as_str()]);
            let again = to_other.ask("POST", "/pessoas", &body(&apelido, "Another"));
            assert_eq!(again.status, 422);
        }
        println!("{cores} cores: found by the other instance within {slowest:?}");
        assert!(slowest < Duration::from_secs(1), "the contract's promise");
    }
}

#[test]
fn one_winner_also_while_an_instance_is_killed_and_restarted() {
    const APELIDOS: usize = 1000;
    let cluster = Cluster::start();
    for cores in CORES {
        cluster.query("drop table if exists pessoas");
        let directory = cluster::temporary_directory();
        let path = directory.path().join("api-2.sock");
        let listen = format!("unix:{}", path.display());
        let arguments = ["--cores", cores, "--listen", &listen];
        let stays = Server::on(&cluster.config(), &["--cores", cores]);
        let mut dies = Server::on(&cluster.config(), &arguments);
        // The unix socket's path outlives the process that dies.
        let addresses = [stays.tcp(), Address::Unix(path)];
        let done = AtomicBool::new(false);
        let winners = std::thread::scope(|scope| {
            let killer = scope.spawn(|| {
                let mut kills = 0;
                loop {
                    std::thread::sleep(Duration::from_millis(300));
                    if done.load(Ordering::Relaxed) && kills > 0 {
                        return kills;
                    }
                    dies.kill();
                    kills += 1;
                    dies = Server::on(&cluster.config(), &arguments);
                }
            });
            let winners = race(&addresses, APELIDOS);
            done.store(true, Ordering::Relaxed);
            println!("{cores} cores: killed {} times", killer.join().expect("the killer"));
            winners
        });
        assert_eq!(cluster.query("select count(*), count(distinct apelido) from pessoas"), ["1000|1000"]);
        // A 201 that was on its way when the instance died reached nobody: an apelido has at most one 201, never two.
        let distinct: HashSet<usize> = winners.iter().map(|winner| winner.apelido).collect();
        assert_eq!(distinct.len(), winners.len(), "no apelido has two 201s");
        for address in &addresses {
            let mut connection = Connection::open(address);
            for winner in &winners {
                let found = connection.ask("GET", &format!("/pessoas/{}", winner.response.id()), "");
                assert_eq!((found.status, found.body), (200, winner.response.body.clone()));
            }
        }
    }
}

#[test]
fn rows_that_somebody_else_put_in_are_found() {
    let cluster = Cluster::start();
    for cores in CORES {
        cluster.query("drop table if exists pessoas");
        let server = Server::on(&cluster.config(), &["--cores", cores]);
        // Any UUID is an id, and its row lives at its own home, not at its apelido's.
        for number in 0..8 {
            insert(
                &cluster,
                &format!("{number:08}-0000-0000-00{number:02x}-000000000000"),
                &format!("hand{number}"),
            );
        }
        let expected: Vec<String> = (0..8).map(|number| format!("hand{number}")).collect();
        let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
        let took = wait_until_found(&server, "by+hand", &expected);
        println!("{cores} cores: found after {took:?}");
        for number in 0..8 {
            let id = format!("{number:08}-0000-0000-00{number:02x}-000000000000");
            assert_eq!(server.ask("GET", &format!("/pessoas/{id}"), "").status, 200);
            assert_eq!(server.ask("POST", "/pessoas", &body(&format!("hand{number}"), "x")).status, 422);
        }
        // Ids that sort before all others, as an instance makes them whose clock was set back.
        insert(&cluster, "00000000-0001-7000-8000-000000000001", "past");
        wait_until_found(&server, "past", &["past"]);
        assert_eq!(server.ask("GET", "/contagem-pessoas", "").text(), "9");
    }
}

#[test]
fn a_transaction_held_open_across_a_reconnect_is_found_when_it_commits() {
    let cluster = Cluster::start();
    let server = Server::on(&cluster.config(), &[]);
    let session = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let client = session.block_on(connect(&cluster.config()));
    let held = "begin; insert into pessoas (id, apelido, nome, nascimento) \
                values ('00000000-0000-0000-0000-000000000001', 'held', 'Held', '2000-01-01')";
    session.block_on(client.batch_execute(held)).expect("an open transaction");
    // Others commit after the transaction began and before it ends: the feed's snapshots pass it by.
    insert(&cluster, "00000000-0000-0000-0000-000000000002", "between1");
    wait_until_found(&server, "between1", &["between1"]);
    kill(backend(&cluster, "feed"), Signal::SIGTERM).expect("the feed's backend");
    insert(&cluster, "00000000-0000-0000-0000-000000000003", "between2");
    wait_until_found(&server, "between2", &["between2"]);
    assert_eq!(search(&server, "held"), [] as [&str; 0]);
    assert_eq!(server.ask("GET", "/pessoas/00000000-0000-0000-0000-000000000001", "").status, 404);
    session.block_on(client.batch_execute("commit")).expect("the commit");
    wait_until_found(&server, "held", &["held"]);
}

#[test]
fn a_feed_that_hears_nothing_any_more_connects_again() {
    let cluster = Cluster::start();
    let server = Server::on(&cluster.config(), &[]);
    let silent = backend(&cluster, "feed");
    kill(silent, Signal::SIGSTOP).expect("the feed's backend");
    insert(&cluster, "00000000-0000-0000-0000-000000000001", "unheard");
    // Postgres is asked once memory is too old; only a new session of the feed makes it fresh again.
    let took = wait_until_found(&server, "unheard", &["unheard"]);
    println!("found after {took:?}");
    wait_for_another(&cluster, silent);
    kill(silent, Signal::SIGCONT).expect("a stopped process");
}

/// Waits for the one session of a feed beside `old`, which may still be there.
fn wait_for_another(cluster: &Cluster, old: Pid) {
    let others = format!(
        "select count(*) from pg_stat_activity where application_name like 'rinha % feed' and pid <> {old}"
    );
    let began = Instant::now();
    while cluster.query(&others) != ["1"] {
        assert!(began.elapsed() < PATIENCE, "expected a new session of the feed");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn after_a_crash_of_postgres_the_feed_goes_on() {
    let cluster = Cluster::start();
    let server = Server::on(&cluster.config(), &["--cores", "2"]);
    assert_eq!(server.ask("POST", "/pessoas", &body("before", "Before")).status, 201);
    // One backend that dies of a signal makes the postmaster restart all others, and recover.
    kill(backend(&cluster, "feed"), Signal::SIGKILL).expect("the feed's backend");
    // Whatever had been committed before a 503, somebody has the apelido in the end.
    let began = Instant::now();
    while !matches!(server.ask("POST", "/pessoas", &body("after", "After")).status, 201 | 422) {
        assert!(began.elapsed() < PATIENCE, "{:#?}", server.log());
    }
    insert(&cluster, "00000000-0000-0000-0000-000000000001", "later");
    wait_until_found(&server, "later", &["later"]);
    assert_eq!(search(&server, "before"), ["before"]);
    let again = server.log().iter().any(|line| line.contains("the feed goes on"));
    assert!(again, "{:#?}", server.log());
}

#[test]
fn another_cluster_in_the_place_of_the_old_one_is_loaded_anew() {
    let (mut old, mut new) = (Cluster::start(), Cluster::start());
    let server = Server::on(&old.config(), &["--cores", "2"]);
    drop(Server::on(&new.config(), &[]));
    let lost = server.ask("POST", "/pessoas", &body("lost", "Lost"));
    assert_eq!(lost.status, 201);
    insert(&new, "00000000-0000-0000-0000-000000000001", "restored");
    old.embedded.stop().expect("a stop");
    new.embedded.stop().expect("a stop");
    let (old_data, new_data) = (old.pgdata(), new.pgdata());
    let aside = old.directory().join("aside");
    std::fs::rename(&old_data, &aside).expect("the old cluster aside");
    std::fs::rename(&new_data, &old_data).expect("the new one in its place");
    assert!(old.embedded.ensure_running().expect("a start"));
    wait_until_found(&server, "restored", &["restored"]);
    assert_eq!(search(&server, "lost"), [] as [&str; 0]);
    // Until the feed has seen the new cluster, searches ask Postgres, and a lookup may show what memory has.
    let began = Instant::now();
    while server.ask("GET", &format!("/pessoas/{}", lost.id()), "").status != 404 {
        assert!(began.elapsed() < PATIENCE, "{:#?}", server.log());
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(server.ask("POST", "/pessoas", &body("lost", "Found")).status, 201);
}

#[test]
fn instances_that_start_under_load_miss_nothing() {
    const CLIENTS: usize = 8;
    const EACH: usize = 150;
    let cluster = Cluster::start();
    let first = Server::on(&cluster.config(), &["--cores", "2"]);
    let address = first.tcp();
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let address = &address;
                scope.spawn(move || {
                    let mut connection = Connection::open(address);
                    for number in 0..EACH {
                        let created =
                            connection.ask("POST", "/pessoas", &body(&format!("load{client}-{number}"), "x"));
                        assert_eq!(created.status, 201);
                    }
                })
            })
            .collect();
        let late: Vec<_> = CORES
            .into_iter()
            .map(|cores| {
                let config = cluster.config();
                scope.spawn(move || Server::on(&config, &["--cores", cores]))
            })
            .collect();
        let late: Vec<Server> = late.into_iter().map(|server| server.join().expect("a server")).collect();
        for client in clients {
            client.join().expect("a client");
        }
        for server in &late {
            for client in 0..CLIENTS {
                for number in (0..EACH).step_by(7).chain([EACH - 1]) {
                    // A term that only this pessoa contains: the hyphen ends the client's number.
                    let apelido = format!("load{client}-{number}");
                    let began = Instant::now();
                    while !search(server, &apelido).contains(&apelido) {
                        assert!(began.elapsed() < PATIENCE, "{apelido} is not found");
                    }
                }
            }
        }
    });
}

#[test]
fn rows_of_an_instance_that_died_are_found_by_the_others() {
    let cluster = Cluster::start();
    let lives = Server::on(&cluster.config(), &["--cores", "2"]);
    let mut dies = Server::on(&cluster.config(), &["--cores", "2"]);
    let address = dies.tcp();
    let posted = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for client in 0..16 {
            let (address, posted) = (&address, &posted);
            scope.spawn(move || {
                let mut connection = Connection::open(address);
                for number in 0..10_000 {
                    posted.fetch_add(1, Ordering::Relaxed);
                    let text = body(&format!("dead{client}-{number}-"), "x");
                    if connection.try_ask("POST", "/pessoas", &text).is_err() {
                        return;
                    }
                }
            });
        }
        while posted.load(Ordering::Relaxed) < 400 {
            std::thread::sleep(Duration::from_millis(1));
        }
        dies.kill();
    });
    // Backends that outlived their client may still commit rows, which nobody was told of: this waits for the backends'
    // end.
    let settled = "select count(*) from pg_stat_activity where application_name like 'rinha % commit'";
    let began = Instant::now();
    while cluster.query(settled) != ["2"] {
        assert!(began.elapsed() < PATIENCE, "the dead instance's backends are still there");
    }
    let committed = cluster.query("select apelido from pessoas");
    println!("{} committed of {} posted", committed.len(), posted.into_inner());
    for apelido in &committed {
        wait_until_found(&lives, apelido, &[apelido]);
    }
}
