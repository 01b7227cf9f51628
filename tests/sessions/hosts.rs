//! Several hosts, of which some are dead, silent, standbys, or left behind by a failover.

use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rinha::limits::DEAD_HOST_TIME_MAX;

use crate::cluster::{Cluster, query, temporary_directory};
use crate::load::{Load, Pessoa, seed, verify, wait_until};
use crate::processes::{Frozen, kill_family, send};
use crate::server::Server;
use crate::standby::{follow, promote, url};
use crate::{CORES, expect_refused};

const UNKNOWN: &str = "/pessoas/018f4a52-0000-7000-8000-000000000000";

/// What a start may take besides what it waits for.
const START_TIME_MAX: Duration = Duration::from_secs(8);

fn on(cluster: &[&Cluster], arguments: &[&str]) -> Server {
    let directories: Vec<_> = cluster.iter().map(|cluster| cluster.embedded.socket_dir()).collect();
    Server::start(&[&["--database-url", &url(&directories)], arguments].concat())
}

fn postmaster(cluster: &Cluster) -> i32 {
    cluster.embedded.pid().expect("a running Postgres")
}

#[test]
fn a_host_that_is_dead_or_silent_keeps_nobody_from_the_next() {
    let cluster = Cluster::start();
    let frozen = Cluster::start();
    let _frozen = Frozen::family_of(postmaster(&frozen));
    // Lets clients in and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent = silent.local_addr().expect("its address");
    let nowhere = temporary_directory();
    let at = |cluster: &Cluster| cluster.embedded.socket_dir().display().to_string();
    let port = silent.port().to_string();
    for (host, port) in [
        (at(&frozen), "5432"),
        (nowhere.path().display().to_string(), "5432"),
        ("127.0.0.1".to_owned(), &*port),
    ] {
        let url = format!("host={host},{} port={port},5432 user=rinha dbname=postgres", at(&cluster));
        let began = Instant::now();
        let server = Server::start(&["--database-url", &url, "--cores", "1"]);
        println!("{host}: {:?}", began.elapsed());
        assert!(began.elapsed() < START_TIME_MAX, "{host}: {:?}", began.elapsed());
        assert_eq!(
            Pessoa::named(if host.starts_with('/') { &host[host.len() - 20..] } else { "por TCP" })
                .post_to(&server)
                .status,
            201
        );
    }
}

#[test]
fn a_standby_is_no_oracle() {
    for arguments in CORES {
        let primary = Cluster::start();
        let first = on(&[&primary], arguments);
        let standby = follow(&primary);
        // It gets nothing new, as one that lags.
        primary.query("alter system set max_wal_senders = 10");
        standby.query("select pg_wal_replay_pause()");
        // The standby is the first of the list; both say who they are.
        let second = on(&[&standby, &primary], arguments);
        let created = Pessoa::named("só no primário").post_to(&first);
        assert_eq!(created.status, 201);
        for _ in 0..20 {
            let path = format!("/pessoas/{}", created.id());
            assert_eq!(second.ask("GET", &path, "").status, 200);
            assert_eq!(second.ask("GET", "/contagem-pessoas", "").text(), "1");
        }
        // A standby alone answers nothing, and nothing is guessed: the sessions that come are refused.
        drop(first);
        kill_family(postmaster(&primary));
        let known = second.ask("GET", &format!("/pessoas/{}", created.id()), "");
        assert_eq!(known.status, 200, "memory has it: {}", known.text());
        let unknown = second.ask("GET", UNKNOWN, "");
        assert_eq!(unknown.status, 503, "{}", unknown.text());
        assert_eq!(second.ask("GET", "/contagem-pessoas", "").status, 503);
        assert_eq!(Pessoa::named("agora").post_to(&second).status, 503);
        // It becomes the primary.
        standby.query("select pg_wal_replay_resume()");
        promote(&standby);
        let began = Instant::now();
        wait_until("a create", || Pessoa::named("depois").post_to(&second).status != 503);
        println!("creates after {:?}", began.elapsed());
        assert_eq!(second.ask("GET", UNKNOWN, "").status, 404);
        assert_eq!(second.ask("GET", &format!("/pessoas/{}", created.id()), "").body, created.body);
    }
}

/// One host leads to a database that has nothing to do with ours. Nobody goes there, also while ours is away.
#[test]
fn a_host_that_is_another_cluster_is_no_refuge() {
    for arguments in CORES {
        let ours = Cluster::start();
        let other_directory = temporary_directory();
        let socket = other_directory.path().join("data/socket");
        let server = {
            let directories = [ours.embedded.socket_dir().to_owned(), socket.clone()];
            let url = url(&directories.each_ref().map(std::path::PathBuf::as_path));
            Server::start(&[&["--database-url", &url], *arguments].concat())
        };
        let created = Pessoa::named("nossa").post_to(&server);
        assert_eq!(created.status, 201);
        let other = Cluster::start_in(other_directory);
        assert_eq!(other.embedded.socket_dir(), socket);
        // It has a table of its own.
        drop(Server::on(&other.config(), &[]));
        expect_refused(&url(&[ours.embedded.socket_dir(), &socket]), "is another cluster");

        let away = Frozen::family_of(postmaster(&ours));
        let refused = Pessoa::named("de ninguém").post_to(&server);
        assert_eq!(refused.status, 503, "{}", refused.text());
        // All sessions have left the silent host by now, and looked for another one.
        for target in ["/contagem-pessoas", UNKNOWN] {
            assert_eq!(server.ask("GET", target, "").status, 503, "{target}");
        }
        drop(away);
        wait_until("the count", || server.ask("GET", "/contagem-pessoas", "").status == 200);
        wait_until("a create", || Pessoa::named("depois").post_to(&server).status == 201);
        assert_eq!(other.query("select count(*) from pessoas"), ["0"]);
        let shown = server.ask("GET", &format!("/pessoas/{}", created.id()), "");
        assert_eq!((shown.status, shown.body), (200, created.body));
    }
}

#[test]
fn a_process_follows_one_timeline() {
    // The old primary goes on after the failover, as one does whose supervisor is frozen.
    for arguments in CORES {
        let old = Cluster::start();
        let schema = on(&[&old], &["--cores", "1"]);
        assert_eq!(Pessoa::named("antes").post_to(&schema).status, 201);
        drop(schema);
        let new = follow(&old);
        let server = on(&[&old, &new], arguments);
        let load = Load::start(&server.tcp(), 2, seed());
        load.wait_for(20);
        let before = load.finish();
        wait_until("all rows on the standby", || {
            old.query("select count(*) from pessoas") == new.query("select count(*) from pessoas")
        });
        promote(&new);
        let began = Instant::now();
        let sessions = "select count(*) from pg_stat_activity \
                        where application_name like 'rinha %' and application_name not like '% lookout' \
                          and application_name not like '% search'";
        wait_until("all sessions on the new primary", || {
            let cores: usize = arguments[1].parse().expect("a number");
            old.query(sessions) == ["0"] && new.query(sessions) == [(2 * cores + 2).to_string()]
        });
        println!("moved {:?} after the promotion", began.elapsed());
        assert!(began.elapsed() < DEAD_HOST_TIME_MAX, "{:?}", began.elapsed());
        // What only the new one has is known at once; what only the old one has is not.
        let id = |cluster: &Cluster, apelido: &str| {
            query(
                &cluster.config(),
                &format!(
                    "insert into pessoas (id, apelido, nome, nascimento) \
                     values (gen_random_uuid(), '{apelido}', 'Ana', '1990-01-01') returning id"
                ),
            )
            .remove(0)
        };
        let (kept, gone) = (id(&new, "no novo"), id(&old, "no velho"));
        for _ in 0..20 {
            assert_eq!(server.ask("GET", &format!("/pessoas/{kept}"), "").status, 200);
            assert_eq!(server.ask("GET", &format!("/pessoas/{gone}"), "").status, 404);
        }
        // A start finds the newer one too, whatever the order.
        let another = on(&[&old, &new], &["--cores", "1"]);
        assert_eq!(another.ask("GET", &format!("/pessoas/{kept}"), "").status, 200);
        new.query("delete from pessoas where apelido in ('antes', 'no novo')");
        let load = Load::start(&server.tcp(), 2, seed());
        load.wait_for(20);
        let mut attempts = load.finish();
        attempts.extend(before);
        verify(&attempts, &new.config(), &server.tcp());
    }
}

#[test]
fn a_dead_host_is_noticed_in_time_by_every_role() {
    for arguments in CORES {
        let old = Cluster::start();
        drop(on(&[&old], &["--cores", "1"]));
        let new = follow(&old);
        let server = on(&[&old, &new], arguments);
        assert_eq!(Pessoa::named("antes").post_to(&server).status, 201);
        let known = Pessoa::named("conhecida").post_to(&server);
        wait_until("both rows on the standby", || new.query("select count(*) from pessoas") == ["2"]);
        let frozen = Frozen::family_of(postmaster(&old));
        promote(&new);
        let promoted = Instant::now();
        thread::scope(|scope| {
            let asked = [("GET", UNKNOWN, 404), ("GET", "/contagem-pessoas", 200)];
            let asks = asked.map(|(method, target, expected)| {
                let server = &server;
                scope.spawn(move || {
                    wait_until(target, || server.ask(method, target, "").status == expected);
                    (target, promoted.elapsed())
                })
            });
            let create = scope.spawn(|| {
                let mut number = 0;
                wait_until("a create", || {
                    number += 1;
                    Pessoa::named(&format!("nova {number}")).post_to(&server).status == 201
                });
                ("POST", promoted.elapsed())
            });
            let found = scope.spawn(|| {
                wait_until("a row of the new primary", || {
                    let found = server.ask("GET", "/pessoas?t=conhecida", "");
                    assert!(matches!(found.status, 200 | 503), "{}", found.status);
                    found.status == 200 && found.text().contains(&known.id())
                });
                ("search", promoted.elapsed())
            });
            for role in asks.into_iter().chain([create, found]) {
                let (role, took) = role.join().expect("an answer");
                println!("{role}: {took:?}");
                // A create may have waited for its own deadline first.
                assert!(took < DEAD_HOST_TIME_MAX + Duration::from_secs(3), "{role}: {took:?}");
            }
        });
        // It comes back and still believes that it is the primary: nobody goes there.
        drop(frozen);
        let gone = query(
            &old.config(),
            "insert into pessoas (id, apelido, nome, nascimento) \
             values (gen_random_uuid(), 'no velho', 'Ana', '1990-01-01') returning id",
        );
        for _ in 0..50 {
            assert_eq!(server.ask("GET", &format!("/pessoas/{}", gone[0]), "").status, 404);
            thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn a_primary_that_is_read_only_by_setting_answers_reads() {
    let (cluster, nowhere) = (Cluster::start(), temporary_directory());
    let url = url(&[nowhere.path(), cluster.embedded.socket_dir()]);
    let server = Server::start(&["--database-url", &url, "--cores", "1"]);
    assert_eq!(Pessoa::named("antes").post_to(&server).status, 201);
    cluster.query("alter system set default_transaction_read_only = on");
    cluster.query("select pg_reload_conf()");
    // New sessions meet it too.
    for pid in cluster.query("select pid from pg_stat_activity where application_name like 'rinha %'") {
        send(pid.parse().expect("a pid"), Signal::SIGTERM);
    }
    wait_until("a read", || server.ask("GET", UNKNOWN, "").status == 404);
    assert_eq!(server.ask("GET", "/contagem-pessoas", "").text(), "1");
    assert_eq!(Pessoa::named("agora").post_to(&server).status, 503);
}
