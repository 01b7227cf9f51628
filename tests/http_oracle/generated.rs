//! Requests to judge: built from right and wrong parts, and mutated. It knows no parser.

use proptest::{prelude::*, sample::select};

use crate::cases;

const METHODS: &[&str] = &["GET", "POST", "HEAD", "OPTIONS", "CONNECT", "BREW", "get", "G(T", ""];
const TARGETS: &[&str] = &[
    "/",
    "/pessoas",
    "/pessoas?t=a%20b+c",
    "/a|b^c",
    "*",
    "a:80",
    "[::1]:1",
    "http://a",
    "http://a:1/b?c",
    "HTTPS://[::1]",
    "http://",
    "http://u@a/",
    "ftp://a",
    "/a#b",
    "/é",
    "a",
    "",
];
const VERSIONS: &[&str] = &["HTTP/1.1", "HTTP/1.0", "HTTP/1.2", "HTTP/2.0", "http/1.1", "HTTP/1", ""];
const FIELDS: &[&str] = &[
    "Host: a",
    "host:\ta:80 ",
    "HOST: [::1]:80",
    "Host:",
    "Host: a,b",
    "Host: u@a",
    "Host: a:b",
    "Content-Length: 0",
    "Content-Length: 5",
    "content-length:005\t",
    "Content-Length: 5, 5",
    "Content-Length: +5",
    "Content-Length:",
    "Content-Length: 99999999999999999999",
    "Transfer-Encoding: chunked",
    "transfer-encoding: Chunked ",
    "Transfer-Encoding: gzip, chunked",
    "Transfer-Encoding: identity",
    "Transfer-Encoding:",
    "Connection: close",
    "Connection: keep-alive",
    "connection: a, CLOSE ,b",
    "Connection: Keep-Alive, x",
    "Expect: 100-continue",
    "Expect: 200-ok, 100-Continue",
    "Accept: */*",
    "X: \u{80}é\t~",
    "X:",
];
/// Lines that are no field.
const WRONG_FIELDS: &[&str] =
    &["X : a", "X", ": a", " folded", "\tfolded: a", "X: a\0b", "X: a\rb", "X: a\u{7f}", "É: a"];
/// Bytes that mean something to the grammar.
pub(super) const TELLING: &[u8] = b"\r\n \t:,;/?#*@[]%+-\0\x7F\x80\xFF0159aHX\"";

fn mostly(right: &'static str, any: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    prop_oneof![12 => Just(right), 1 => select(any)]
}

fn line_end() -> impl Strategy<Value = &'static str> {
    prop_oneof![150 => Just("\r\n"), 1 => Just("\n"), 1 => Just("\r"), 1 => Just("\r\r\n")]
}

pub(super) fn request() -> impl Strategy<Value = Vec<u8>> {
    let start =
        prop_oneof![30 => Just(""), 2 => Just("\r\n"), 1 => select(&["\r\n\r\n", "\n", "\r", " "][..])];
    let line = (
        start,
        prop_oneof![mostly("GET", METHODS), mostly("POST", METHODS)],
        mostly("/pessoas", TARGETS),
        mostly("HTTP/1.1", VERSIONS),
        line_end(),
    );
    let field = prop_oneof![20 => select(FIELDS), 1 => select(WRONG_FIELDS)];
    let few = prop::collection::vec((field, line_end()), 0..5);
    let many = prop::collection::vec((Just("X: y"), Just("\r\n")), 60..68);
    let fields = prop_oneof![30 => few, 1 => many];
    let host = prop_oneof![4 => Just("Host: a\r\n"), 1 => Just("")];
    (line, host, fields, line_end()).prop_map(
        |((start, method, target, version, end), host, fields, last)| {
            let fields: String = fields.iter().map(|(field, end)| format!("{field}{end}")).collect();
            format!("{start}{method} {target} {version}{end}{host}{fields}{last}").into_bytes()
        },
    )
}

#[derive(Debug, Clone)]
enum Mutation {
    Insert(u8),
    Replace(u8),
    Remove(usize),
    Repeat(usize),
    Truncate,
}

pub(super) fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let byte = || prop_oneof![4 => select(TELLING), 1 => any::<u8>()];
    let mutation = prop_oneof![
        4 => byte().prop_map(Mutation::Insert),
        4 => byte().prop_map(Mutation::Replace),
        2 => (1..4usize).prop_map(Mutation::Remove),
        1 => (1..30usize).prop_map(Mutation::Repeat),
        1 => Just(Mutation::Truncate),
    ];
    let tables: Vec<_> = cases::cases().into_iter().map(|(input, _)| input).collect();
    let base = prop_oneof![2 => request(), 1 => select(tables)];
    let mutations = prop::collection::vec((any::<prop::sample::Index>(), mutation), 0..4);
    (base, mutations).prop_map(|(mut bytes, mutations)| {
        for (index, mutation) in mutations {
            if bytes.is_empty() {
                break;
            }
            let at = index.index(bytes.len());
            let end = |length: usize| (at + length).min(bytes.len());
            match mutation {
                Mutation::Insert(byte) => bytes.insert(at, byte),
                Mutation::Replace(byte) => bytes[at] = byte,
                Mutation::Remove(length) => drop(bytes.drain(at..end(length))),
                Mutation::Repeat(length) => {
                    let piece = bytes[at..end(length)].to_vec();
                    bytes.splice(at..at, piece);
                }
                Mutation::Truncate => bytes.truncate(at),
            }
        }
        bytes
    })
}
