//! What a connection received and has not answered yet: bytes in, whole requests out. It knows how requests are framed,
//! and no socket.

use std::time::Instant;

use crate::http::{ChunkedDecoder, Framing, Head, HeadParser, Progress, Reject, Request};
use crate::limits::{BODY_MAX, READ_BUFFER_INITIAL, READ_BUFFER_MAX};

/// What comes next in the read buffer.
pub(super) enum Next {
    /// A whole request, which [`Incoming::request`] shows.
    Request(Head),
    /// More bytes are needed.
    Partial,
    /// More bytes are needed, and the client waits for `100 Continue` before it sends them.
    Continue,
}

/// A connection's read buffer.
pub(super) struct Incoming {
    bytes: Vec<u8>,
    /// Where the bytes that were not answered yet begin.
    start: usize,
    parser: HeadParser,
    /// The head whose body is not complete yet.
    head: Option<Head>,
    chunked: ChunkedDecoder,
    /// The decoded part of a chunked body.
    body: Vec<u8>,
    /// The client was told to send the body of this head.
    continued: bool,
    /// The current request is a HEAD: its answer has no body, even if the answer is an error.
    head_only: bool,
}

impl Incoming {
    pub(super) fn new() -> Incoming {
        Incoming {
            bytes: Vec::with_capacity(READ_BUFFER_INITIAL),
            start: 0,
            parser: HeadParser::default(),
            head: None,
            chunked: ChunkedDecoder::default(),
            body: Vec::new(),
            continued: false,
            head_only: false,
        }
    }

    /// Parses what was received, as far as it goes.
    pub(super) fn next(&mut self) -> Result<Next, Reject> {
        let head = match self.head.take() {
            Some(head) => head,
            None => {
                let received = &self.bytes[self.start..];
                // If the head is refused, its method still says whether the answer may have a body.
                // One empty line before it is allowed (RFC 9112 section 2.2).
                self.head_only = received.strip_prefix(b"\r\n").unwrap_or(received).starts_with(b"HEAD ");
                match self.parser.parse(received)? {
                    Progress::Partial => return Ok(Next::Partial),
                    Progress::Complete(head) => {
                        self.continued = false;
                        head
                    }
                }
            }
        };
        head.framing.check_length()?;
        let body_start = self.start + head.length;
        let complete = match head.framing {
            Framing::Length(length) => self.bytes.len() - body_start >= length,
            Framing::Chunked => {
                self.reserve_body();
                let (consumed, progress) = self.chunked.decode(&self.bytes[body_start..], &mut self.body)?;
                // Decoded bytes leave the read buffer, so framing cannot fill it.
                self.bytes.drain(body_start..body_start + consumed);
                matches!(progress, Progress::Complete(()))
            }
        };
        if complete {
            return Ok(Next::Request(head));
        }
        let invite = head.expect_continue && !self.continued && self.bytes.len() == body_start;
        self.continued |= invite;
        self.head = Some(head);
        Ok(if invite { Next::Continue } else { Next::Partial })
    }

    /// Makes room in the decoded body for what was received: it doubles, but to no more than a body may have.
    fn reserve_body(&mut self) {
        let received = self.bytes.len() - self.start;
        if self.body.capacity() - self.body.len() < received {
            let wanted = (self.body.capacity() * 2).clamp(received, BODY_MAX.max(received));
            self.body.reserve_exact((wanted.saturating_sub(self.body.len())).max(received));
        }
    }

    /// Whether a whole request, or one that will be refused, is in the buffer behind the first `length` bytes.
    pub(super) fn has_request_after(&self, length: usize) -> bool {
        let rest = &self.bytes[self.start + length..];
        let head = match HeadParser::default().parse(rest) {
            Ok(Progress::Complete(head)) => head,
            Ok(Progress::Partial) => return false,
            Err(_) => return true,
        };
        match head.framing {
            Framing::Length(body) => head.framing.check_length().is_err() || rest.len() - head.length >= body,
            Framing::Chunked => !matches!(
                ChunkedDecoder::default().decode(&rest[head.length..], &mut Vec::new()),
                Ok((_, Progress::Partial))
            ),
        }
    }

    /// The request of `head`, which [`next`](Self::next) gave and whose last byte was read at `received`, and how many bytes of
    /// the buffer it takes.
    pub(super) fn request(&self, head: &Head, received: Instant) -> (Request<'_>, usize) {
        let bytes = &self.bytes[self.start..];
        let (length, body) = match head.framing {
            Framing::Length(length) => (head.length + length, &bytes[head.length..head.length + length]),
            Framing::Chunked => (head.length, &self.body[..]),
        };
        (Request { method: head.method, target: &bytes[head.target.clone()], body, received }, length)
    }

    /// A request that took `length` bytes of the buffer was answered.
    pub(super) fn answered(&mut self, length: usize) {
        self.start += length;
        self.body = Vec::new();
    }

    /// How many bytes were received and not answered yet.
    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// Whether an error is answered with its head only.
    pub(super) fn head_only(&self) -> bool {
        self.head_only
    }

    /// Whether part of a request is there. A line end alone is none: some clients send a stray one after a body.
    pub(super) fn is_within_request(&self) -> bool {
        !matches!(&self.bytes[self.start..], b"" | b"\r" | b"\r\n")
    }

    /// Sees to it that the buffer has room for at least one more byte, and is no larger than it must be.
    pub(super) fn make_room(&mut self) {
        if self.len() == 0 {
            self.start = 0;
            if self.bytes.capacity() > READ_BUFFER_INITIAL {
                self.bytes = Vec::with_capacity(READ_BUFFER_INITIAL);
            } else {
                self.bytes.clear();
            }
        } else if self.start > 0
            && self.len() < READ_BUFFER_INITIAL
            && self.bytes.capacity() > READ_BUFFER_INITIAL
        {
            // Little is left of much: an idle connection with a stray line end must not keep the rest.
            let mut rest = Vec::with_capacity(READ_BUFFER_INITIAL);
            rest.extend_from_slice(&self.bytes[self.start..]);
            (self.bytes, self.start) = (rest, 0);
        } else if self.bytes.len() == self.bytes.capacity() {
            self.bytes.drain(..self.start);
            self.start = 0;
            if self.bytes.len() == self.bytes.capacity() {
                self.grow();
            }
        }
    }

    /// Doubles the buffer, which is full of one request, but to no more than that request needs, where its length is known.
    fn grow(&mut self) {
        let needed = match &self.head {
            Some(Head { length, framing: Framing::Length(body), .. }) => length + body,
            _ => READ_BUFFER_MAX,
        };
        let grown = (self.bytes.capacity() * 2).min(needed).min(READ_BUFFER_MAX);
        self.bytes.reserve_exact(grown.saturating_sub(self.bytes.len()));
    }

    /// Bytes that are allocated beyond the smallest buffer.
    pub(super) fn bytes_held(&self) -> usize {
        self.bytes.capacity().saturating_sub(READ_BUFFER_INITIAL) + self.body.capacity()
    }

    /// Lends the buffer to a read, which has room for at least one byte after [`make_room`](Self::make_room).
    pub(super) fn lend(&mut self) -> Vec<u8> {
        // A read of no bytes would look like the end of the stream.
        assert!(
            self.bytes.len() < self.bytes.capacity(),
            "the limits on heads and bodies keep room in the read buffer"
        );
        std::mem::take(&mut self.bytes)
    }

    /// Takes the lent buffer back, with what was read.
    pub(super) fn take_back(&mut self, bytes: Vec<u8>) {
        self.bytes = bytes;
    }
}
