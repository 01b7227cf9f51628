//! The head parser against the server decoder of monoio-http. This module shows by example where the decoder is lax.

use std::panic::{AssertUnwindSafe, catch_unwind};

use ::monoio_http::{
    common::body::Body as _,
    h1::{codec::decoder::RequestDecoder, payload::Payload},
};
use futures_util::FutureExt as _;
use monoio::io::stream::Stream as _;
use rinha::http::{ChunkedDecoder, Framing, Progress, Reject, Version};

use crate::{httparse::read, parse};

#[derive(Debug, PartialEq, Eq)]
enum Second {
    Accepted { method: String, uri: http::Uri, http11: bool, framing: &'static str, body: Vec<u8> },
    Refused,
    Panicked,
}

/// Lets monoio-http's server decoder read `input` from memory, its body included.
fn second_opinion(input: &[u8]) -> Second {
    let decode = || {
        let mut decoder = RequestDecoder::new(input);
        let Some(Some(Ok(request))) = decoder.next().now_or_never() else {
            return Second::Refused;
        };
        let (parts, payload) = request.into_parts();
        // The next request is asked for, because only that makes the decoder read the body of this one.
        if let Some(Some(Err(_))) = decoder.next().now_or_never() {
            return Second::Refused;
        }
        let framing = match &payload {
            Payload::None => "none",
            Payload::Fixed(_) => "length",
            Payload::Stream(_) => "chunked",
        };
        let (mut payload, mut body) = (payload, Vec::new());
        while let Some(Some(Ok(data))) = payload.next_data().now_or_never() {
            body.extend_from_slice(&data);
        }
        Second::Accepted {
            method: parts.method.to_string(),
            uri: parts.uri,
            http11: parts.version == http::Version::HTTP_11,
            framing,
            body,
        }
    };
    catch_unwind(AssertUnwindSafe(decode)).unwrap_or(Second::Panicked)
}

/// What the parser accepts, monoio-http reads the same way. The one difference: it makes an `http::Uri` of the target,
/// and that type refuses some visible bytes (such as a caret in a path) and authorities which the parser lets through
/// to the router, where no route matches them.
pub(super) fn compare(input: &[u8]) {
    let Ok(Progress::Complete(head)) = parse(input) else {
        return;
    };
    let (framing, body) = match head.framing {
        Framing::Length(0) => ("none", &b""[..]),
        Framing::Length(5) => ("length", &b"hello"[..]),
        Framing::Length(_) => return,
        Framing::Chunked => ("chunked", &b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"[..]),
    };
    let theirs = second_opinion(&[&input[..head.length], body].concat());
    let expected = match http::Uri::try_from(&input[head.target.clone()]) {
        Err(_) => Second::Refused,
        Ok(uri) => Second::Accepted {
            method: read(input).unwrap().unwrap().method,
            uri,
            http11: head.version == Version::Http11,
            framing,
            body: if framing == "none" { vec![] } else { b"hello".to_vec() },
        },
    };
    assert_eq!(theirs, expected, "{:?}", String::from_utf8_lossy(input));
}

/// What monoio-http's decoder lets through, or dies of, and the parser refuses: why it does not face the network.
#[test]
fn where_monoio_http_is_lax() {
    let long_name = format!("GET / HTTP/1.1\r\nHost: a\r\n{}: b\r\n\r\n", "x".repeat(65_536));
    let table: &[(&str, Reject, &str)] = &[
        // Smuggling: an intermediary that goes by the length sees another request behind the body.
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            Reject::LengthAndCoding,
            "chunked",
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\na",
            Reject::ContentLength,
            "length",
        ),
        // Only the first of several codings is looked at; `identity` was removed from HTTP in 2014.
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n",
            Reject::TransferCoding,
            "chunked",
        ),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n", Reject::TransferCoding, "none"),
        ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Reject::TransferCoding, "chunked"),
        // Host is not looked at.
        ("GET / HTTP/1.1\r\n\r\n", Reject::HostMissing, "none"),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", Reject::HostRepeated, "none"),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", Reject::Host, "none"),
        // Any line but the last may end in a bare LF.
        ("GET / HTTP/1.1\nHost: a\r\n\r\n", Reject::LineEnd, "none"),
        // The fragment is cut off in silence.
        ("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", Reject::Target, "none"),
        // A field name over 65,535 bytes is unwrapped into a panic; there is no limit on a section either.
        (&long_name, Reject::SectionTooLong, "panic"),
    ];
    for (input, reject, theirs) in table {
        let shown = &input[..input.len().min(200)];
        assert_eq!(parse(input.as_bytes()), Err(*reject), "{shown:?}");
        let second = match second_opinion(input.as_bytes()) {
            Second::Accepted { framing, .. } => framing,
            Second::Refused => "refused",
            Second::Panicked => "panic",
        };
        assert_eq!(second, *theirs, "{shown:?}");
    }
    // monoio-http takes a size line without a digit for the last chunk.
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let body = "1\r\nx\r\n\r\n\r\n";
    let second = second_opinion([head, body].concat().as_bytes());
    assert!(matches!(second, Second::Accepted { body, .. } if body == b"x"));
    let ours = ChunkedDecoder::default().decode(body.as_bytes(), &mut Vec::new());
    assert_eq!(ours, Err(Reject::Chunk));
}
