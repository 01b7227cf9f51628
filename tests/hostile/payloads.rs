//! The table of requests that two readers could read differently. Each is about one request, `POST /pessoas?x=outer-LABEL`
//! for most of them, and hides another one in it or behind it: `POST /pessoas?x=hidden-LABEL`, which would create a pessoa.
//! No strict reader finds the hidden one: it is part of a body, or comes behind what must be refused.

/// How the server answers when nobody is before it: statuses in the order of the answers, `!` behind one that says
/// `Connection: close`.
type Direct = &'static str;

/// One way to say it.
pub(crate) struct Payload {
    pub(crate) name: &'static str,
    pub(crate) bytes: Vec<u8>,
    /// The request as a strict reader may pass it on: method, target and body; none when nothing may be passed on.
    pub(crate) outer: Option<(&'static str, String, Vec<u8>)>,
    pub(crate) direct: Direct,
}

impl Payload {
    /// Whether the balancer may take what is hidden for the same client's next request.
    pub(crate) fn may_be_next(&self) -> bool {
        NEXT.contains(&self.name)
    }
}

/// What HAProxy, or some release of it, takes for a whole request, and what the hidden one comes behind: lines that end in LF
/// alone, a folded trailer; heads that it passes on as they are and that only the server refuses. It frames them anew, so
/// that the servers read what it read, and what comes behind is that client's own next request, as it is when any other one
/// is sent behind the first. The server itself never answers it. A length of 2^64 is read as none by release 2.6: what keeps
/// that from harm is that the server closes where it refuses a length.
const NEXT: &[&str] = &[
    "cl, over 64 bits to zero",
    "chunk, LF in an extension",
    "chunk, LF behind the last one",
    "a trailer that ends in LF",
    "a folded trailer",
    "an LF before the line",
    "no host",
    "an empty host twice",
    "a host of two",
    "a host with a path",
    "bare LFs only",
    "the preface of HTTP/2",
    "CONNECT",
];

/// The hidden request.
pub(crate) fn hidden(label: &str) -> String {
    let body = format!(r#"{{"apelido":"hidden-{label}","nome":"Hidden","nascimento":"2000-01-01"}}"#);
    format!(
        "POST /pessoas?x=hidden-{label} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// What comes behind the outer request's line and `Host`.
enum Form {
    /// Both a length, of all that follows, and this field; then a last chunk, and the hidden request.
    LengthAnd(&'static str),
    /// This field; then a last chunk, and the hidden request.
    ChunksBy(&'static str),
    /// These fields, in which `N` stands for the length of the hidden request, which follows.
    Fields(&'static str),
    /// Chunked; in the body `H` stands for the hidden request, `N` for its length in hexadecimal.
    Chunks(&'static str),
}
use Form::{Chunks, ChunksBy, Fields, LengthAnd};

/// Name, form, the bodies of it that may be passed on, and what the server says.
/// `=` is all that follows, or the hidden request out of its chunk, `-` an empty body, nothing that it must be refused.
const FORMS: &[(&str, Form, &str, Direct)] = &[
    // A length and a coding. By RFC 9112 a proxy may pass on what the coding says, and must close behind it.
    ("cl.te", LengthAnd("Transfer-Encoding: chunked"), "-", "400!"),
    ("cl.te, in capitals", LengthAnd("TRANSFER-ENCODING: CHUNKED"), "-", "400!"),
    ("cl.te, a tab", LengthAnd("Transfer-Encoding:\tchunked"), "-", "400!"),
    ("cl.te, no space", LengthAnd("Transfer-Encoding:chunked"), "-", "400!"),
    ("te.cl", Chunks("Content-Length: 4|N\r\nH\r\n0\r\n\r\n"), "=", "400!"),
    ("te.cl, cl of the chunk line", Chunks("Content-Length: 3|N\r\nH\r\n0\r\n\r\n"), "=", "400!"),
    ("te.0", Chunks("Content-Length: 0|N\r\nH\r\n0\r\n\r\n"), "=", "400!"),
    // Codings that one reader takes for chunked, and another does not.
    ("te.te, xchunked", LengthAnd("Transfer-Encoding: xchunked"), "=", "400!"),
    ("te.te, space before the colon", LengthAnd("Transfer-Encoding : chunked"), "", "400!"),
    ("te.te, tab before the colon", LengthAnd("Transfer-Encoding\t: chunked"), "", "400!"),
    ("te.te, two fields", LengthAnd("Transfer-Encoding: chunked\r\nTransfer-Encoding: x"), "", "400!"),
    (
        "te.te, two fields, the other first",
        LengthAnd("Transfer-Encoding: x\r\nTransfer-Encoding: chunked"),
        "-",
        "400!",
    ),
    (
        "te.te, chunked twice",
        LengthAnd("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
        "-",
        "400!",
    ),
    ("te.te, a list", LengthAnd("Transfer-Encoding: chunked, identity"), "", "400!"),
    ("te.te, a list, the other first", LengthAnd("Transfer-Encoding: identity, chunked"), "-", "400!"),
    ("te.te, an empty member", LengthAnd("Transfer-Encoding: , chunked"), "-", "400!"),
    ("te.te, an empty last member", LengthAnd("Transfer-Encoding: chunked,"), "-", "400!"),
    ("te.te, a parameter", LengthAnd("Transfer-Encoding: chunked;q=1"), "", "400!"),
    ("te.te, quoted", LengthAnd("Transfer-Encoding: \"chunked\""), "", "400!"),
    ("te.te, empty", LengthAnd("Transfer-Encoding:"), "", "400!"),
    ("te.te, a vertical tab", LengthAnd("Transfer-Encoding: \u{b}chunked"), "", "400!"),
    ("te.te, a vertical tab behind", LengthAnd("Transfer-Encoding: chunked\u{b}"), "", "400!"),
    ("te.te, obs-text", LengthAnd("Transfer-Encoding: chunked\u{e9}"), "", "400!"),
    ("te.te, obs-text in the name", LengthAnd("Transfer-Encoding\u{e9}: chunked"), "", "400!"),
    ("te.te, NUL", LengthAnd("Transfer-Encoding: chunked\0"), "", "400!"),
    ("te.te, NUL in the name", LengthAnd("Transfer-Encoding\0: chunked"), "", "400!"),
    ("te.te, folded", LengthAnd("Transfer-Encoding:\r\n chunked"), "-", "400!"),
    ("te.te, a folded name", LengthAnd("X: y\r\n Transfer-Encoding: chunked"), "=", "400!"),
    ("te.te, behind a bare LF", LengthAnd("X: y\nTransfer-Encoding: chunked"), "-", "400!"),
    ("te.te, behind a bare CR", LengthAnd("X: y\rTransfer-Encoding: chunked"), "", "400!"),
    ("te.te, its colon on the next line", LengthAnd("Transfer-Encoding\r\n: chunked"), "", "400!"),
    ("te.te, underscore", LengthAnd("Transfer_Encoding: chunked"), "=", "400"),
    ("te.te, one word", LengthAnd("TransferEncoding: chunked"), "=", "400"),
    ("te.te, a name that begins so", LengthAnd("Transfer-Encoding-X: chunked"), "=", "400"),
    ("te only, identity", ChunksBy("Transfer-Encoding: identity"), "", "400!"),
    ("te only, gzip, chunked", ChunksBy("Transfer-Encoding: gzip, chunked"), "-", "400!"),
    ("te only, chunked, gzip", ChunksBy("Transfer-Encoding: chunked, gzip"), "", "400!"),
    ("te only, chunked, chunked", ChunksBy("Transfer-Encoding: chunked, chunked"), "", "400!"),
    ("te only, no value", ChunksBy("Transfer-Encoding: "), "", "400!"),
    // Lengths.
    ("cl twice, equal", Fields("Content-Length: N\r\nContent-Length: N"), "=", "400!"),
    ("cl twice, 0 first", Fields("Content-Length: 0\r\nContent-Length: N"), "", "400!"),
    ("cl twice, 0 last", Fields("Content-Length: N\r\nContent-Length: 0"), "", "400!"),
    ("cl, a list of equals", Fields("Content-Length: N, N"), "=", "400!"),
    ("cl, a list", Fields("Content-Length: 0, N"), "", "400!"),
    ("cl, a plus", Fields("Content-Length: +N"), "", "400!"),
    ("cl, a minus", Fields("Content-Length: -N"), "", "400!"),
    ("cl, minus zero", Fields("Content-Length: -0"), "", "400!"),
    ("cl, a space within", Fields("Content-Length: 0 N"), "", "400!"),
    ("cl, spaces around", Fields("Content-Length:  N  "), "=", "400"),
    ("cl, hexadecimal", Fields("Content-Length: 0xN"), "", "400!"),
    ("cl, an exponent", Fields("Content-Length: 0e1"), "", "400!"),
    ("cl, a fraction", Fields("Content-Length: N.0"), "", "400!"),
    ("cl, a semicolon", Fields("Content-Length: 0;N"), "", "400!"),
    ("cl, a vertical tab", Fields("Content-Length: \u{b}N"), "", "400!"),
    ("cl, NUL", Fields("Content-Length: N\0"), "", "400!"),
    ("cl, other digits", Fields("Content-Length: \u{664}"), "", "400!"),
    ("cl, empty", Fields("Content-Length:"), "", "400!"),
    ("cl, zeros before", Fields("Content-Length: 000N"), "=", "400"),
    ("cl, over 64 bits to zero", Fields("Content-Length: 18446744073709551616"), "", "413!"),
    ("cl, over 32 bits to zero", Fields("Content-Length: 4294967296"), "", "413!"),
    ("cl, space before the colon", Fields("Content-Length : N"), "", "400!"),
    ("cl, underscore", Fields("Content_Length: 0\r\nContent-Length: N"), "=", "400"),
    ("cl, folded", Fields("Content-Length:\r\n N"), "=", "400!"),
    ("cl, a folded 0 behind", Fields("Content-Length: N\r\n 0"), "", "400!"),
    // Chunks.
    ("chunk, hexadecimal prefix", Chunks("|0xN\r\nH\r\n0\r\n\r\n"), "", "400!"),
    ("chunk, a plus", Chunks("|+N\r\nH\r\n0\r\n\r\n"), "", "400!"),
    ("chunk, a minus", Chunks("|-N\r\nH\r\n0\r\n\r\n"), "", "400!"),
    ("chunk, a space before", Chunks("| N\r\nH\r\n0\r\n\r\n"), "", "400!"),
    ("chunk, a space behind", Chunks("|N \r\nH\r\n0\r\n\r\n"), "=", "400!"),
    ("chunk, zeros before", Chunks("|00000N\r\nH\r\n0\r\n\r\n"), "=", "400"),
    ("chunk, over 64 bits", Chunks("|1000000000000000N\r\nH\r\n0\r\n\r\n"), "", "413!"),
    ("chunk, over 32 bits to zero", Chunks("|100000000\r\n\r\nH"), "", "413!"),
    ("chunk, NUL", Chunks("|N\0\r\nH\r\n0\r\n\r\n"), "", "400!"),
    ("chunk, no size", Chunks("|\r\nH\r\n0\r\n\r\n"), "", "400!"),
    ("chunk, an extension", Chunks("|N;a=\"b;c\"\r\nH\r\n0;d\r\n\r\n"), "=", "400"),
    ("chunk, LF in an extension", Chunks("|2;\nxx\r\n0\r\n\r\nH"), "xx", "400!"),
    ("chunk, CR in an extension", Chunks("|2;\rxx\r\n0\r\n\r\nH"), "", "400!"),
    (
        "chunk, an extension of a line end in quotes",
        Chunks("|2;a=\"\r\n0\r\n\r\nH\"\r\nxx\r\n0\r\n\r\n"),
        "",
        "400!",
    ),
    ("chunk, LF behind the size", Chunks("|N\nH\r\n0\r\n\r\n"), "=", "400!"),
    ("chunk, CR behind the size", Chunks("|N\rH\r\n0\r\n\r\n"), "", "400!"),
    ("chunk, LF behind the last one", Chunks("|2\r\nxx\r\n0\n\nH"), "xx", "400!"),
    ("chunk, CR CR LF", Chunks("|2\r\r\nxx\r\n0\r\n\r\nH"), "", "400!"),
    ("chunk, no line end behind the data", Chunks("|2\r\nxx0\r\n\r\nH"), "", "400!"),
    ("chunk, two other bytes behind the data", Chunks("|2\r\nxxYY0\r\n\r\nH"), "", "400!"),
    ("chunk, longer than it says", Chunks("|2\r\nxxH\r\n0\r\n\r\n"), "", "400!"),
    (
        "chunk, a size line without an end",
        Chunks(
            "|2;aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\nxx\r\n0\r\n\r\n",
        ),
        "xx",
        "400!",
    ),
    ("chunk, the hidden one as a trailer", Chunks("|0\r\nH"), "", "400!"),
    (
        "trailers that frame",
        Chunks("|N\r\nH\r\n0\r\nContent-Length: 1\r\nTransfer-Encoding: x\r\n\r\n"),
        "=",
        "400",
    ),
    ("a trailer that ends in LF", Chunks("|0\r\nX: y\n\nH"), "-", "400!"),
    ("a folded trailer", Chunks("|0\r\n X: y\r\n\r\nH"), "-", "400!"),
    // Fields around it.
    ("a body in a body", Fields("Content-Length: N"), "=", "400"),
    (
        "Connection: content-length",
        Fields("Connection: close, Content-Length\r\nContent-Length: N"),
        "=",
        "400!",
    ),
    (
        "Connection: content-length, kept",
        Fields("Connection: Content-Length\r\nContent-Length: N"),
        "=",
        "400",
    ),
    (
        "Connection: transfer-encoding",
        Chunks("Connection: Transfer-Encoding|N\r\nH\r\n0\r\n\r\n"),
        "=",
        "400",
    ),
    ("Connection: host", Fields("Connection: Host\r\nContent-Length: N"), "=", "400"),
    ("Expect", Fields("Expect: 100-continue\r\nContent-Length: N"), "=", "400"),
    ("Expect: something else", Fields("Expect: 100-continuee\r\nContent-Length: N"), "=", "400"),
    (
        "Upgrade: h2c",
        Fields(
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nContent-Length: N",
        ),
        "=",
        "400",
    ),
    (
        "Upgrade: websocket",
        Fields("Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: N"),
        "=",
        "400",
    ),
    ("obs-text in a value", Fields("X: \u{e9}\r\nContent-Length: N"), "=", "400"),
    ("NUL in a value", Fields("X: \0\r\nContent-Length: N"), "", "400!"),
    ("NUL in a name", Fields("X\0: y\r\nContent-Length: N"), "", "400!"),
    ("no name", Fields(": y\r\nContent-Length: N"), "", "400!"),
    ("no colon", Fields("X\r\nContent-Length: N"), "", "400!"),
    ("a bare CR in a value", Fields("X: \r\rContent-Length: 0\r\nContent-Length: N"), "", "400!"),
    ("a bare LF within", Fields("X: y\nContent-Length: N"), "=", "400!"),
    ("CR CR LF", Fields("X: y\r\r\nContent-Length: N"), "", "400!"),
    ("LF CR", Fields("X: y\n\rContent-Length: N"), "", "400!"),
    ("an empty line of a space", Fields("X: y\r\n \r\nContent-Length: N"), "=", "400!"),
    ("two hosts", Fields("Host: b\r\nContent-Length: N"), "=", "400!"),
    ("a method to override", Fields("X-HTTP-Method-Override: DELETE\r\nContent-Length: N"), "=", "400"),
];

/// Every payload, with this label in it.
pub(crate) fn payloads(label: &str) -> Vec<Payload> {
    let (outer, hidden) = (format!("/pessoas?x=outer-{label}"), hidden(label));
    let head = format!("POST {outer} HTTP/1.1\r\nHost: a\r\n");
    let mut all: Vec<Payload> = FORMS
        .iter()
        .map(|(name, form, body, direct)| {
            let last = format!("0\r\n\r\n{hidden}");
            let text = match form {
                LengthAnd(field) => {
                    format!("{head}Content-Length: {}\r\n{field}\r\n\r\n{last}", last.len())
                }
                ChunksBy(field) => format!("{head}{field}\r\n\r\n{last}"),
                Fields(fields) => {
                    let fields = fields.replace(" N", &format!(" {}", hidden.len()));
                    let fields =
                        ["+N", "-N", "xN", "0N", ";N", "\u{b}N"].iter().fold(fields, |fields, before| {
                            fields.replace(before, &before.replace('N', &hidden.len().to_string()))
                        });
                    format!("{head}{fields}\r\n\r\n{hidden}")
                }
                Chunks(form) => {
                    let (fields, chunks) = form.split_once('|').expect("fields and chunks");
                    let fields = if fields.is_empty() { String::new() } else { format!("{fields}\r\n") };
                    let chunks = chunks.replace('N', &format!("{:x}", hidden.len())).replace('H', &hidden);
                    format!("{head}{fields}Transfer-Encoding: chunked\r\n\r\n{chunks}")
                }
            };
            let body = match *body {
                "" => None,
                "-" => Some(Vec::new()),
                "=" if matches!(form, LengthAnd(_)) => Some(last.into_bytes()),
                "=" => Some(hidden.clone().into_bytes()),
                body => Some(body.as_bytes().to_vec()),
            };
            let outer = body.map(|body| ("POST", outer.clone(), body));
            Payload { name, bytes: latin(text), outer, direct }
        })
        .collect();
    all.extend(others(label, &outer, &hidden));
    all
}

/// Those that are about the request line, or about what is around a request.
fn others(label: &str, outer: &str, hidden: &str) -> Vec<Payload> {
    let length = hidden.len();
    let nothing = || Some(("GET", outer.to_owned(), Vec::new()));
    let all = || Some(("POST", outer.to_owned(), hidden.as_bytes().to_vec()));
    let get = format!("GET {outer} HTTP/1.1\r\nHost: a\r\n");
    let post = |target: &str, version: &str| {
        format!("POST {target} {version}\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{hidden}")
    };
    let absolute = format!("http://a{outer}");
    let other = format!("http://b{outer}");
    let userinfo = format!("http://u@a{outer}");
    let of = |target: &str| Some(("POST", target.to_owned(), hidden.as_bytes().to_vec()));
    let long = "a".repeat(70_000);
    let stuffed = hidden.repeat(70_000 / length + 1);
    let huge = hidden.repeat(400_000 / length + 1);
    let chunked_stuffed: String = format!("{length:x}\r\n{hidden}\r\n").repeat(70_000 / length + 1);
    let chunked = "Transfer-Encoding: chunked\r\n\r\n";
    [
        ("absolute-form", post(&absolute, "HTTP/1.1"), of(&absolute), "400"),
        ("absolute-form of another host", post(&other, "HTTP/1.1"), of(&other), "400"),
        ("absolute-form with a user", post(&userinfo, "HTTP/1.1"), of(&userinfo), "400!"),
        ("a tab for a space", post(outer, "HTTP/1.1").replacen(' ', "\t", 1), all(), "400!"),
        ("two spaces", post(outer, "HTTP/1.1").replacen(' ', "  ", 1), all(), "400!"),
        ("a space behind the line", post(outer, "HTTP/1.1 "), None, "400!"),
        ("a second version", post(outer, "HTTP/1.1 HTTP/1.1"), None, "400!"),
        ("a space in the target", post(&format!("/a b{outer}"), "HTTP/1.1"), None, "400!"),
        ("a fragment", post(&format!("{outer}#b"), "HTTP/1.1"), None, "400!"),
        ("NUL in the target", post(&format!("{outer}\0"), "HTTP/1.1"), None, "400!"),
        ("a bare CR in the target", post(&format!("{outer}\r"), "HTTP/1.1"), None, "400!"),
        ("obs-text in the target", post(&format!("{outer}\u{e9}"), "HTTP/1.1"), None, "400!"),
        (
            "a method in small letters",
            post(outer, "HTTP/1.1").replacen("POST", "post", 1),
            Some(("post", outer.to_owned(), hidden.as_bytes().to_vec())),
            "501",
        ),
        ("a method that is no token", post(outer, "HTTP/1.1").replacen("POST", "PO{ST", 1), None, "400!"),
        ("a version in small letters", post(outer, "http/1.1"), None, "400!"),
        ("HTTP/1.2", post(outer, "HTTP/1.2"), all(), "505!"),
        ("HTTP/9.9", post(outer, "HTTP/9.9"), all(), "505!"),
        ("HTTP/1.01", post(outer, "HTTP/1.01"), None, "400!"),
        ("HTTP/0.9", format!("GET {outer}\r\n{hidden}"), None, "400!"),
        ("HTTP/0.9, with a version", post(outer, "HTTP/0.9"), None, "505!"),
        (
            "the preface of HTTP/2",
            format!("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n{hidden}"),
            Some(("PRI", "*".to_owned(), Vec::new())),
            "505!",
        ),
        ("TLS", format!("\u{16}\u{3}\u{1}{hidden}"), None, "400!"),
        ("the line of a proxy", format!("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n{hidden}"), None, "400!"),
        ("two empty lines before", format!("\r\n\r\n{get}{hidden}"), None, "400!"),
        ("a space before the line", format!(" {get}\r\n{hidden}"), None, "400!"),
        ("an LF before the line", format!("\n{get}\r\n{hidden}"), nothing(), "400!"),
        ("no host", format!("GET {outer} HTTP/1.1\r\nX: y\r\n\r\n{hidden}"), nothing(), "400!"),
        (
            "an empty host twice",
            format!("GET {outer} HTTP/1.1\r\nHost:\r\nHost:\r\n\r\n{hidden}"),
            nothing(),
            "400!",
        ),
        ("a host of two", format!("GET {outer} HTTP/1.1\r\nHost: a, b\r\n\r\n{hidden}"), nothing(), "400!"),
        (
            "a host with a path",
            format!("GET {outer} HTTP/1.1\r\nHost: a/b\r\n\r\n{hidden}"),
            nothing(),
            "400!",
        ),
        ("bare LFs only", format!("{get}\r\n").replace("\r\n", "\n") + hidden, nothing(), "400!"),
        ("bare CRs only", format!("{get}\r\n").replace("\r\n", "\r") + hidden, None, "400!"),
        (
            "GET with a body",
            format!("{get}Content-Length: {length}\r\n\r\n{hidden}"),
            Some(("GET", outer.to_owned(), hidden.as_bytes().to_vec())),
            "400",
        ),
        (
            "GET with chunks",
            format!("{get}{chunked}{length:x}\r\n{hidden}\r\n0\r\n\r\n"),
            Some(("GET", outer.to_owned(), hidden.as_bytes().to_vec())),
            "400",
        ),
        (
            "DELETE with a body",
            post(outer, "HTTP/1.1").replacen("POST", "DELETE", 1),
            Some(("DELETE", outer.to_owned(), hidden.as_bytes().to_vec())),
            "405",
        ),
        (
            "TRACE with a body",
            post(outer, "HTTP/1.1").replacen("POST", "TRACE", 1),
            Some(("TRACE", outer.to_owned(), hidden.as_bytes().to_vec())),
            "405",
        ),
        (
            "CONNECT",
            format!("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n{hidden}"),
            Some(("CONNECT", "a:80".to_owned(), Vec::new())),
            "405!",
        ),
        ("CONNECT with a path", format!("CONNECT {outer} HTTP/1.1\r\nHost: a\r\n\r\n{hidden}"), None, "400!"),
        (
            "HTTP/1.0, chunked",
            format!("POST {outer} HTTP/1.0\r\n{chunked}0\r\n\r\n{hidden}"),
            Some(("POST", outer.to_owned(), Vec::new())),
            "400!",
        ),
        (
            "HTTP/1.0, chunked, with a length",
            format!("POST {outer} HTTP/1.0\r\nContent-Length: {}\r\n{chunked}0\r\n\r\n{hidden}", length + 5),
            Some(("POST", outer.to_owned(), Vec::new())),
            "400!",
        ),
        (
            "HTTP/1.0, and another one behind",
            format!("GET {outer} HTTP/1.0\r\n\r\n{hidden}"),
            nothing(),
            "400!",
        ),
        (
            "close, and another one behind",
            format!("{get}Connection: close\r\n\r\n{hidden}"),
            nothing(),
            "400!",
        ),
        ("garbage behind", format!("{get}\r\n\0\0\0{hidden}"), nothing(), "400 400!"),
        ("a space behind", format!("{get}\r\n {hidden}"), nothing(), "400 400!"),
        ("a line end and a space behind", format!("{get}\r\n\r\n {hidden}"), nothing(), "400 400!"),
        (
            "more body than it says",
            format!("{get}Content-Length: 2\r\n\r\n{{}}}}{hidden}"),
            Some(("GET", outer.to_owned(), b"{}".to_vec())),
            "400 400!",
        ),
        ("a line of 70 kB", format!("GET {outer}&{long} HTTP/1.1\r\nHost: a\r\n\r\n{hidden}"), None, "414!"),
        ("a field of 70 kB", format!("{get}X: {long}\r\n\r\n{hidden}"), None, "431!"),
        ("200 fields", format!("{get}{}\r\n{hidden}", "X: y\r\n".repeat(200)), None, "431!"),
        (
            "a body over the limit, full of requests",
            format!("{get}Content-Length: {}\r\n\r\n{stuffed}", stuffed.len()).replacen("GET", "POST", 1),
            Some(("POST", outer.to_owned(), stuffed.clone().into_bytes())),
            "413!",
        ),
        (
            "a body far over the limit",
            format!("{get}Content-Length: {}\r\n\r\n{huge}", huge.len()).replacen("GET", "POST", 1),
            Some(("POST", outer.to_owned(), huge.clone().into_bytes())),
            "413!",
        ),
        (
            "chunks over the limit, full of requests",
            format!("{get}{chunked}{chunked_stuffed}0\r\n\r\n").replacen("GET", "POST", 1),
            Some(("POST", outer.to_owned(), stuffed.into_bytes())),
            "413!",
        ),
        (
            "a line end in the query",
            format!("GET {outer}%0d%0a%0d%0aPOST%20/pessoas?x=hidden-{label} HTTP/1.1\r\nHost: a\r\n\r\n"),
            Some(("GET", format!("{outer}%0d%0a%0d%0aPOST%20/pessoas?x=hidden-{label}"), Vec::new())),
            "400",
        ),
        (
            "a line end in the path",
            format!("GET /%0d%0aX:%20y{outer} HTTP/1.1\r\nHost: a\r\n\r\n"),
            Some(("GET", format!("/%0d%0aX:%20y{outer}"), Vec::new())),
            "404",
        ),
    ]
    .into_iter()
    .map(|(name, text, outer, direct)| Payload { name, bytes: latin(text), outer, direct })
    .collect()
}

/// Each character as one byte, so that text can hold any.
fn latin(text: String) -> Vec<u8> {
    if text.is_ascii() {
        return text.into_bytes();
    }
    let byte = |letter: char| match u8::try_from(u32::from(letter)) {
        Ok(byte) => vec![byte],
        Err(_) => letter.to_string().into_bytes(),
    };
    text.chars().flat_map(byte).collect()
}
