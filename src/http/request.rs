//! The incremental parser of request heads: request line and header section (RFC 9112 sections 2 to 6).
//! It knows no route and no body: it says how the body is framed, never what it means.
//!
//! Where the RFCs leave a choice, the one that no intermediary can read differently is taken:
//! - a line ends in CRLF only; a bare LF or CR is refused (RFC 9112 section 2.2 would allow the LF);
//! - one empty line before the request line is skipped (section 2.2 asks for "at least one"), a second is refused;
//! - the parts of a request line are separated by exactly one space (section 3 would allow runs of whitespace);
//! - `HTTP/1.2` and its like get 505, though RFC 9110 section 2.5 would have them read as 1.1: nobody sends them;
//! - a repeated `Content-Length` is refused even when both are equal (RFC 9110 section 8.6 allows either);
//! - an `Expect` other than `100-continue` is ignored (RFC 9110 section 10.1.1: MAY answer 417), and so is any in
//!   HTTP/1.0.

use std::ops::Range;

use memchr::memchr;

use super::{octets, reject::Reject, target};
use crate::limits::{BODY_MAX, HEADER_FIELDS_MAX, HEADER_SECTION_MAX, REQUEST_LINE_MAX};

/// What a parser made of the bytes so far, when they are not wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress<T> {
    /// All of it is there.
    Complete(T),
    /// Nothing is wrong so far, and the end is not there yet.
    Partial,
}

/// A request method (RFC 9110 section 9, RFC 5789, RFC 10008); case-sensitive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Connect,
    Options,
    Trace,
    Patch,
    Query,
    /// Some other token (`501`).
    Unknown,
}

/// A version of HTTP that is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Version {
    Http10,
    Http11,
}

/// How the body is delimited (RFC 9112 section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// That many bytes follow; 0 when there is no body. A number too large for `usize` is `usize::MAX`.
    Length(usize),
    /// Chunks follow: see [`ChunkedDecoder`](super::ChunkedDecoder).
    Chunked,
}

impl Framing {
    /// Refuses a body that is announced to be over the limit, before any of it is read.
    ///
    /// # Errors
    ///
    /// [`Reject::BodyTooLong`] for a length over `BODY_MAX`. Chunks announce nothing: their decoder counts.
    pub const fn check_length(self) -> Result<(), Reject> {
        match self {
            Self::Length(length) if length > BODY_MAX => Err(Reject::BodyTooLong),
            _ => Ok(()),
        }
    }
}

/// A whole request head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The method.
    pub method: Method,
    /// The version.
    pub version: Version,
    /// Where the request target stands in the request's bytes; see [`path_and_query`](super::path_and_query).
    pub target: Range<usize>,
    /// How the body is delimited.
    pub framing: Framing,
    /// Whether the client wants the connection to stay open (RFC 9112 section 9.3): the version's default, or what
    /// `Connection` says; `close` wins. Never after CONNECT: the client takes what follows for a tunnel.
    pub keep_alive: bool,
    /// Whether the client waits for `100 Continue` before it sends a body (RFC 9110 section 10.1.1). False without a
    /// body.
    pub expect_continue: bool,
    /// Bytes of the whole head, a skipped empty line and the final one included: where the body starts.
    pub length: usize,
}

/// Parses one request head from bytes that grow from call to call.
///
/// It remembers how far it came, so that a head costs linear time however it is cut. It never allocates.
#[derive(Debug, Default)]
pub struct HeadParser {
    /// Where the first line that is not yet parsed starts.
    line_start: usize,
    /// Everything before this was searched for the end of the line at `line_start`.
    searched: usize,
    request_line: Option<RequestLine>,
    section_start: usize,
    field_count: usize,
    fields: Fields,
}

#[derive(Debug, Clone)]
struct RequestLine {
    method: Method,
    version: Version,
    target: Range<usize>,
}

/// What the header fields said about host, framing and connection.
#[derive(Debug, Default)]
struct Fields {
    host: bool,
    length: Option<usize>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    expect_continue: bool,
}

impl HeadParser {
    /// Continues to parse. `bytes` starts at the request's first byte: until the head is complete, each call is given
    /// the bytes of the last call and those that came since. After `Complete` and after an error the parser is ready
    /// for another request.
    ///
    /// A wrong line is reported when it is complete, and a line or section that is too long as soon as it passes its
    /// limit.
    ///
    /// # Errors
    ///
    /// Every [`Reject`] but those of bodies.
    pub fn parse(&mut self, bytes: &[u8]) -> Result<Progress<Head>, Reject> {
        let outcome = self.parse_on(bytes);
        if !matches!(outcome, Ok(Progress::Partial)) {
            self.reset();
        }
        outcome
    }

    /// Forgets a head that was begun.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    fn parse_on(&mut self, bytes: &[u8]) -> Result<Progress<Head>, Reject> {
        debug_assert!(bytes.len() >= self.searched, "the bytes only grow");
        if self.request_line.is_none() {
            self.request_line = self.parse_request_line(bytes)?;
            self.section_start = self.line_start;
        }
        match self.request_line.clone() {
            Some(request_line) => self.parse_section(bytes, request_line),
            None => Ok(Progress::Partial),
        }
    }

    fn parse_request_line(&mut self, bytes: &[u8]) -> Result<Option<RequestLine>, Reject> {
        if self.line_start == 0 {
            match bytes {
                [b'\r', b'\n', ..] => self.line_start = 2,
                [b'\r'] => return Ok(None),
                [b'\r', ..] => return Err(Reject::LineEnd),
                _ => {}
            }
        }
        // A byte that cannot start a method (TLS starts with 0x16) is refused before the line is complete.
        match bytes.get(self.line_start) {
            None => return Ok(None),
            Some(&first) if !octets::is_token(first) => return Err(Reject::RequestLine),
            Some(_) => {}
        }
        let start = self.line_start;
        let end = self.find_line_feed(bytes);
        let line = &bytes[start..end.unwrap_or(bytes.len())];
        let stripped = line.strip_suffix(b"\r");
        if stripped.unwrap_or(line).len() > REQUEST_LINE_MAX {
            return Err(Reject::RequestLineTooLong);
        }
        let Some(end) = end else { return Ok(None) };
        let line = stripped.ok_or(Reject::LineEnd)?;
        self.line_start = end + 1;
        parse_request_line(line, start).map(Some)
    }

    fn parse_section(&mut self, bytes: &[u8], request_line: RequestLine) -> Result<Progress<Head>, Reject> {
        while let Some(end) = self.find_line_feed(bytes) {
            if end + 1 - self.section_start > HEADER_SECTION_MAX {
                return Err(Reject::SectionTooLong);
            }
            let line = bytes[self.line_start..end].strip_suffix(b"\r").ok_or(Reject::LineEnd)?;
            self.line_start = end + 1;
            if line.is_empty() {
                return self.fields.finish(request_line, end + 1).map(Progress::Complete);
            }
            self.field_count += 1;
            if self.field_count > HEADER_FIELDS_MAX {
                return Err(Reject::TooManyFields);
            }
            let (name, value) = split_field(line)?;
            self.fields.note(name, value, request_line.version)?;
        }
        // The section does not end in these bytes, so it will be longer than they are.
        if bytes.len() - self.section_start >= HEADER_SECTION_MAX {
            return Err(Reject::SectionTooLong);
        }
        Ok(Progress::Partial)
    }

    /// Where the LF of the current line is.
    fn find_line_feed(&mut self, bytes: &[u8]) -> Option<usize> {
        let from = self.line_start.max(self.searched);
        let found = memchr(b'\n', bytes.get(from..)?).map(|at| from + at);
        if found.is_none() {
            self.searched = bytes.len();
        }
        found
    }
}

/// Parses a request line that starts at `start` of the request's bytes (RFC 9112 section 3).
fn parse_request_line(line: &[u8], start: usize) -> Result<RequestLine, Reject> {
    let (method, rest) = line.split_at(octets::token_len(line));
    let rest = rest.strip_prefix(b" ").ok_or(Reject::RequestLine)?;
    let (target, rest) = rest.split_at(octets::target_len(rest));
    let version = match rest.strip_prefix(b" ") {
        Some(version) => parse_version(version)?,
        // A line that ends here is HTTP/0.9. Otherwise the byte that ended the target may not stand in one.
        None if rest.is_empty() => return Err(Reject::RequestLine),
        None => return Err(Reject::Target),
    };
    let target_start = start + method.len() + 1;
    let range = target_start..target_start + target.len();
    let method = parse_method(method);
    if !is_target_of(method, target) {
        return Err(Reject::Target);
    }
    Ok(RequestLine { method, version, target: range })
}

fn parse_method(token: &[u8]) -> Method {
    match token {
        b"GET" => Method::Get,
        b"POST" => Method::Post,
        b"HEAD" => Method::Head,
        b"PUT" => Method::Put,
        b"DELETE" => Method::Delete,
        b"CONNECT" => Method::Connect,
        b"OPTIONS" => Method::Options,
        b"TRACE" => Method::Trace,
        b"PATCH" => Method::Patch,
        b"QUERY" => Method::Query,
        _ => Method::Unknown,
    }
}

fn parse_version(version: &[u8]) -> Result<Version, Reject> {
    match version {
        b"HTTP/1.1" => Ok(Version::Http11),
        b"HTTP/1.0" => Ok(Version::Http10),
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => Err(Reject::Version),
        _ => Err(Reject::RequestLine),
    }
}

/// Whether `target` has a form that `method` may use (RFC 9112 section 3.2).
fn is_target_of(method: Method, target: &[u8]) -> bool {
    if method == Method::Connect {
        return matches!(
            target::host_and_port(target),
            Some((host, Some(port))) if !host.is_empty() && !port.is_empty()
        );
    }
    match target {
        [b'/', ..] => true,
        b"*" => method == Method::Options,
        _ => target::absolute_form(target)
            .and_then(|(authority, _)| target::host_and_port(authority))
            .is_some_and(|(host, _)| !host.is_empty()),
    }
}

/// Splits a header line into name and trimmed value, and checks both (RFC 9112 section 5).
fn split_field(line: &[u8]) -> Result<(&[u8], &[u8]), Reject> {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Err(Reject::FoldedLine);
    }
    let (name, rest) = line.split_at(octets::token_len(line));
    let value = rest.strip_prefix(b":").ok_or(Reject::FieldName)?;
    if name.is_empty() {
        return Err(Reject::FieldName);
    }
    if !octets::is_all_field_value(value) {
        return Err(Reject::FieldValue);
    }
    Ok((name, octets::trim(value)))
}

impl Fields {
    fn note(&mut self, name: &[u8], value: &[u8], version: Version) -> Result<(), Reject> {
        // The length is compared first: it tells these five fields apart from nearly every other one.
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => self.note_host(value),
            6 if name.eq_ignore_ascii_case(b"expect") => {
                self.expect_continue |=
                    members(value).any(|member| member.eq_ignore_ascii_case(b"100-continue"));
                Ok(())
            }
            10 if name.eq_ignore_ascii_case(b"connection") => {
                for option in members(value) {
                    self.close |= option.eq_ignore_ascii_case(b"close");
                    self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                }
                Ok(())
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => self.note_length(value),
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => self.note_coding(value, version),
            _ => Ok(()),
        }
    }

    /// An empty `Host` is right: a client sends it when its target has no authority (RFC 9112 section 3.2).
    fn note_host(&mut self, value: &[u8]) -> Result<(), Reject> {
        if self.host {
            return Err(Reject::HostRepeated);
        }
        self.host = true;
        target::host_and_port(value).map(drop).ok_or(Reject::Host)
    }

    fn note_length(&mut self, value: &[u8]) -> Result<(), Reject> {
        if self.chunked {
            return Err(Reject::LengthAndCoding);
        }
        if self.length.is_some() || value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
            return Err(Reject::ContentLength);
        }
        // A number too large to hold is still a number: it saturates, and the body is too long, not malformed.
        self.length = Some(value.iter().fold(0, |number: usize, digit| {
            number.saturating_mul(10).saturating_add(usize::from(digit - b'0'))
        }));
        Ok(())
    }

    fn note_coding(&mut self, value: &[u8], version: Version) -> Result<(), Reject> {
        if self.length.is_some() {
            return Err(Reject::LengthAndCoding);
        }
        if self.chunked || version == Version::Http10 || !value.eq_ignore_ascii_case(b"chunked") {
            return Err(Reject::TransferCoding);
        }
        self.chunked = true;
        Ok(())
    }

    fn finish(&self, request_line: RequestLine, length: usize) -> Result<Head, Reject> {
        let RequestLine { method, version, target } = request_line;
        let modern = version == Version::Http11;
        if modern && !self.host {
            return Err(Reject::HostMissing);
        }
        let framing = if self.chunked { Framing::Chunked } else { Framing::Length(self.length.unwrap_or(0)) };
        Ok(Head {
            method,
            version,
            target,
            framing,
            keep_alive: !self.close && (modern || self.keep_alive) && method != Method::Connect,
            expect_continue: modern && self.expect_continue && framing != Framing::Length(0),
            length,
        })
    }
}

/// The members of a comma-separated list (RFC 9110 section 5.6.1).
fn members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(octets::trim)
}

#[cfg(test)]
mod cases;
#[cfg(test)]
mod tests;
