//! Requests that break the protocol or a limit: refused, and the connection is closed, because no one knows where
//! the next request would start.

use rinha::limits::{HEADER_FIELDS_MAX, HEADER_SECTION_MAX, REQUEST_LINE_MAX};

use crate::answer::{expect, expect_persistence, shown};
use crate::world::World;

/// Bytes as they are sent, and the refusal.
const CASES: &[(&str, &str)] = &[
    // The request line.
    ("GET\r\n", "400 the request line"),
    ("GET /healthz\r\n", "400 the request line"),
    ("GET  /healthz HTTP/1.1\r\n", "400 the request line"),
    ("GET /healthz HTTP/1.1 \r\n", "400 the request line"),
    (" GET /healthz HTTP/1.1\r\n", "400 the request line"),
    ("GET\t/healthz HTTP/1.1\r\n", "400 the request line"),
    ("GET /a b HTTP/1.1\r\n", "400 the request line"),
    ("G{T /healthz HTTP/1.1\r\n", "400 the request line"),
    ("GET /healthz http/1.1\r\n", "400 the request line"),
    ("GET /healthz HTTP/1\r\n", "400 the request line"),
    ("GET healthz HTTP/1.1\r\n", "400 the request target"),
    ("GET * HTTP/1.1\r\n", "400 the request target"),
    ("GET /pessoas?t=é HTTP/1.1\r\n", "400 the request target"),
    ("GET /pessoas?t=a#b HTTP/1.1\r\n", "400 the request target"),
    ("GET /\0 HTTP/1.1\r\n", "400 the request target"),
    ("GET /a\rb HTTP/1.1\r\n", "400 the request target"),
    ("GET /healthz HTTP/1.1\nHost: a\n\n", "400 every line must end in CRLF"),
    ("\r\n\r\nGET /healthz HTTP/1.1\r\n", "400 the request line"),
    // A client that speaks TLS.
    ("\u{16}\u{3}\u{1}\u{2}", "400 the request line"),
    // Other versions: HTTP/0.9, the preface of HTTP/2, and what never was.
    ("GET /\r\n", "400 the request line"),
    ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505 the version must be HTTP/1.1 or HTTP/1.0"),
    ("GET /healthz HTTP/0.9\r\n", "505 the version"),
    ("GET /healthz HTTP/1.2\r\n", "505 the version"),
    ("GET /healthz HTTP/2.0\r\n", "505 the version"),
    ("GET /healthz HTTP/3.0\r\n", "505 the version"),
    // Host.
    ("GET /healthz HTTP/1.1\r\n\r\n", "400 HTTP/1.1 needs a Host header"),
    ("GET /healthz HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", "400 there must be only one Host header"),
    ("GET /healthz HTTP/1.0\r\nHost: a\r\nhost: b\r\n\r\n", "400 there must be only one Host header"),
    ("GET /healthz HTTP/1.1\r\nHost: a b\r\n\r\n", "400 Host must be"),
    // Header lines: space before the colon, no colon, obs-fold, a bare CR, NUL.
    ("GET /healthz HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n", "400 every header line"),
    ("GET /healthz HTTP/1.1\r\nHost : a\r\n\r\n", "400 every header line"),
    ("GET /healthz HTTP/1.1\r\nHost: a\r\nX\r\n\r\n", "400 every header line"),
    ("GET /healthz HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", "400 every header line"),
    ("GET /healthz HTTP/1.1\r\nHost: a\r\nX\0: b\r\n\r\n", "400 every header line"),
    ("GET /healthz HTTP/1.1\r\nHost: a\r\nX: b\r\n folded\r\n\r\n", "400 a header line must not start"),
    ("GET /healthz HTTP/1.1\r\n Host: a\r\n\r\n", "400 a header line must not start"),
    ("GET /healthz HTTP/1.1\r\nHost: a\r\nX: b\0c\r\n\r\n", "400 a header value"),
    ("GET /healthz HTTP/1.1\r\nHost: a\r\nX: b\rc\r\n\r\n", "400 a header value"),
    ("GET /healthz HTTP/1.1\r\nHost: a\r\nX: b\r\r\n\r\n", "400 a header value"),
    ("GET /healthz HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", "400 every line must end in CRLF"),
    // Framing: lengths that are no number, differ or repeat; codings other than a single `chunked`; a length and a
    // coding.
    ("POST /pessoas HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", "400 Content-Length must be"),
    ("POST /pessoas HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", "400 Content-Length must be"),
    ("POST /pessoas HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", "400 Content-Length must be"),
    ("POST /pessoas HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n", "400 Content-Length must be"),
    ("POST /pessoas HTTP/1.1\r\nHost: a\r\nContent-Length: 1,1\r\n\r\n", "400 Content-Length must be"),
    ("POST /pessoas HTTP/1.1\r\nHost: a\r\nContent-Length: 0x1\r\n\r\n", "400 Content-Length must be"),
    (
        "POST /pessoas HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        "400 Content-Length must be",
    ),
    (
        "POST /pessoas HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        "400 a request must not have both Content-Length and Transfer-Encoding",
    ),
    (
        "POST /pessoas HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n{}",
        "400 a request must not have both Content-Length and Transfer-Encoding",
    ),
    ("POST /pessoas HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", "400 Transfer-Encoding must be"),
    (
        "POST /pessoas HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n",
        "400 Transfer-Encoding must be",
    ),
    (
        "POST /pessoas HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        "400 Transfer-Encoding must be",
    ),
    (
        "POST /pessoas HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n",
        "400 Transfer-Encoding must be",
    ),
    ("POST /pessoas HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", "400 Transfer-Encoding must be"),
    // Chunks.
    ("POST /pessoas HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", "400 a chunk must be"),
    ("POST /pessoas HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n", "400 a chunk must be"),
    ("POST /pessoas HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\n{}", "400 a chunk must be"),
    (
        "POST /pessoas HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}0\r\n\r\n",
        "400 a chunk must be",
    ),
    (
        "POST /pessoas HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nX : a\r\n\r\n",
        "400 every header line",
    ),
];

pub(crate) fn refused_then_closed(world: &World) {
    for (request, expected) in CASES {
        check(world, request, expected);
    }
    for (request, expected) in too_long() {
        check(world, &request, expected);
    }
    for (request, status) in [
        ("HEAD /healthz HTTP/1.1\r\n\r\n", 400),
        ("HEAD healthz HTTP/1.1\r\n", 400),
        ("HEAD /healthz HTTP/3.0\r\n", 505),
        ("HEAD /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 99999\r\n\r\n", 413),
    ] {
        let mut client = world.connect();
        client.send(request);
        let response = client.receive_to("HEAD");
        assert_eq!(response.status, status, "{request:?}");
        expect_persistence(&response, Some("close"));
        // The answer to HEAD has no body, also when its head is refused.
        client.expect_close();
    }
    for request in just_not_too_long() {
        let mut client = world.connect();
        client.send(&request);
        expect(&client.receive(), "404");
        client.expect_alive();
    }
}

#[track_caller]
fn check(world: &World, request: &str, expected: &str) {
    println!("{:?}", shown(request));
    let mut client = world.connect();
    // What was pipelined before is answered, what follows is not.
    client.send(["GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n", request].concat());
    client.send_unless_closed("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
    expect(&client.receive(), "404");
    let response = client.receive();
    expect(&response, expected);
    expect_persistence(&response, Some("close"));
    client.expect_close();
}

fn line(length: usize) -> String {
    let fixed = "GET / HTTP/1.1".len();
    format!("GET /{} HTTP/1.1", "a".repeat(length - fixed))
}

fn section(length: usize) -> String {
    let fixed = "Host: a\r\nX: \r\n\r\n".len();
    format!("Host: a\r\nX: {}\r\n\r\n", "x".repeat(length - fixed))
}

fn fields(count: usize) -> String {
    format!("Host: a\r\n{}\r\n", "X: a\r\n".repeat(count - 1))
}

fn too_long() -> Vec<(String, &'static str)> {
    let line_too_long = "414 the request line must be at most 8 KiB";
    let section_too_long = "431 the header section must be at most 16 KiB";
    let too_many = "431 there must be at most 64 header fields";
    vec![
        (format!("{}\r\n", line(REQUEST_LINE_MAX + 1)), line_too_long),
        // Requests without an end: what is there is too long already.
        (format!("GET /{}", "a".repeat(REQUEST_LINE_MAX)), line_too_long),
        (format!("GET / HTTP/1.1\r\n{}", section(HEADER_SECTION_MAX + 1)), section_too_long),
        (format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(HEADER_SECTION_MAX)), section_too_long),
        (format!("GET / HTTP/1.1\r\n{}", fields(HEADER_FIELDS_MAX + 1)), too_many),
    ]
}

fn just_not_too_long() -> [String; 3] {
    [
        format!("{}\r\nHost: a\r\n\r\n", line(REQUEST_LINE_MAX)),
        format!("GET /nowhere HTTP/1.1\r\n{}", section(HEADER_SECTION_MAX)),
        format!("GET /nowhere HTTP/1.1\r\n{}", fields(HEADER_FIELDS_MAX)),
    ]
}
