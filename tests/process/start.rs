//! Starts that fail with a line and a remedy, and starts that wait or race.

use std::fs;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rinha::limits::START_REFUSED_TIME_MAX;

use crate::cluster::{Cluster, is_root_or_skip, temporary_directory};
use crate::load::{Pessoa, wait_until};
use crate::processes::Home;
use crate::server::{Server, binary, database_url};
use crate::{each_server, refused, run};

/// A server on a free port that knows this database.
fn on(url: &str) -> Command {
    let mut command = binary();
    command.args(["--listen", "127.0.0.1:0", "--database-url", url]);
    command
}

#[test]
fn a_database_that_says_no() {
    let cluster = Cluster::start();
    let url = database_url(&cluster.config());
    let host = url.split_once(' ').expect("key=value pairs").0;
    cluster.query("create role pessoa login password 'right'; create role leitora login");
    cluster.query("create database latin encoding 'LATIN1' template template0");
    let rules = "local all pessoa scram-sha-256\nlocal all all trust\n";
    fs::write(cluster.pgdata().join("pg_hba.conf"), rules).expect("the cluster's rules");
    cluster.query("select pg_reload_conf()");

    // What no database is asked about is a wrong command line.
    for (url, words) in [
        ("postgres://rinha@localhost:port/rinha", &["--database-url", "postgres://USER@HOST/DATABASE"][..]),
        ("host", &["--database-url", "postgres://USER@HOST/DATABASE"]),
        ("colour=blue", &["--database-url", "colour"]),
        // Without a host there is nothing to wait for.
        ("user=rinha dbname=postgres", &["host", "--database-url"]),
    ] {
        refused(on(url), 2, words);
    }
    // These may be made yet, by a server that is being set up: they are waited for.
    let later = [
        (
            format!("{host} user=pessoa password=wrong dbname=postgres"),
            &["28P01", "password", "DATABASE_URL"][..],
        ),
        (format!("{host} user=ninguem dbname=postgres"), &["28000", "ninguem", "DATABASE_URL"]),
        (format!("{host} user=rinha dbname=nada"), &["3D000", "nada", "DATABASE_URL"]),
    ];
    thread::scope(|scope| {
        for (url, words) in &later {
            scope.spawn(move || {
                let began = Instant::now();
                let ended = run(on(url));
                let said: Vec<&str> = ended.stderr.lines().collect();
                assert_eq!((ended.code, said.len()), (Some(1), 2), "{url}: {said:?}");
                assert!(said[0].contains("waiting for the database"), "{url}: {said:?}");
                assert!(words.iter().all(|word| said[1].contains(word)), "{url}: {said:?}");
                assert!(began.elapsed() >= START_REFUSED_TIME_MAX, "{url}: {:?}", began.elapsed());
            });
        }
    });
    for (url, words) in [
        (&format!("{host} user=pessoa dbname=postgres"), &["password", "DATABASE_URL"][..]),
        (&format!("{host} user=leitora dbname=postgres"), &["42501", "permission denied", "the rights"]),
        (&format!("{host} user=rinha dbname=latin"), &["LATIN1", "ENCODING 'UTF8'"]),
    ] {
        let began = Instant::now();
        refused(on(url), 1, words);
        assert!(began.elapsed() < START_REFUSED_TIME_MAX, "{url}: refused only after {:?}", began.elapsed());
    }
    // None of the refused starts did anything to the database.
    assert_eq!(cluster.query("select to_regclass('pessoas')"), ["NULL"]);
}

#[test]
fn an_address_that_is_taken() {
    let directory = temporary_directory();
    let port = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let socket = directory.path().join("taken.sock");
    let _socket = UnixListener::bind(&socket).expect("a free path");
    let file = directory.path().join("file");
    fs::write(&file, "precious").expect("a file");
    let missing = directory.path().join("missing/s.sock");

    let tcp = port.local_addr().expect("an address").to_string();
    let unix = format!("unix:{}", socket.display());
    for (listen, words) in [
        (tcp.as_str(), &[tcp.as_str(), "another server listens there", "--listen"][..]),
        (&unix, &[&unix, "another server listens there", "--listen"]),
        (&format!("unix:{}", file.display()), &["a file that is no socket is there"]),
        (&format!("unix:{}", missing.display()), &["its directory does not exist"]),
        // An address of no interface of this machine (TEST-NET-1).
        ("192.0.2.1:9", &["192.0.2.1:9", "cannot listen"]),
    ] {
        let mut command = binary();
        let data_dir = directory.path().join("data");
        command.args(["--listen", listen, "--data-dir"]).arg(&data_dir);
        refused(command, 1, words);
        // The refusal comes before anything is made.
        assert!(!data_dir.exists());
    }
    assert_eq!(fs::read(&file).expect("the file"), b"precious");
}

/// A server that waits for its database does not listen yet, but whoever starts on an address that overlaps with its own
/// hears so at once, and not after a load of its own.
#[test]
fn an_address_of_a_server_that_does_not_listen_yet() {
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("an address");
    let nowhere = |listen: &str| {
        let mut command = binary();
        command.args(["--log-format=json", "--listen", listen]);
        command.args(["--database-url", "host=/nowhere user=a dbname=b"]);
        command
    };
    let mut first = Server::spawn(nowhere(&format!("127.0.0.1:{}", free.port())));
    wait_until("a server that waits", || {
        first.events().iter().any(|event| event["message"] == "waiting for the database")
    });
    for address in ["127.0.0.1", "0.0.0.0"] {
        let listen = format!("{address}:{}", free.port());
        refused(nowhere(&listen), 1, &[&listen, "another server listens there", "--listen"]);
    }
    // It disturbs no server on another address.
    let second = Server::spawn(nowhere(&format!("127.0.0.2:{}", free.port())));
    wait_until("a second server that waits", || {
        second.events().iter().any(|event| event["message"] == "waiting for the database")
    });
    first.signal(Signal::SIGTERM);
    assert_eq!(first.wait(Duration::from_secs(10)).code(), Some(0));
}

#[test]
fn a_data_directory_that_cannot_be_used() {
    each_server(|arguments| {
        let home = Home::new();
        let server = Server::start(&[&["--data-dir", &home.data_dir_text()], arguments].concat());
        let with = |data_dir: &str| {
            let mut command = binary();
            command.args(["--listen", "127.0.0.1:0", "--data-dir", data_dir]);
            command
        };
        let holder = format!("process {}", server.pid());
        refused(with(&home.data_dir_text()), 1, &["another rinha server", &holder, "--data-dir"]);
        // The refusal did not disturb the first.
        assert_eq!(Pessoa::named("calma").post_to(&server).status, 201);
        // A value that is wrong on every start, as a command line is.
        refused(with("/dev/null/data"), 2, &["/dev/null/data", "expected a directory", "--data-dir"]);
        let occupied = temporary_directory();
        fs::create_dir(occupied.path().join("postgres")).expect("a directory");
        fs::write(occupied.path().join("postgres/letter.txt"), "").expect("a file");
        let occupied = occupied.path().to_str().expect("UTF-8");
        refused(with(occupied), 1, &["not empty", "--data-dir"]);
    });
}

#[test]
fn no_postgres_to_run() {
    if !is_root_or_skip("hiding the installed Postgres") {
        return;
    }
    // In a mount namespace of its own, where the places that are searched are empty.
    let script = "for place in /usr/lib/postgresql /usr/pgsql-*; do \
                      [ ! -d $place ] || mount -t tmpfs none $place || exit 77; done; PATH= exec \"$0\" \"$@\"";
    let directory = temporary_directory();
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, env!("CARGO_BIN_EXE_rinha")]);
    command.args(["--listen", "127.0.0.1:0", "--data-dir"]).arg(directory.path().join("data"));
    for (name, _) in
        std::env::vars().filter(|(name, _)| matches!(name.as_str(), "DATABASE_URL" | "LISTEN" | "LOG"))
    {
        command.env_remove(name);
    }
    let probe = Command::new("unshare").args(["--mount", "mount", "-t", "tmpfs", "none", "/mnt"]).output();
    match probe {
        Ok(output) if output.status.success() => {}
        why => return println!("skipped: no mount namespace here: {why:?}"),
    }
    refused(command, 1, &["no PostgreSQL 13 or newer found", "apt-get install postgresql", "--database-url"]);
}

#[test]
fn a_database_that_comes_up_later() {
    each_server(|arguments| {
        let cluster = Cluster::start();
        let config = cluster.config();
        let directory = cluster.leave(drop);
        let mut command = on(&database_url(&config));
        command.args(["--log-format", "json"]).args(arguments);
        let mut server = Server::spawn(command);
        wait_until("a server that waits", || {
            server.events().iter().any(|event| event["message"] == "waiting for the database")
        });
        thread::sleep(Duration::from_secs(2));
        // The server says once that it waits, and serves nothing yet.
        assert_eq!(server.log().len(), 1, "{:#?}", server.log());
        let cluster = Cluster::start_in(directory);
        let back = Instant::now();
        server.wait_until_serving();
        println!("serving {:?} after the database", back.elapsed());
        assert_eq!(Pessoa::named("paciente").post_to(&server).status, 201);
        drop(server);
        drop(cluster);
    });
}

#[test]
fn servers_that_race_for_an_empty_database() {
    each_server(|arguments| {
        let cluster = Cluster::start();
        for round in 0..3 {
            cluster.query("drop table if exists pessoas");
            let mut servers: Vec<Server> = (0..3)
                .map(|_| {
                    let mut command = on(&database_url(&cluster.config()));
                    command.args(["--log-format", "json"]).args(arguments);
                    Server::spawn(command)
                })
                .collect();
            for server in &mut servers {
                server.wait_until_serving();
                assert_eq!(server.log().len(), 1, "{:#?}", server.log());
            }
            // One database, and the same judge for all.
            let statuses: Vec<u16> =
                servers.iter().map(|server| Pessoa::named("única").post_to(server).status).collect();
            assert_eq!(statuses, [201, 422, 422], "round {round}");
        }
    });
}
