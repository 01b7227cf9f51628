//! Batches whose commit goes wrong: cut off, ambiguous, in conflict, poisoned, refused.

use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rinha::limits::{COMMIT_TIME_MAX, MINTS_MAX};

use crate::cluster::Cluster;
use crate::load::{Fate, Load, Pessoa, seed, verify, wait_until};
use crate::processes::send;
use crate::server::Server;
use crate::{RECOVERY_SECONDS_MAX, each_server};

const CLIENTS: usize = 8;

/// What a busy test machine may add to a deadline.
const LATENESS_MAX: Duration = Duration::from_secs(3);

/// The backends that commit for a server.
const COMMITTERS: &str = "from pg_stat_activity where application_name like 'rinha % commit'";

/// Makes each insert statement call PL/pgSQL code, with the sequence `tries` to count on: unlike a table, a sequence
/// remembers what was rolled back.
fn before_each(level: &str, code: &str) -> String {
    format!(
        "create sequence tries;
         create function meddle() returns trigger language plpgsql as $$ begin {code} return new; end $$;
         create trigger meddle before insert on pessoas for each {level} execute function meddle()"
    )
}

#[test]
fn a_commit_connection_killed_again_and_again() {
    each_server(|arguments| {
        let cluster = Cluster::start();
        let server = Server::on(&cluster.config(), arguments);
        let seed = seed();
        let mut random = StdRng::seed_from_u64(seed);
        let load = Load::start(&server.tcp(), CLIENTS, seed);
        for _ in 0..20 {
            load.wait_for(random.random_range(10..40));
            thread::sleep(Duration::from_micros(random.random_range(0..3000)));
            cluster.query(&format!("select pg_terminate_backend(pid) {COMMITTERS}"));
        }
        // After the SIGKILL of a backend, Postgres takes its shared memory for damaged and starts over with recovery.
        for _ in 0..2 {
            load.wait_for(random.random_range(10..40));
            let backend = cluster.query(&format!("select pid {COMMITTERS}")).remove(0);
            send(backend.parse().expect("a pid"), Signal::SIGKILL);
            let took = load.wait_for(1);
            println!("backend killed: next 201 after {took:?}");
            assert!(took <= Duration::from_secs(RECOVERY_SECONDS_MAX));
        }
        load.wait_for(50);
        assert_eq!(load.lost(), 0);
        verify(&load.finish(), &cluster.config(), &server.tcp());
    });
}

/// A row that the database drops in silence looks like one whose id is taken, so another id is tried. However slow the tries
/// are, they share the deadline of the create.
#[test]
fn ids_that_are_tried_share_one_deadline() {
    each_server(|arguments| {
        let cluster = Cluster::start();
        let server = Server::on(&cluster.config(), arguments);
        // All tries together would take 12 s.
        let refuses = "perform nextval('tries'); perform pg_sleep(1.5); return null;";
        cluster.query(&before_each("row", refuses));
        let began = Instant::now();
        let answer = Pessoa::named("sumida").post_to(&server);
        let took = began.elapsed();
        let tries: usize = cluster.query("select last_value from tries")[0].parse().expect("a number");
        println!("{} after {took:?} and {tries} tries", answer.status);
        assert_eq!((answer.status, answer.header("Retry-After")), (503, Some("1")));
        assert!(took + Duration::from_millis(100) > COMMIT_TIME_MAX, "given up after {took:?}");
        assert!(took < COMMIT_TIME_MAX + LATENESS_MAX, "{took:?}");
        assert!((2..MINTS_MAX).contains(&tries), "{tries} tries");
        cluster.query("drop trigger meddle on pessoas");
        assert_eq!(cluster.query("select count(*) from pessoas"), ["0"]);
        assert_eq!(Pessoa::named("sumida").post_to(&server).status, 201);
    });
}

#[test]
fn a_row_that_meets_a_taken_id_is_given_another() {
    // Seen from the server, an id collision is a row that was not inserted although no one has its apelido.
    each_server(|arguments| {
        let cluster = Cluster::start();
        let server = Server::on(&cluster.config(), arguments);
        cluster.query(&before_each("row", "if nextval('tries') <= 5 then return null; end if;"));
        let created = Pessoa::named("colisão").post_to(&server);
        assert_eq!(created.status, 201, "{}", created.text());
        assert_eq!(cluster.query("select id, apelido from pessoas"), [format!("{}|colisão", created.id())]);
        assert_eq!(cluster.query("select last_value from tries"), ["6"]);
    });
}

#[test]
fn deadlocks_and_serialization_failures_go_again() {
    each_server(|arguments| {
        let cluster = Cluster::start();
        let server = Server::on(&cluster.config(), arguments);
        // Of every three statements one is the victim of a deadlock, one of a serialization failure.
        cluster.query(&before_each(
            "statement",
            "case nextval('tries') % 3 when 0 then raise 'meddled' using errcode = '40001'; \
                                       when 1 then raise 'meddled' using errcode = '40P01'; else end case;",
        ));
        let load = Load::start(&server.tcp(), CLIENTS, seed());
        load.wait_for(400);
        assert_eq!((load.unavailable(), load.lost()), (0, 0));
        let attempts = load.finish();
        assert!(attempts.iter().all(|attempt| matches!(attempt.fate, Fate::Acknowledged { .. })));
        verify(&attempts, &cluster.config(), &server.tcp());
        // The statements were sent again on the same connection.
        assert_eq!(server.log().len(), 1, "{:#?}", server.log());
    });
}

#[test]
fn a_row_that_the_database_refuses_fails_alone() {
    each_server(|arguments| {
        let cluster = Cluster::start();
        let server = Server::on(&cluster.config(), arguments);
        let seed = seed();
        let mut all = Vec::new();
        for (round, constraint) in [
            // Class 23.
            "check (nome <> 'veneno')",
            // Class 22: a division by zero.
            "check (1 / (case nome when 'veneno' then 0 else 1 end) = 1)",
        ]
        .into_iter()
        .enumerate()
        {
            cluster.query(&format!("alter table pessoas add constraint antidote {constraint}"));
            let seed = seed.wrapping_add((2 * round as u64) << 32);
            let healthy = Load::start(&server.tcp(), CLIENTS, seed);
            let poisoned = Load::with(&server.tcp(), 2, seed.wrapping_add(1 << 32), |pessoa| Pessoa {
                nome: "veneno".to_owned(),
                ..pessoa
            });
            healthy.wait_for(400);
            assert_eq!(healthy.unavailable() + poisoned.unavailable(), 0);
            let (healthy, poisoned) = (healthy.finish(), poisoned.finish());
            assert!(healthy.iter().all(|attempt| matches!(attempt.fate, Fate::Acknowledged { .. })));
            assert!(poisoned.len() > 20 && poisoned.iter().all(|attempt| attempt.fate == Fate::Refused));
            let answer = poisoned[0].pessoa.post_to(&server);
            assert_eq!(answer.status, 422);
            assert!(answer.text().contains("SQLSTATE 2"), "{}", answer.text());
            all.extend(healthy);
            cluster.query("alter table pessoas drop constraint antidote");
        }
        verify(&all, &cluster.config(), &server.tcp());
    });
}

#[test]
fn a_database_that_refuses_to_write() {
    // As after a failover to a standby, or on a full disk: it answers, and takes nothing.
    each_server(|arguments| {
        let cluster = Cluster::start();
        let server = Server::on(&cluster.config(), arguments);
        let load = Load::start(&server.tcp(), CLIENTS, seed());
        load.wait_for(50);
        let read_only = |value: &str| {
            cluster.query(&format!("alter system set default_transaction_read_only = {value}"));
            cluster.query("select pg_reload_conf()");
        };
        let before = server.log().len();
        read_only("on");
        let told = load.unavailable() + CLIENTS;
        wait_until("503 for every client", || load.unavailable() >= told);
        // The log says so, and not over and over.
        let said = server.log().split_off(before);
        println!("{} lines", said.len());
        assert!(said.iter().any(|line| line.contains("read-only")), "{said:#?}");
        assert!(said.len() < 50, "{:#?}", &said[..50]);
        // Reads go on, and the count, which is a read too.
        assert_eq!(server.ask("GET", "/contagem-pessoas", "").status, 200);
        let back = Instant::now();
        read_only("off");
        load.wait_for(1);
        println!("writable again: first new 201 after {:?}", back.elapsed());
        assert!(back.elapsed() <= Duration::from_secs(RECOVERY_SECONDS_MAX));
        load.wait_for(50);
        verify(&load.finish(), &cluster.config(), &server.tcp());
    });
}
