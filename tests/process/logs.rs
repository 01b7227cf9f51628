//! The log: what is written, and what is not.

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::cluster::Cluster;
use crate::each_server;
use crate::load::{Pessoa, wait_until};
use crate::server::{Server, binary, database_url};

/// Requests of every kind, good and bad.
fn some_requests(server: &Server) {
    let mut connection = server.connect();
    let created = Pessoa::named("Ana").post(&mut connection).expect("an answer");
    let id = created.id();
    for (method, target, body, status) in [
        ("GET", format!("/pessoas/{id}").as_str(), "", 200),
        ("GET", "/pessoas?t=ana", "", 200),
        ("GET", "/contagem-pessoas", "", 200),
        ("GET", "/healthz", "", 200),
        ("GET", "/nada", "", 404),
        ("GET", "/pessoas/018f4a52-0000-7000-8000-000000000000", "", 404),
        ("DELETE", "/pessoas", "", 405),
        ("POST", "/pessoas", "{", 400),
        ("POST", "/pessoas", "{}", 422),
        ("POST", "/pessoas", &Pessoa::named("Ana").body(), 422),
    ] {
        assert_eq!(connection.ask(method, target, body).status, status, "{method} {target}");
    }
    connection.send("nonsense\r\n\r\n");
    assert_eq!(connection.receive().status, 400);
}

#[test]
fn one_line_at_the_start_and_none_for_a_request() {
    each_server(|arguments| {
        let cluster = Cluster::start();
        for rows in [0_u64, 1] {
            let mut server = Server::on(&cluster.config(), arguments);
            let start = &server.start;
            assert_eq!(start["version"], env!("CARGO_PKG_VERSION"));
            assert_eq!(start["listen"].as_str().map(|listen| listen.starts_with("127.0.0.1:")), Some(true));
            assert!(matches!(start["driver"].as_str(), Some("io_uring" | "epoll")), "{start}");
            assert_eq!(
                (&start["rows"], &start["private"], &start["durable"]),
                (&rows.into(), &false.into(), &true.into())
            );
            for member in ["why", "cache", "postgres", "loaded_in"] {
                assert!(start[member].as_str().is_some_and(|text| !text.is_empty()), "{member}: {start}");
            }
            assert_eq!(server.log().len(), 1, "{:#?}", server.log());
            if rows == 0 {
                some_requests(&server);
                assert_eq!(server.log().len(), 1, "{:#?}", server.log());
            }
            server.signal(Signal::SIGTERM);
            assert!(server.wait(std::time::Duration::from_secs(10)).success());
            wait_until("the last line", || server.log().len() >= 2);
            // Every line is one JSON object with a time, a level and a message.
            for line in server.log() {
                let event: Value =
                    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
                for member in ["timestamp", "level", "message"] {
                    assert!(event[member].is_string(), "{line}");
                }
            }
            assert_eq!(server.log().iter().filter(|line| line.contains("\"serving\"")).count(), 1);
        }
    });
}

#[test]
fn text_for_people() {
    each_server(|arguments| {
        let cluster = Cluster::start();
        let mut command = binary();
        command
            .args(["--listen=127.0.0.1:0", "--database-url", &database_url(&cluster.config())])
            .args(arguments);
        let mut server = Server::spawn(command);
        wait_until("the start line", || server.log().iter().any(|line| line.contains("serving")));
        server.signal(Signal::SIGTERM);
        assert!(server.wait(std::time::Duration::from_secs(10)).success());
        wait_until("the last line", || server.log().iter().any(|line| line.contains("stopping")));
        for line in server.log() {
            // A time first, and no colours: stderr is no terminal here.
            assert!(line.starts_with("20") && line.contains("INFO") && !line.contains('\x1b'), "{line:?}");
        }
        let words = ["version=", "listen=", "driver=", "why=", "cache=", "postgres=", "rows=0", "loaded_in="];
        let start = server.log().remove(0);
        assert!(words.iter().all(|word| start.contains(word)), "{start}");
    });
}

#[test]
fn the_filter_decides() {
    let cluster = Cluster::start();
    let serve = |filter: &str| {
        let mut command = binary();
        command.args(["--listen=127.0.0.1:0", "--log-format=json", "--log", filter]);
        command.args(["--database-url", &database_url(&cluster.config())]);
        Server::spawn(command)
    };
    let mut server = serve("warn");
    wait_until("a server with nothing to say", || {
        let committers = "select count(*) from pg_stat_activity where application_name like 'rinha % commit'";
        cluster.query(committers) != ["0"]
    });
    // The server installs its signal handlers before it connects.
    server.signal(Signal::SIGTERM);
    assert!(server.wait(std::time::Duration::from_secs(10)).success());
    assert_eq!(server.log(), [] as [String; 0]);
    let mut server = serve("info,rinha=debug");
    server.wait_until_serving();
}
