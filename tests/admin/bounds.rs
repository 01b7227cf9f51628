//! Who may ask what, and how much of it.

use std::process::Stdio;
use std::time::Duration;

use rinha::limits::{ADMIN_CONNECTIONS_MAX, ADMIN_TIME_MAX, HEADER_SECTION_MAX, REQUEST_LINE_MAX};

use crate::cluster::Cluster;
use crate::load::wait_until;
use crate::server::{Connection, Server, binary};
use crate::{Watched, database_url};

/// Each listener knows its own paths and none of the other's.
#[test]
fn nothing_of_it_is_on_the_public_listener() {
    let cluster = Cluster::start();
    let watched = Watched::start(&cluster, &[]);
    for path in ["/metrics", "/readyz", "/live", "/metrics/", "//metrics"] {
        for method in ["GET", "HEAD", "POST"] {
            assert_eq!(watched.server.ask(method, path, "").status, 404, "{method} {path}");
        }
    }
    for path in
        ["/pessoas", "/contagem-pessoas", "/pessoas?t=a", "/", "/metricsx", "/metrics/x", "/livex", "/live/x"]
    {
        let answer = watched.ask(path);
        assert_eq!(answer.status, 404, "{path}");
        assert!(answer.text().contains("expected /metrics"), "{}", answer.text());
    }
    // The public /healthz says other things.
    assert_eq!(watched.server.ask("GET", "/healthz", "").json()["status"], "serving");
    assert_eq!(watched.ask("/healthz").text(), "live\n");
}

#[test]
fn without_the_flag_nobody_is_answered() {
    let cluster = Cluster::start();
    let server = Server::on(&cluster.config(), &[]);
    assert!(server.events().iter().all(|event| event["message"] != "operators are answered"));
}

#[test]
fn one_answer_a_connection_in_the_form_of_http() {
    let cluster = Cluster::start();
    let watched = Watched::start(&cluster, &[]);
    let raw = |bytes: &str| {
        let mut connection = Connection::open(&watched.admin);
        connection.send(bytes);
        let answer = connection.receive();
        assert!(connection.is_closed_by_server(), "{bytes:?}");
        (answer.status, answer)
    };
    for (request, status) in [
        ("GET /metrics HTTP/1.0\r\n\r\n", 200),
        ("GET /metrics?x=y HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        ("GET http://a/metrics HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        ("GET /metrics HTTP/1.1\r\n\r\n", 400),
        ("POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", 405),
        ("DELETE /readyz HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        ("GET /metrics HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        ("\x16\x03\x01 hello\r\n\r\n", 400),
        // Of two requests the first is answered.
        ("GET /readyz HTTP/1.1\r\nHost: a\r\n\r\nGET /readyz HTTP/1.1\r\nHost: a\r\n\r\n", 200),
    ] {
        let (answered, answer) = raw(request);
        assert_eq!(answered, status, "{request:?}: {}", answer.text());
        assert_eq!(answer.header("Connection"), Some("close"), "{request:?}");
        assert!(answer.header("Date").is_some());
        assert_eq!(answer.header("Allow").is_some(), status == 405);
    }
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(REQUEST_LINE_MAX));
    assert_eq!(raw(&long).0, 414);
    let large = format!("GET /metrics HTTP/1.1\r\nHost: a\r\na: {}\r\n\r\n", "x".repeat(HEADER_SECTION_MAX));
    assert_eq!(raw(&large).0, 431);
    // The head of GET, and no body.
    let mut head = Connection::open(&watched.admin);
    let answer = head.ask("HEAD", "/readyz", "");
    assert_eq!((answer.status, answer.header("Content-Length"), answer.body.len()), (200, Some("8"), 0));
    assert!(head.is_closed_by_server());
    let metrics = watched.ask("/metrics");
    assert_eq!(metrics.header("Content-Type"), Some("text/plain; version=0.0.4"));
}

/// What runs, as the program itself says it.
#[test]
fn the_version_is_the_programs() {
    let cluster = Cluster::start();
    let watched = Watched::start(&cluster, &["--cores=1"]);
    let said = binary().arg("--version").stdout(Stdio::piped()).output().expect("a process").stdout;
    let said = String::from_utf8(said).expect("UTF-8");
    let (version, commit) =
        said.trim().split_once(" (").map_or((said.trim(), None), |(version, commit)| (version, Some(commit)));
    let version = version.strip_prefix("rinha ").expect("a name");
    let commit = commit.map(|commit| commit.trim_end_matches(')'));
    let labels = format!("version=\"{version}\",commit=\"{}\"", commit.unwrap_or("unknown"));
    assert!(watched.metrics().has("rinha_info", &[&labels]), "{labels}");
    let now = watched.ask("/live/now").json();
    assert_eq!((now["version"].as_str(), now["commit"].as_str()), (Some(version), commit));
}

/// Those who say nothing have their places taken for a while; the next one is told so, and clients notice nothing.
#[test]
fn no_more_than_there_may_be_and_none_for_ever() {
    let cluster = Cluster::start();
    let watched = Watched::start(&cluster, &["--cores=1"]);
    let mut silent: Vec<Connection> =
        (0..ADMIN_CONNECTIONS_MAX).map(|_| Connection::open(&watched.admin)).collect();
    silent[0].send("GET /met");
    let one_more = || {
        let mut connection = Connection::open(&watched.admin);
        connection.receive()
    };
    let refused = one_more();
    assert_eq!((refused.status, refused.header("Connection")), (503, Some("close")));
    assert!(refused.text().contains("too many operators"), "{}", refused.text());
    assert_eq!(watched.server.ask("GET", "/contagem-pessoas", "").text(), "0");
    // Without an answer: nobody knows what they wanted.
    let waited =
        wait_until("places", || silent.iter_mut().all(|one| one.hears_within(Duration::from_secs(15))));
    assert!(waited < 2 * ADMIN_TIME_MAX, "{waited:?}");
    wait_until("an answer", || {
        let mut connection = Connection::open(&watched.admin);
        connection.try_ask("GET", "/readyz", "").is_ok_and(|answer| answer.status == 200)
    });
}

#[test]
fn an_address_that_cannot_be_had() {
    let cluster = Cluster::start();
    let watched = Watched::start(&cluster, &[]);
    let crate::server::Address::Tcp(taken) = watched.admin else { panic!("expected TCP") };
    let mut command = binary();
    command.args(["--listen=127.0.0.1:0", &format!("--admin={taken}")]);
    command.args(["--database-url", &database_url(&cluster.config())]);
    let output = command.stderr(Stdio::piped()).output().expect("a process");
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("give another --admin") && said.contains(&taken.to_string()), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}
