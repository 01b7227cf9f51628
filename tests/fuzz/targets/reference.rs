//! A connection's bytes, read the plain way: all at once, line by line, heads by httparse. It shares no code with the
//! server but the limits.

use rinha::http::Framing;
use rinha::limits::{BODY_MAX, CHUNK_LINE_MAX, CHUNK_OVERHEAD_MAX, HEADER_FIELDS_MAX, HEADER_SECTION_MAX};

use crate::httparse::{self, Reading};

/// A request as a service is to be given it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Exchange {
    pub(crate) head: bool,
    pub(crate) target: Vec<u8>,
    pub(crate) body: Vec<u8>,
}

/// What follows the last whole request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// A request that must be refused.
    Refused,
    /// Nothing, or the start of a request; a fault in it may be seen already, or only with its next bytes.
    Open,
    /// Nothing that counts: the client asked for the end, or sent CONNECT.
    Closed,
}

/// What must be made of the head at the start of some bytes.
enum Expected {
    Request(Reading),
    Refused,
    /// Either is right: to see the fault now, or with the bytes to come.
    Open,
}

fn expected(input: &[u8]) -> Expected {
    match httparse::read(input) {
        Ok(Some(reading)) => {
            let right = httparse::differences_of_bytes(&input[..reading.length], true).is_empty();
            if right && reading.differences().is_empty() {
                Expected::Request(reading)
            } else {
                Expected::Refused
            }
        }
        Ok(None) | Err(_) => Expected::Open,
    }
}

/// The requests of a connection, in order, and how many of the clients' heads wait for `100 Continue`.
pub(crate) fn read(stream: &[u8]) -> (Vec<Exchange>, End, usize) {
    let (mut exchanges, mut at, mut waits) = (Vec::new(), 0, 0);
    loop {
        let rest = &stream[at..];
        let reading = match expected(rest) {
            Expected::Open => return (exchanges, End::Open, waits),
            Expected::Refused => return (exchanges, End::Refused, waits),
            Expected::Request(reading) => reading,
        };
        waits += usize::from(reading.expect_continue());
        let (head, behind) = rest.split_at(reading.length);
        let (body, length) = match reading.framing() {
            Framing::Length(length) if length > BODY_MAX => return (exchanges, End::Refused, waits),
            Framing::Length(length) if length > behind.len() => return (exchanges, End::Open, waits),
            Framing::Length(length) => (behind[..length].to_vec(), length),
            Framing::Chunked => match chunked(behind) {
                Some(decoded) => decoded,
                None => return (exchanges, End::Open, waits),
            },
        };
        at += head.len() + length;
        let closes = !reading.keep_alive() || reading.method == "CONNECT";
        exchanges.push(Exchange {
            head: reading.method == "HEAD",
            target: reading.target.clone().into_bytes(),
            body,
        });
        if closes {
            return (exchanges, End::Closed, waits);
        }
    }
}

fn is_token(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte)
}

fn is_value(byte: &u8) -> bool {
    *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f)
}

/// Takes what `is` holds for off the front of `line`; how many bytes that were.
fn take(line: &mut &[u8], is: impl Fn(&u8) -> bool) -> usize {
    let taken = line.iter().take_while(|byte| is(byte)).count();
    *line = &line[taken..];
    taken
}

fn is_blank(byte: &u8) -> bool {
    b" \t".contains(byte)
}

/// The line at the start of `input`, without its CRLF.
fn line(input: &[u8]) -> Option<&[u8]> {
    let end = input.iter().position(|byte| b"\r\n".contains(byte))?;
    input[end..].starts_with(b"\r\n").then(|| &input[..end])
}

/// A whole chunked body and how many bytes it took (RFC 9112 section 7.1); `None` where it is wrong, too long or not whole.
pub(crate) fn chunked(input: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (mut body, mut at, mut overhead) = (Vec::new(), 0, 0);
    loop {
        let size_line = line(&input[at..])?;
        at += size_line.len() + 2;
        overhead += size_line.len() + 2;
        if size_line.len() + 2 > CHUNK_LINE_MAX || overhead > CHUNK_OVERHEAD_MAX {
            return None;
        }
        let size = chunk_size(size_line)?;
        if size == 0 {
            return trailers(&input[at..]).map(|length| (body, at + length));
        }
        let end = usize::try_from(size).ok().filter(|&size| size <= BODY_MAX - body.len())? + at;
        body.extend_from_slice(input.get(at..end)?);
        at = end + 2;
        overhead += 2;
        if input.get(end..at)? != b"\r\n" || overhead > CHUNK_OVERHEAD_MAX {
            return None;
        }
    }
}

fn chunk_size(mut line: &[u8]) -> Option<u128> {
    let digits = line;
    let count = take(&mut line, u8::is_ascii_hexdigit);
    let digits = std::str::from_utf8(&digits[..count]).ok()?.trim_start_matches('0');
    let size = match digits.len() {
        0 => 0,
        1..=32 => u128::from_str_radix(digits, 16).ok()?,
        _ => u128::MAX,
    };
    while !line.is_empty() {
        take(&mut line, is_blank);
        line = line.strip_prefix(b";")?;
        take(&mut line, is_blank);
        if take(&mut line, is_token) == 0 {
            return None;
        }
        let mut value = line;
        take(&mut value, is_blank);
        let Some(mut value) = value.strip_prefix(b"=") else { continue };
        take(&mut value, is_blank);
        line = match value.strip_prefix(b"\"") {
            Some(quoted) => behind_quoted(quoted)?,
            None if take(&mut value, is_token) == 0 => return None,
            None => value,
        };
    }
    (count > 0).then_some(size)
}

fn behind_quoted(quoted: &[u8]) -> Option<&[u8]> {
    let mut at = 0;
    loop {
        match quoted.get(at)? {
            b'"' => return Some(&quoted[at + 1..]),
            b'\\' => {
                quoted.get(at + 1).filter(|byte| is_value(byte))?;
                at += 2;
            }
            byte if is_value(byte) => at += 1,
            _ => return None,
        }
    }
}

/// How long the trailer section is, its last line included.
fn trailers(input: &[u8]) -> Option<usize> {
    let mut at = 0;
    for _ in 0..=HEADER_FIELDS_MAX {
        let mut field = line(&input[at..])?;
        at += field.len() + 2;
        if at > HEADER_SECTION_MAX {
            return None;
        }
        if field.is_empty() {
            return Some(at);
        }
        if take(&mut field, is_token) == 0 || !field.strip_prefix(b":")?.iter().all(is_value) {
            return None;
        }
    }
    None
}
