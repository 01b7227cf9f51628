//! Unit tests of the head parser. They know its public face and nothing of its state.

use super::{
    Framing, Head, HeadParser, Method, Progress, Reject,
    cases::{cases, outcome},
};
use crate::limits::BODY_MAX;

/// Parses the part of `bytes` before each of `cuts` in turn, as a connection does that has read so much.
fn parse_cut(bytes: &[u8], cuts: impl Iterator<Item = usize>) -> Result<Progress<Head>, Reject> {
    let mut parser = HeadParser::default();
    let mut last = Ok(Progress::Partial);
    for cut in cuts {
        last = parser.parse(&bytes[..cut]);
        if last != Ok(Progress::Partial) {
            return last;
        }
    }
    last
}

/// Between two places where an input is cut. Miri is a thousand times slower.
const STEP: usize = if cfg!(miri) { 13 } else { 1 };

fn check(input: &[u8], expected: &str) {
    let whole = parse_cut(input, [input.len()].into_iter());
    let shown = String::from_utf8_lossy(&input[..input.len().min(200)]);
    assert_eq!(outcome(&whole, input), expected, "{shown:?}");
    if let Ok(Progress::Complete(head)) = &whole {
        assert_eq!(head.length, input.len(), "{shown:?}");
    }
    let bytewise = parse_cut(input, 0..=input.len());
    assert_eq!(bytewise, whole, "{shown:?} byte by byte");
    // A long input is cut only where a cut could matter: near both of its ends.
    let short = input.len() < 1000;
    for cut in (0..input.len()).step_by(STEP).filter(|&at| short || at < 40 || at + 40 > input.len()) {
        let split = parse_cut(input, [cut, input.len()].into_iter());
        assert_eq!(split, whole, "{shown:?} cut at {cut}");
    }
}

#[test]
fn every_case_whole_and_cut() {
    let all = cases().into_iter();
    for (input, expected) in all.filter(|(input, _)| !cfg!(miri) || input.len() < 1000) {
        check(&input, &expected);
    }
}

#[test]
fn what_follows_the_head_is_left_alone() {
    let input = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n\r\n\0GET / HTTP/1.1\r\n";
    let Ok(Progress::Complete(head)) = HeadParser::default().parse(input) else {
        panic!("the head is complete");
    };
    assert_eq!(head.length, input.len() - b"\r\n\0GET / HTTP/1.1\r\n".len());
    assert_eq!(head.method, Method::Post);
    assert_eq!(head.framing, Framing::Length(3));
}

#[test]
fn one_parser_serves_one_request_after_another() {
    let mut parser = HeadParser::default();
    let good = b"POST /p HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
    let next = b"GET /q HTTP/1.1\r\nHost: b\r\nContent-Length: 1\r\n\r\n";
    let wrong = b"GET /q HTTP/1.1\r\nHost: b\r\nHost: b\r\n\r\n";
    for _ in 0..2 {
        let first = parser.parse(good);
        assert_eq!(outcome(&first, good), "Post Http11 /p chunked close");
        assert_eq!(parser.parse(&next[..30]), Ok(Progress::Partial));
        let second = parser.parse(next);
        assert_eq!(outcome(&second, next), "Get Http11 /q length=1 keep-alive");
        assert_eq!(parser.parse(wrong), Err(Reject::HostRepeated));
        assert_eq!(parser.parse(&good[..50]), Ok(Progress::Partial));
        parser.reset();
    }
}

#[test]
fn a_wrong_line_is_refused_before_the_head_is_complete() {
    for (input, expected) in [
        ("\u{16}", Reject::RequestLine),
        ("GET /\r\n", Reject::RequestLine),
        ("PRI * HTTP/2.0\r\n", Reject::Version),
        ("GET / HTTP/1.1\r\nHost: a b\r\n", Reject::Host),
        ("GET / HTTP/1.1\r\nX : b\r\n", Reject::FieldName),
    ] {
        let mut parser = HeadParser::default();
        assert_eq!(parser.parse(input.as_bytes()), Err(expected), "{input:?}");
    }
}

#[test]
fn announced_lengths_are_held_against_the_limit() {
    for (framing, expected) in [
        (Framing::Length(0), Ok(())),
        (Framing::Length(BODY_MAX), Ok(())),
        (Framing::Length(BODY_MAX + 1), Err(Reject::BodyTooLong)),
        (Framing::Length(usize::MAX), Err(Reject::BodyTooLong)),
        (Framing::Chunked, Ok(())),
    ] {
        assert_eq!(framing.check_length(), expected);
    }
}
