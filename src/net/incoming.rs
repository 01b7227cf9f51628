//! What a connection received and has not answered yet: bytes in, whole requests out. It knows how requests are framed,
//! and no socket.

use crate::http::{ChunkedDecoder, Framing, Head, HeadParser, Method, Progress, Reject, Request};
use crate::limits::{READ_BUFFER_INITIAL, READ_BUFFER_MAX};

/// What is there next.
pub(super) enum Next {
    /// A whole request, which [`Incoming::request`] shows.
    Request(Head),
    /// More bytes are needed.
    Partial,
    /// The same, and the client waits for `100 Continue`.
    Continue,
}

/// A connection's read buffer.
pub(super) struct Incoming {
    bytes: Vec<u8>,
    /// What was not answered yet begins here.
    start: usize,
    parser: HeadParser,
    /// The head whose body is not complete yet.
    head: Option<Head>,
    chunked: ChunkedDecoder,
    /// The decoded part of a chunked body.
    body: Vec<u8>,
    /// The client was told to send the body.
    continued: bool,
    /// The last whole head was that of a HEAD: whatever it is answered with has no body.
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

    /// Looks at what is there.
    pub(super) fn next(&mut self) -> Result<Next, Reject> {
        let head = match self.head.take() {
            Some(head) => head,
            None => {
                self.head_only = false;
                match self.parser.parse(&self.bytes[self.start..])? {
                    Progress::Partial => return Ok(Next::Partial),
                    Progress::Complete(head) => {
                        self.continued = false;
                        self.head_only = head.method == Method::Head;
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

    /// The request of `head`, which [`next`](Self::next) gave, and how many bytes of the buffer it takes.
    pub(super) fn request(&self, head: &Head) -> (Request<'_>, usize) {
        let bytes = &self.bytes[self.start..];
        let (length, body) = match head.framing {
            Framing::Length(length) => (head.length + length, &bytes[head.length..head.length + length]),
            Framing::Chunked => (head.length, &self.body[..]),
        };
        (Request { method: head.method, target: &bytes[head.target.clone()], body }, length)
    }

    /// A request that took so many bytes was answered.
    pub(super) fn answered(&mut self, length: usize) {
        self.start += length;
        self.body.clear();
    }

    /// How many bytes were not answered yet.
    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// Whether an error is answered with its head only.
    pub(super) fn head_only(&self) -> bool {
        self.head_only
    }

    /// Whether part of a request is there. Some clients send a stray line end after a body: that is not yet one.
    pub(super) fn is_within_request(&self) -> bool {
        !matches!(&self.bytes[self.start..], b"" | b"\r" | b"\r\n")
    }

    /// The buffer, to read into its room, of which it has some.
    pub(super) fn lend(&mut self) -> Vec<u8> {
        if self.len() == 0 {
            self.start = 0;
            if self.bytes.capacity() > READ_BUFFER_INITIAL {
                self.bytes = Vec::with_capacity(READ_BUFFER_INITIAL);
            } else {
                self.bytes.clear();
            }
        } else if self.bytes.len() == self.bytes.capacity() {
            self.make_room();
        }
        // A read of no bytes would look like the end of the stream.
        assert!(
            self.bytes.len() < self.bytes.capacity(),
            "the limits on heads and bodies keep room in the read buffer"
        );
        std::mem::take(&mut self.bytes)
    }

    /// The buffer that was lent, with what was read.
    pub(super) fn take_back(&mut self, bytes: Vec<u8>) {
        self.bytes = bytes;
    }

    /// The buffer is full in the middle of a request: what was answered goes, then it doubles.
    fn make_room(&mut self) {
        self.bytes.drain(..self.start);
        self.start = 0;
        let capacity = self.bytes.capacity();
        if self.bytes.len() == capacity {
            let grown = (capacity * 2).min(READ_BUFFER_MAX);
            self.bytes.reserve_exact(grown.saturating_sub(self.bytes.len()));
        }
    }
}
