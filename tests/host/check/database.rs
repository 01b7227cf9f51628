//! A database of somebody else's.

use std::fs;
use std::time::{Duration, Instant};

use super::{Said, check};
use crate::cluster::Cluster;
use crate::pgbouncer::pooler;
use crate::processes::Child;
use crate::server::database_url;
use crate::standby;

/// A start would wait for a minute; whoever looks wants to know now.
const TIME_MAX: Duration = Duration::from_secs(20);

fn ask(url: &str) -> Said {
    let began = Instant::now();
    let said = check(&["--cores=2", "--database-url", url]);
    assert!(began.elapsed() < TIME_MAX, "{:?}", began.elapsed());
    said
}

#[test]
fn one_that_can_be_used_and_is_not_touched() {
    let cluster = Cluster::start();
    let url = database_url(&cluster.config());
    let said = ask(&url);
    assert_eq!(said.code, Some(0), "{said:#?}");
    for (name, words) in [
        ("database", &["PostgreSQL 1", "primary of cluster", "/1"][..]),
        ("encryption", &["a socket of this machine"]),
        ("sessions", &["of its own"]),
        ("connections", &["of 50 are free", "up to 10 are used"]),
        ("encoding", &["UTF8"]),
        ("schema", &["it is not there, and would be made"]),
        ("writes", &["allowed"]),
        ("durability", &["fsync on", "full_page_writes on"]),
        ("standbys", &["wait for none"]),
    ] {
        said.expect(name, "ok", words);
    }
    assert_eq!(cluster.query("select to_regclass('pessoas')"), ["NULL"]);
    assert_eq!(cluster.query("select proname from pg_proc where proname like 'pessoas%'"), [""; 0]);

    // Of an earlier version, for its owner and for another user.
    cluster.query(&fs::read_to_string("schema.sql").expect("the schema"));
    ask(&url).expect("schema", "ok", &["it is there"]);
    cluster.query("drop trigger pessoas_tx_is_now on pessoas; drop index pessoas_unlowered");
    ask(&url).expect(
        "schema",
        "ok",
        &["earlier version", "pessoas_unlowered, pessoas_tx_is_now would be added"],
    );
    assert_eq!(cluster.query("select tgname from pg_trigger where not tgisinternal"), [""; 0]);
    cluster.query("create role outra login; grant select, insert on pessoas to outra");
    let other = url.replace("user=rinha", "user=outra");
    ask(&other).expect("schema", "error", &["belongs to another user", "the rights"]);
    cluster.query("revoke insert on pessoas from outra");
    ask(&other).expect("schema", "error", &["does not allow INSERT"]);
    cluster.query("drop table pessoas; create table pessoas (id uuid primary key)");
    ask(&url).expect("schema", "error", &["has no column apelido"]);
}

#[test]
fn one_that_says_no() {
    let cluster = Cluster::start();
    let url = database_url(&cluster.config());
    let host = url.split_once(' ').expect("key=value pairs").0;
    cluster.query("create role pessoa login password 'right'; create role leitora login");
    cluster.query("create database latin encoding 'LATIN1' template template0");
    let rules = "local all pessoa scram-sha-256\nlocal all all trust\n";
    fs::write(cluster.pgdata().join("pg_hba.conf"), rules).expect("the cluster's rules");
    cluster.query("select pg_reload_conf()");
    for (url, words) in [
        (format!("{host} user=pessoa password=wrong dbname=postgres"), &["28P01", "a start waits 10s"][..]),
        (format!("{host} user=pessoa dbname=postgres"), &["password"]),
        (format!("{host} user=ninguem dbname=postgres"), &["28000", "ninguem"]),
        (format!("{host} user=rinha dbname=nada"), &["3D000", "nada"]),
    ] {
        ask(&url).expect("database", "error", words);
    }
    let said = ask(&format!("{host} user=leitora dbname=postgres"));
    said.expect("schema", "error", &["42501", "the rights to make"]);
    let said = ask(&format!("{host} user=rinha dbname=latin"));
    said.expect("encoding", "error", &["LATIN1", "ENCODING 'UTF8'"]);

    cluster.query("alter role leitora set default_transaction_read_only = on");
    let said = ask(&format!("{host} user=leitora dbname=postgres"));
    said.expect("writes", "error", &["nothing can be inserted"]);
    said.expect("schema", "error", &["read-only transaction"]);
}

#[test]
fn one_that_is_not_there() {
    let port = Child::free_port();
    for url in [
        format!("postgres://rinha@127.0.0.1:{port}/rinha"),
        "host=/nowhere user=rinha".to_owned(),
        "postgres://rinha@nobody.invalid/rinha".to_owned(),
    ] {
        ask(&url).expect("database", "error", &["a start waits 60s for it"]);
    }
    // It takes connections and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("postgres://rinha@{}/rinha", silent.local_addr().expect("an address"));
    ask(&url).expect("database", "error", &["no answer within", "a start waits 60s for it"]);
}

#[test]
fn a_standby() {
    let primary = Cluster::start();
    let copy = standby::follow(&primary);
    ask(&database_url(&copy.config())).expect("database", "error", &["it is a standby"]);
    // Of both, the primary is found, whatever the order.
    let both = standby::url(&[copy.embedded.socket_dir(), primary.embedded.socket_dir()]);
    let socket = primary.embedded.socket_dir().display().to_string();
    ask(&both).expect("database", "ok", &[&socket, "primary"]);

    primary.query("alter system set synchronous_standby_names = '*'; ");
    primary.query("select pg_reload_conf()");
    let url = database_url(&primary.config());
    crate::load::wait_until("a synchronous standby", || {
        ask(&url).of("standbys").1.contains("commits wait for \"*\"; 1 connected")
    });
    drop(copy);
    crate::load::wait_until("a standby that is missed", || {
        ask(&url).of("standbys").1.contains("no such standby is connected")
    });
    ask(&url).expect("standbys", "warn", &["no 201 until one is"]);
}

#[test]
fn one_that_forgets_and_has_no_room() {
    let cluster = Cluster::start();
    let url = database_url(&cluster.config());
    cluster.query("alter database postgres set synchronous_commit = off");
    let said = ask(&url);
    said.expect("durability", "ok", &["synchronous_commit off by default", "on for this server"]);
    // The private Postgres of the test has its settings on the command line, which wins: of a file of its own this one reads.
    let pgdata = cluster.pgdata();
    let socket = cluster.directory().join("data/socket");
    let directory = cluster.leave(drop);
    fs::create_dir_all(&socket).expect("the socket's directory");
    let owner = format!("--reference={}", pgdata.display());
    assert!(
        std::process::Command::new("chown")
            .arg(owner)
            .arg(&socket)
            .status()
            .is_ok_and(|ended| ended.success())
    );
    let mut postgres = standby::program("postgres");
    postgres.arg("-D").arg(&pgdata).current_dir("/");
    postgres.args(["-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=8"]);
    postgres.arg("-c").arg(format!("unix_socket_directories={}", socket.display()));
    let forgetful = Child::start_as_owner_of(&pgdata, postgres);
    crate::load::wait_until("the database", || ask(&url).of("database").0 == "ok");
    let said = ask(&url);
    said.expect("durability", "warn", &["fsync off, full_page_writes on"]);
    said.expect("connections", "warn", &["of 8 are free", "raise max_connections"]);
    assert_eq!(said.code, Some(0), "{said:#?}");
    drop(forgetful);
    drop(directory);
}

#[test]
fn behind_a_pooler() {
    let cluster = Cluster::start();
    for (mode, verdict) in [("session", "ok"), ("transaction", "error")] {
        let Some((_pooler, port)) = pooler(&cluster, mode, 20) else { return };
        let said = ask(&format!("postgres://rinha@127.0.0.1:{port}/postgres"));
        said.expect("sessions", verdict, &[]);
        said.expect("encryption", "ok", &["does not leave this machine"]);
    }
}
