//! Methods and paths: what is served, what is not, and `/healthz`.

use crate::answer::{Client, expect, expect_persistence};
use crate::world::{World, person};

/// Requests and what they answer: a status, and of a problem the start of its detail.
const CASES: &[(&str, &str, &str)] = &[
    // Another method on a known path.
    ("DELETE", "/pessoas", "405 expected one of the methods GET, HEAD, POST"),
    ("PUT", "/pessoas", "405 expected one of the methods GET, HEAD, POST"),
    ("PATCH", "/pessoas?t=a", "405 expected one of the methods GET, HEAD, POST"),
    ("OPTIONS", "/pessoas", "405 expected one of the methods GET, HEAD, POST"),
    ("TRACE", "/pessoas", "405 expected one of the methods GET, HEAD, POST"),
    ("QUERY", "/pessoas?t=a", "405 expected one of the methods GET, HEAD, POST"),
    ("POST", "/pessoas/00000000-0000-0000-0000-000000000000", "405 expected one of the methods GET, HEAD"),
    ("DELETE", "/pessoas/00000000-0000-0000-0000-000000000000", "405 expected one of the methods GET, HEAD"),
    ("PUT", "/pessoas/1", "405 expected one of the methods GET, HEAD"),
    ("POST", "/contagem-pessoas", "405 expected one of the methods GET, HEAD"),
    ("DELETE", "/healthz", "405 expected one of the methods GET, HEAD"),
    ("POST", "/", "405 expected one of the methods GET, HEAD"),
    ("POST", "/docs", "405 expected one of the methods GET, HEAD"),
    ("OPTIONS", "/openapi.json", "405 expected one of the methods GET, HEAD"),
    // The documentation.
    ("GET", "/", "303"),
    ("GET", "/docs", "200"),
    ("GET", "/docs?x", "200"),
    ("GET", "/openapi.json", "200"),
    // An unknown path.
    ("GET", "/nowhere", "404 expected /pessoas, /pessoas/:id, /contagem-pessoas, /healthz or /docs"),
    ("GET", "/pessoas/", "400 `t`: expected a search term"),
    ("GET", "/pessoas/?t=nobody-has-this", "200"),
    ("DELETE", "/pessoas/", "405 expected one of the methods GET, HEAD, POST"),
    ("GET", "/pessoas//", "404 expected /pessoas, "),
    ("GET", "//pessoas?t=a", "404 expected /pessoas, "),
    ("GET", "/pessoas/00000000-0000-0000-0000-000000000000/", "404 expected /pessoas, "),
    ("GET", "/pessoas/a/b", "404 expected /pessoas, "),
    ("GET", "/Pessoas?t=a", "404 expected /pessoas, "),
    ("GET", "/pessoa%73?t=a", "404 expected /pessoas, "),
    ("GET", "/pessoas%3Ft=a", "404 expected /pessoas, "),
    ("GET", "/contagem-pessoas/", "404 expected /pessoas, "),
    ("GET", "/healthz/", "404 expected /pessoas, "),
    ("GET", "/docs/", "404 expected /pessoas, "),
    ("GET", "/openapi.yaml", "404 expected /pessoas, "),
    ("DELETE", "/nowhere", "404 expected /pessoas, "),
    ("OPTIONS", "*", "404 expected /pessoas, "),
    // A method no server knows, on any path.
    ("BREW", "/pessoas", "501 expected a method that HTTP defines"),
    ("get", "/pessoas?t=a", "501 expected a method that HTTP defines"),
    ("PROPFIND", "/nowhere", "501 expected a method that HTTP defines"),
    ("POSTT", "/pessoas", "501 expected a method that HTTP defines"),
    // A target may be a whole URL (RFC 9112 section 3.2.2); its host is not looked at.
    ("GET", "http://localhost/healthz", "200"),
    ("GET", "http://example.com:1/contagem-pessoas?x", "200"),
    ("GET", "http://localhost", "303"),
];

pub(crate) fn methods_and_paths(world: &World) {
    for case in CASES {
        check(world, case);
    }
    with_a_slash(world);
    connect(world);
    healthz(world);
    documentation(world);
}

/// A create to `/pessoas/` is a create.
fn with_a_slash(world: &World) {
    let pessoa = person("com barra");
    let created = world.ask("POST", "/pessoas/", &pessoa);
    expect(&created, "201");
    let same = world.ask("POST", "/pessoas", &pessoa);
    expect(&same, "422 `apelido`: expected one that no other pessoa has");
}

/// What follows a CONNECT is no request of ours.
fn connect(world: &World) {
    let mut client = world.connect();
    client.send(
        "CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\nGET /healthz HTTP/1.1\r\nHost: a\r\n\r\n",
    );
    let response = client.receive();
    expect(&response, "405 expected one of the methods GET, HEAD, POST");
    assert_eq!(response.header("Allow"), Some("GET, HEAD, POST"));
    assert_eq!(response.header("Connection"), Some("close"));
    client.expect_close();
}

/// With a body and without: the next request starts where it should. HEAD is answered as GET, without the body.
#[track_caller]
fn check(world: &World, (method, target, expected): &(&str, &str, &str)) {
    println!("{method} {target}");
    let mut client = world.connect();
    for body in ["", "GET / HTTP/1.1\r\n\r\n"] {
        let response = client.ask(method, target, body);
        expect(&response, expected);
        expect_persistence(&response, None);
        let allow = expected.strip_prefix("405 expected one of the methods ");
        assert_eq!(response.header("Allow"), allow);
        if *method == "GET" {
            let head = client.ask("HEAD", target, body);
            assert_eq!((head.status, &head.body[..]), (response.status, &b""[..]));
            for name in ["Content-Type", "Allow", "Location"] {
                assert_eq!(head.header(name), response.header(name), "{name}");
            }
            // The health of another moment may be longer.
            if !(target.contains("healthz") && response.status == 200) {
                assert_eq!(head.header("Content-Length"), response.header("Content-Length"));
            }
        }
    }
    client.expect_alive();
}

/// The root leads to a page that fetches nothing.
fn documentation(world: &World) {
    let root = world.ask("GET", "/", "");
    assert_eq!((root.status, root.header("Location")), (303, Some("/docs")));
    let page = world.ask("GET", "/docs", "");
    assert_eq!(page.header("Content-Type"), Some("text/html; charset=utf-8"));
    assert!(page.text().starts_with("<!doctype html>") && page.text().ends_with("</html>\n"));
    for fetched in ["<script", "<img", "src=", "@import", "url(", "//"] {
        assert!(!page.text().contains(fetched), "{fetched}");
    }
    let document = world.ask("GET", "/openapi.json", "");
    assert_eq!(document.header("Content-Type"), Some("application/json"));
    assert_eq!(document.json()["info"]["title"], "rinha");
}

/// 200 once loaded; the document says what serves.
fn healthz(world: &World) {
    let response = world.ask("GET", "/healthz", "");
    expect(&response, "200");
    assert_eq!(response.header("Content-Type"), Some("application/json"));
    let health = response.json();
    assert_eq!(health["status"], "serving");
    assert_eq!(health["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(health["database"]["reachable"], true);
    assert_eq!(health["database"]["durable"], true);
    assert_eq!(health["connections"]["panics"], 0);
    assert_eq!(health["driver"]["name"], world.server.start["driver"]);
    if world.arguments.contains(&"epoll") {
        assert_eq!(health["driver"]["name"], "epoll");
    }
    // The connections of all cores, whichever is asked.
    let mut idle: Vec<Client> = (0..6).map(|_| world.connect()).collect();
    for client in &mut idle {
        client.expect_alive();
    }
    let open = world.ask("GET", "/healthz", "").json()["connections"]["open"].as_u64();
    assert!(open >= Some(7), "{open:?}");
    let head = world.ask("HEAD", "/healthz", "");
    assert_eq!((head.status, &head.body[..]), (200, &b""[..]));
}
