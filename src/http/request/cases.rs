//! Request heads and what the parser must say of each: one table for the unit tests and for the oracles.
//! It knows the parser's types only as names to print.

use super::{Framing, Head, Progress, Reject};
use crate::limits::{HEADER_FIELDS_MAX, HEADER_SECTION_MAX, REQUEST_LINE_MAX};

/// An outcome as the table writes it: `Get Http11 /path length=0 keep-alive`, `400 Host` or `partial`.
pub(super) fn outcome(result: &Result<Progress<Head>, Reject>, bytes: &[u8]) -> String {
    let head = match result {
        Ok(Progress::Complete(head)) => head,
        Ok(Progress::Partial) => return "partial".to_owned(),
        Err(reject) => return format!("{} {reject:?}", reject.status().code()),
    };
    let framing = match head.framing {
        Framing::Length(length) => format!("length={length}"),
        Framing::Chunked => "chunked".to_owned(),
    };
    format!(
        "{:?} {:?} {} {framing} {}{}",
        head.method,
        head.version,
        String::from_utf8_lossy(&bytes[head.target.clone()]),
        if head.keep_alive { "keep-alive" } else { "close" },
        if head.expect_continue { " expect" } else { "" },
    )
}

/// Whole request lines.
const REQUEST_LINES: &[(&str, &str)] = &[
    ("GET / HTTP/1.1", "Get Http11 / length=0 keep-alive"),
    ("HEAD /a?b=%20 HTTP/1.1", "Head Http11 /a?b=%20 length=0 keep-alive"),
    ("POST /pessoas HTTP/1.1", "Post Http11 /pessoas length=0 keep-alive"),
    ("PUT / HTTP/1.1", "Put Http11 / length=0 keep-alive"),
    ("DELETE / HTTP/1.1", "Delete Http11 / length=0 keep-alive"),
    ("TRACE / HTTP/1.1", "Trace Http11 / length=0 keep-alive"),
    ("PATCH / HTTP/1.1", "Patch Http11 / length=0 keep-alive"),
    ("QUERY / HTTP/1.1", "Query Http11 / length=0 keep-alive"),
    ("OPTIONS * HTTP/1.1", "Options Http11 * length=0 keep-alive"),
    ("CONNECT a:80 HTTP/1.1", "Connect Http11 a:80 length=0 close"),
    ("CONNECT [::1]:80 HTTP/1.1", "Connect Http11 [::1]:80 length=0 close"),
    ("get / HTTP/1.1", "Unknown Http11 / length=0 keep-alive"),
    ("GETT / HTTP/1.1", "Unknown Http11 / length=0 keep-alive"),
    ("!#$%&'*+-.^_`|~09azAZ / HTTP/1.1", "Unknown Http11 / length=0 keep-alive"),
    ("GET / HTTP/1.0", "Get Http10 / length=0 close"),
    ("GET http://a/b?c HTTP/1.1", "Get Http11 http://a/b?c length=0 keep-alive"),
    ("GET hTTps://a:1 HTTP/1.1", "Get Http11 hTTps://a:1 length=0 keep-alive"),
    ("GET /|{}^\"<>\\` HTTP/1.1", "Get Http11 /|{}^\"<>\\` length=0 keep-alive"),
    ("GET /", "400 RequestLine"),
    ("GET / ", "400 RequestLine"),
    ("GET", "400 RequestLine"),
    ("GET ", "400 RequestLine"),
    (" GET / HTTP/1.1", "400 RequestLine"),
    ("GET  / HTTP/1.1", "400 RequestLine"),
    ("GET /  HTTP/1.1", "400 RequestLine"),
    ("GET / HTTP/1.1 ", "400 RequestLine"),
    ("GET\t/ HTTP/1.1", "400 RequestLine"),
    ("GET /\tHTTP/1.1", "400 Target"),
    ("GET /a b HTTP/1.1", "400 RequestLine"),
    ("G{T / HTTP/1.1", "400 RequestLine"),
    ("GÉT / HTTP/1.1", "400 RequestLine"),
    ("\u{16}\u{3}\u{1}", "400 RequestLine"),
    ("GET /é HTTP/1.1", "400 Target"),
    ("GET /a#b HTTP/1.1", "400 Target"),
    ("GET /\0 HTTP/1.1", "400 Target"),
    ("GET /\u{7f} HTTP/1.1", "400 Target"),
    ("GET /a\rb HTTP/1.1", "400 Target"),
    ("GET / HTTP/1.1\r", "400 RequestLine"),
    ("GET a HTTP/1.1", "400 Target"),
    ("GET * HTTP/1.1", "400 Target"),
    ("GET a:80 HTTP/1.1", "400 Target"),
    ("GET ?t=a HTTP/1.1", "400 Target"),
    ("GET http:// HTTP/1.1", "400 Target"),
    ("GET http:///a HTTP/1.1", "400 Target"),
    ("GET http://u@a/ HTTP/1.1", "400 Target"),
    ("GET ftp://a/ HTTP/1.1", "400 Target"),
    ("OPTIONS ** HTTP/1.1", "400 Target"),
    ("CONNECT / HTTP/1.1", "400 Target"),
    ("CONNECT a HTTP/1.1", "400 Target"),
    ("CONNECT a: HTTP/1.1", "400 Target"),
    ("CONNECT :80 HTTP/1.1", "400 Target"),
    ("CONNECT http://a:80 HTTP/1.1", "400 Target"),
    ("PRI * HTTP/2.0", "505 Version"),
    ("GET / HTTP/2.0", "505 Version"),
    ("GET / HTTP/3.0", "505 Version"),
    ("GET / HTTP/1.2", "505 Version"),
    ("GET / HTTP/0.9", "505 Version"),
    ("GET / HTTP/2", "400 RequestLine"),
    ("GET / HTTP/1.", "400 RequestLine"),
    ("GET / HTTP/1.10", "400 RequestLine"),
    ("GET / HTTP/11.1", "400 RequestLine"),
    ("GET / HTTP/1,1", "400 RequestLine"),
    ("GET / http/1.1", "400 RequestLine"),
    ("GET / HTTPS/1.1", "400 RequestLine"),
];

/// Header sections of `POST /p HTTP/1.1`. The start of an outcome that is no refusal, `Post Http11 /p `, is left out.
const SECTIONS: &[(&str, &str)] = &[
    ("Host: a\r\n", "length=0 keep-alive"),
    ("hOST:a\r\n", "length=0 keep-alive"),
    ("Host:\r\n", "length=0 keep-alive"),
    ("Host: \t \r\n", "length=0 keep-alive"),
    ("Host: \t a:80 \t\r\n", "length=0 keep-alive"),
    ("Host: [::1]:80\r\n", "length=0 keep-alive"),
    ("", "400 HostMissing"),
    ("Hosts: a\r\n", "400 HostMissing"),
    ("Host: a\r\nHost: a\r\n", "400 HostRepeated"),
    ("Host: a\r\nX: b\r\nhost: c\r\n", "400 HostRepeated"),
    ("Host: a b\r\n", "400 Host"),
    ("Host: a,b\r\n", "400 Host"),
    ("Host: u@a\r\n", "400 Host"),
    ("Host: a/b\r\n", "400 Host"),
    ("Host: a:b\r\n", "400 Host"),
    ("Host: http://a\r\n", "400 Host"),
    ("Host: é\r\n", "400 Host"),
    // Framing.
    ("Host: a\r\nContent-Length: 0\r\n", "length=0 keep-alive"),
    ("Host: a\r\nContent-Length: 5\r\n", "length=5 keep-alive"),
    ("Host: a\r\ncontent-LENGTH:\t0065536 \r\n", "length=65536 keep-alive"),
    ("Host: a\r\nContent-Length: 18446744073709551615\r\n", "length=18446744073709551615 keep-alive"),
    ("Host: a\r\nContent-Length: 18446744073709551616\r\n", "length=18446744073709551615 keep-alive"),
    ("Host: a\r\nContent-Length: 99999999999999999999999\r\n", "length=18446744073709551615 keep-alive"),
    ("Host: a\r\nContent-Length:\r\n", "400 ContentLength"),
    ("Host: a\r\nContent-Length: -1\r\n", "400 ContentLength"),
    ("Host: a\r\nContent-Length: +1\r\n", "400 ContentLength"),
    ("Host: a\r\nContent-Length: 1 1\r\n", "400 ContentLength"),
    ("Host: a\r\nContent-Length: 1,1\r\n", "400 ContentLength"),
    ("Host: a\r\nContent-Length: 0x1\r\n", "400 ContentLength"),
    ("Host: a\r\nContent-Length: 1.0\r\n", "400 ContentLength"),
    ("Host: a\r\nContent-Length: ١\r\n", "400 ContentLength"),
    ("Host: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n", "400 ContentLength"),
    ("Host: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n", "400 ContentLength"),
    ("Host: a\r\nTransfer-Encoding: chunked\r\n", "chunked keep-alive"),
    ("Host: a\r\ntransfer-encoding: CHUNKED\t\r\n", "chunked keep-alive"),
    ("Host: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n", "400 LengthAndCoding"),
    ("Host: a\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n", "400 LengthAndCoding"),
    ("Host: a\r\nContent-Length: 1\r\nTransfer-Encoding: x\r\n", "400 LengthAndCoding"),
    ("Host: a\r\nTransfer-Encoding:\r\n", "400 TransferCoding"),
    ("Host: a\r\nTransfer-Encoding: identity\r\n", "400 TransferCoding"),
    ("Host: a\r\nTransfer-Encoding: gzip, chunked\r\n", "400 TransferCoding"),
    ("Host: a\r\nTransfer-Encoding: chunked, chunked\r\n", "400 TransferCoding"),
    ("Host: a\r\nTransfer-Encoding: chunked,\r\n", "400 TransferCoding"),
    ("Host: a\r\nTransfer-Encoding: \"chunked\"\r\n", "400 TransferCoding"),
    ("Host: a\r\nTransfer-Encoding: xchunked\r\n", "400 TransferCoding"),
    ("Host: a\r\nTransfer-Encoding: chunked;q=1\r\n", "400 TransferCoding"),
    ("Host: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "400 TransferCoding"),
    // Persistence.
    ("Host: a\r\nConnection: close\r\n", "length=0 close"),
    ("Host: a\r\nConnection: keep-alive\r\n", "length=0 keep-alive"),
    ("Host: a\r\nconnection: TE, ,\tCLOSE ,x\r\n", "length=0 close"),
    ("Host: a\r\nConnection: close\r\nConnection: keep-alive\r\n", "length=0 close"),
    ("Host: a\r\nConnection: closed, x-close\r\n", "length=0 keep-alive"),
    ("Host: a\r\nConnection:\r\n", "length=0 keep-alive"),
    // Expect.
    ("Host: a\r\nContent-Length: 1\r\nExpect: 100-Continue\r\n", "length=1 keep-alive expect"),
    ("Host: a\r\nTransfer-Encoding: chunked\r\nExpect: x, 100-continue\r\n", "chunked keep-alive expect"),
    ("Host: a\r\nExpect: 100-continue\r\n", "length=0 keep-alive"),
    ("Host: a\r\nContent-Length: 1\r\nExpect: 200-ok\r\n", "length=1 keep-alive"),
    // Any field.
    ("Host: a\r\nX:\r\nY: \r\nZ:\t\u{80}é ~!\r\n", "length=0 keep-alive"),
    ("Host: a\r\n!#$%&'*+-.^_`|~09azAZ: \"x\";:,\r\n", "length=0 keep-alive"),
    ("Host: a\r\nX : b\r\n", "400 FieldName"),
    ("Host: a\r\nX\t: b\r\n", "400 FieldName"),
    ("Host: a\r\nX\r\n", "400 FieldName"),
    ("Host: a\r\n: b\r\n", "400 FieldName"),
    ("Host: a\r\nX[: b\r\n", "400 FieldName"),
    ("Host: a\r\né: b\r\n", "400 FieldName"),
    ("Host: a\r\nX\0: b\r\n", "400 FieldName"),
    ("Host: a\r\nX: a\0\r\n", "400 FieldValue"),
    ("Host: a\r\nX: a\u{7f}\r\n", "400 FieldValue"),
    ("Host: a\r\nX: a\u{b}b\r\n", "400 FieldValue"),
    ("Host: a\r\nX: a\rb\r\n", "400 FieldValue"),
    ("Host: a\r\nX: a\r\r\n", "400 FieldValue"),
    ("Host: a\r\n\r\r\n", "400 FieldName"),
    ("Host: a\r\n folded\r\n", "400 FoldedLine"),
    ("Host: a\r\n\tfolded: b\r\n", "400 FoldedLine"),
    (" Host: a\r\n", "400 FoldedLine"),
    ("Host: a\r\n \r\n", "400 FoldedLine"),
    ("Host: a\nX: b\r\n", "400 LineEnd"),
    ("Host: a\r\n\nX: b\r\n", "400 LineEnd"),
];

/// Whole heads, for what the two tables above cannot express.
const WHOLE: &[(&str, &str)] = &[
    ("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "Get Http11 / length=0 keep-alive"),
    ("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "400 RequestLine"),
    ("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "400 RequestLine"),
    ("\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", "400 LineEnd"),
    ("GET / HTTP/1.1\nHost: a\r\n\r\n", "400 LineEnd"),
    ("GET / HTTP/1.1\r\nHost: a\r\n\n", "400 LineEnd"),
    ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505 Version"),
    // HTTP/1.0: no Host needed, closes unless asked not to, no transfer coding, no Expect.
    ("GET / HTTP/1.0\r\n\r\n", "Get Http10 / length=0 close"),
    ("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", "Get Http10 / length=0 keep-alive"),
    ("GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n", "Get Http10 / length=0 close"),
    ("GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", "400 HostRepeated"),
    ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", "400 TransferCoding"),
    ("POST / HTTP/1.0\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n", "Post Http10 / length=1 close"),
    // Not there yet.
    ("", "partial"),
    ("\r", "partial"),
    ("\r\n", "partial"),
    ("GET / HTTP/1.1", "partial"),
    ("GET / HTTP/1.1\r", "partial"),
    ("GET / HTTP/1.1\r\n", "partial"),
    ("GET / HTTP/1.1\r\nHost: a\r\n", "partial"),
    ("GET / HTTP/1.1\r\nHost: a\r\n\r", "partial"),
    ("GET / HTTP/1.1\r\nHost: a\r\nX Y", "partial"),
];

/// Every head with its outcome. Those with an outcome other than `partial` are complete or wrong at their last byte or
/// before.
pub(super) fn cases() -> Vec<(Vec<u8>, String)> {
    let lines = REQUEST_LINES
        .iter()
        .map(|(line, expected)| (format!("{line}\r\nHost: a\r\n\r\n"), (*expected).to_owned()));
    let sections = SECTIONS.iter().map(|(section, expected)| {
        let refused = expected.starts_with(|first: char| first.is_ascii_digit());
        let prefix = if refused { "" } else { "Post Http11 /p " };
        (format!("POST /p HTTP/1.1\r\n{section}\r\n"), format!("{prefix}{expected}"))
    });
    let whole = WHOLE.iter().map(|(head, expected)| ((*head).to_owned(), (*expected).to_owned()));
    lines
        .chain(sections)
        .chain(whole)
        .chain(limits())
        .map(|(head, expected)| (head.into_bytes(), expected))
        .collect()
}

/// Heads at each limit and one byte or field over it.
fn limits() -> Vec<(String, String)> {
    let line = |length: usize| {
        let fixed = "GET / HTTP/1.1".len();
        format!("GET /{} HTTP/1.1", "a".repeat(length - fixed))
    };
    let section = |length: usize| {
        let fixed = "Host: a\r\nX: \r\n\r\n".len();
        format!("Host: a\r\nX: {}\r\n\r\n", "x".repeat(length - fixed))
    };
    let fields = |count: usize| format!("Host: a\r\n{}\r\n", "X:\r\n".repeat(count - 1));
    let accepted = |target: &str| format!("Get Http11 {target} length=0 keep-alive");
    let refused = str::to_owned;
    let longest = line(REQUEST_LINE_MAX);
    let target = longest.split(' ').nth(1).map(accepted).unwrap_or_default();
    vec![
        (format!("{longest}\r\n{}", section(20)), target),
        (format!("{}\r\n", line(REQUEST_LINE_MAX + 1)), refused("414 RequestLineTooLong")),
        (line(REQUEST_LINE_MAX + 1), refused("414 RequestLineTooLong")),
        (line(REQUEST_LINE_MAX), refused("partial")),
        (format!("{}\n", line(REQUEST_LINE_MAX + 1)), refused("414 RequestLineTooLong")),
        ("G".repeat(REQUEST_LINE_MAX + 1), refused("414 RequestLineTooLong")),
        (format!("GET / HTTP/1.1\r\n{}", section(HEADER_SECTION_MAX)), accepted("/")),
        (format!("GET / HTTP/1.1\r\n{}", section(HEADER_SECTION_MAX + 1)), refused("431 SectionTooLong")),
        (format!("GET / HTTP/1.1\r\n{}", "x".repeat(HEADER_SECTION_MAX)), refused("431 SectionTooLong")),
        (format!("GET / HTTP/1.1\r\n{}", "x".repeat(HEADER_SECTION_MAX - 1)), refused("partial")),
        (format!("GET / HTTP/1.1\r\n{}", fields(HEADER_FIELDS_MAX)), accepted("/")),
        (format!("GET / HTTP/1.1\r\n{}", fields(HEADER_FIELDS_MAX + 1)), refused("431 TooManyFields")),
    ]
}
