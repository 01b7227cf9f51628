//! One client's socket: bytes in, requests out of them, answers back, and every wait bounded. It knows the
//! runtime and HTTP's form, never what a request means.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

use futures_util::FutureExt;
use monoio::buf::{IoBufMut, SliceMut};
use monoio::io::{AsyncReadRent, AsyncWriteRent, AsyncWriteRentExt};
use nix::sys::socket::{Shutdown, shutdown};
use slab::Slab;

use crate::http::reply::Reply;
use crate::http::{
    CONTINUE, ChunkedDecoder, Framing, Head, HeadParser, HttpDate, Method, Persistence, Progress, Reject,
    Status, Version,
};
use crate::limits::{
    IDLE_TIME_MAX, LINGER_BYTES_MAX, LINGER_TIME_MAX, READ_BUFFER_INITIAL, READ_BUFFER_MAX, REQUEST_TIME_MAX,
    SWEEP_PERIOD, UNSENT_BYTES_MAX, WRITE_BUFFER_HIGH, WRITE_BUFFER_KEEP, WRITE_TIME_MAX,
};

/// A request, borrowed from its connection's read buffer.
pub struct Request<'a> {
    /// Its method.
    pub method: Method,
    /// The request target, undecoded.
    pub target: &'a [u8],
    /// The body, its transfer coding undone; at most [`BODY_MAX`](crate::limits::BODY_MAX) bytes.
    pub body: &'a [u8],
}

/// What answers requests.
pub trait Service: 'static {
    /// Answers `request` by calling exactly one of `reply`'s methods.
    fn respond(&self, request: Request<'_>, reply: Reply<'_>) -> impl Future<Output = ()>;
}

/// Seconds since the core started, as the sweeper counts them: no request reads a clock.
type Tick = u64;

const fn ticks(duration: std::time::Duration) -> Tick {
    // The sweeper may be about to tick: one more, so that no one waits less than promised.
    duration.as_secs() / SWEEP_PERIOD.as_secs() + 1
}

/// What a connection is doing, for the sweeper to judge how long it may.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Between requests.
    Idle,
    /// Part of a request is there.
    Receiving,
    /// The service works on an answer; its waits are its own.
    Answering,
    /// An answer is on its way out.
    Writing,
    /// An error was answered; what still comes in is thrown away.
    Lingering,
}

struct Entry {
    fd: RawFd,
    phase: Phase,
    /// The tick at which the sweeper ends the phase.
    deadline: Tick,
    /// The sweeper ended it.
    late: bool,
}

/// The open connections of one core, and the time they share.
pub struct Connections {
    entries: RefCell<Slab<Entry>>,
    max: usize,
    now: Cell<Tick>,
    date: Cell<HttpDate>,
    draining: Cell<bool>,
    /// Bytes that are being written.
    unsent: Cell<usize>,
    /// The listeners are being shut down.
    closing: Cell<bool>,
    /// Acceptors that may still hand connections over.
    doors: Cell<usize>,
    accepted: Cell<u64>,
    panics: Cell<u64>,
}

impl Connections {
    /// No connections yet, at most `max` at once.
    pub fn new(max: usize) -> Rc<Connections> {
        Rc::new(Connections {
            entries: RefCell::new(Slab::new()),
            max,
            now: Cell::new(0),
            date: Cell::new(date_now()),
            draining: Cell::new(false),
            unsent: Cell::new(0),
            closing: Cell::new(false),
            doors: Cell::new(0),
            accepted: Cell::new(0),
            panics: Cell::new(0),
        })
    }

    /// How many are open.
    pub fn open(&self) -> usize {
        self.entries.borrow().len()
    }

    /// From now on an accept that fails has lost its listener.
    pub fn close(&self) {
        self.closing.set(true);
    }

    /// Whether [`close`](Self::close) was called.
    pub fn closing(&self) -> bool {
        self.closing.get()
    }

    /// Somebody else accepts connections for this core.
    pub fn open_door(&self) {
        self.doors.set(self.doors.get() + 1);
    }

    /// And will hand no more over.
    pub fn close_door(&self) {
        self.doors.set(self.doors.get() - 1);
    }

    /// Whether a connection is open or may still be handed over.
    pub fn expects_more(&self) -> bool {
        self.doors.get() > 0 || self.open() > 0
    }

    /// How many were ever accepted.
    pub fn accepted(&self) -> u64 {
        self.accepted.get()
    }

    /// How many ended in a panic.
    pub fn panics(&self) -> u64 {
        self.panics.get()
    }

    /// From now on every answer closes its connection.
    pub fn drain(&self) {
        self.draining.set(true);
    }

    /// Whether [`drain`](Self::drain) was called.
    pub fn draining(&self) -> bool {
        self.draining.get()
    }

    /// One tick of the core's clock: renews the `Date` and ends every wait that is over. Shutting the socket
    /// down makes the pending operation return; dropping that operation instead could lose its completion.
    pub fn sweep(&self) {
        self.date.set(date_now());
        let now = self.now.get() + 1;
        self.now.set(now);
        for (_, entry) in self.entries.borrow_mut().iter_mut() {
            if entry.deadline > now {
                continue;
            }
            entry.deadline = Tick::MAX;
            entry.late = true;
            // A late request still gets its 408; in the other phases there is nothing left to say.
            let how = if entry.phase == Phase::Receiving { Shutdown::Read } else { Shutdown::Both };
            end(entry.fd, how);
        }
    }

    /// Ends the connections that are between requests; a request that has arrived meanwhile is still read.
    pub fn end_idle(&self) {
        for (_, entry) in self.entries.borrow().iter() {
            if entry.phase == Phase::Idle {
                end(entry.fd, Shutdown::Read);
            }
        }
    }

    fn register(self: &Rc<Self>, fd: RawFd) -> Option<Registered> {
        self.accepted.set(self.accepted.get() + 1);
        let mut entries = self.entries.borrow_mut();
        if entries.len() >= self.max {
            return None;
        }
        let entry =
            Entry { fd, phase: Phase::Idle, deadline: self.now.get() + ticks(IDLE_TIME_MAX), late: false };
        let key = entries.insert(entry);
        Some(Registered { connections: Rc::clone(self), key })
    }
}

fn date_now() -> HttpDate {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    HttpDate::from_unix(since_1970.as_secs())
}

/// The peer may have gone already, which is no news.
fn end(fd: RawFd, how: Shutdown) {
    if let Err(errno) = shutdown(fd, how) {
        tracing::trace!(%errno, "shutdown");
    }
}

/// Bytes on their way out, until they are gone or their connection is.
struct Unsent<'a> {
    connections: &'a Connections,
    bytes: usize,
}

impl<'a> Unsent<'a> {
    fn new(connections: &'a Connections, bytes: usize) -> Unsent<'a> {
        connections.unsent.set(connections.unsent.get() + bytes);
        Unsent { connections, bytes }
    }
}

impl Drop for Unsent<'_> {
    fn drop(&mut self) {
        self.connections.unsent.set(self.connections.unsent.get() - self.bytes);
    }
}

/// A connection's place in the table, given back when it ends however it ends.
struct Registered {
    connections: Rc<Connections>,
    key: usize,
}

impl Registered {
    fn enter(&self, phase: Phase) {
        let limit = match phase {
            Phase::Idle => ticks(IDLE_TIME_MAX),
            Phase::Receiving => ticks(REQUEST_TIME_MAX),
            Phase::Answering => Tick::MAX / 2,
            Phase::Writing => ticks(WRITE_TIME_MAX),
            Phase::Lingering => ticks(LINGER_TIME_MAX),
        };
        let entry = &mut self.connections.entries.borrow_mut()[self.key];
        // A request that trickles in does not start its time again with every byte.
        if phase != Phase::Receiving || entry.phase != Phase::Receiving {
            entry.deadline = self.connections.now.get() + limit;
        }
        entry.phase = phase;
    }

    fn is_late(&self) -> bool {
        self.connections.entries.borrow()[self.key].late
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.connections.entries.borrow_mut().remove(self.key);
    }
}

/// Serves one accepted connection to its end. A panic ends this connection, not the core.
pub async fn serve<S, V>(stream: S, connections: Rc<Connections>, service: Rc<V>)
where
    S: AsyncReadRent + AsyncWriteRent + AsRawFd,
    V: Service,
{
    let Some(place) = connections.register(stream.as_raw_fd()) else {
        refuse(stream, &connections).await;
        return;
    };
    let conversation = Conversation::new(stream, place, service);
    if AssertUnwindSafe(conversation.run()).catch_unwind().await.is_err() {
        connections.panics.set(connections.panics.get() + 1);
        tracing::error!("a connection's task panicked; its client was disconnected");
    }
}

/// One connection too many: said, and closed at once.
async fn refuse<S: AsyncWriteRent>(mut stream: S, connections: &Connections) {
    let mut out = Vec::new();
    let moment = || (connections.date.get(), Persistence::Close);
    Reply::new(&mut out, &moment, false).unavailable("too many connections, try again");
    // The answer fits an empty socket buffer, so this cannot wait; a peer that left does not want it.
    let (_written, _out) = stream.write_all(out).await;
}

/// Why a conversation is over.
enum End {
    /// The peer left, or an answer said `Connection: close`.
    Closed,
    /// The peer may still be sending, and must be able to read the answer first.
    Linger,
}

/// What the read buffer holds next.
enum Next {
    Request(Head),
    /// More bytes are needed.
    Partial,
    /// The same, and the client waits for `100 Continue`.
    Continue,
}

struct Conversation<S, V> {
    stream: S,
    place: Registered,
    service: Rc<V>,
    /// What was read and not yet answered begins at `start`.
    input: Vec<u8>,
    start: usize,
    parser: HeadParser,
    /// The head whose body is not complete yet.
    head: Option<Head>,
    chunked: ChunkedDecoder,
    /// The decoded part of a chunked body.
    body: Vec<u8>,
    continued: bool,
    /// The last whole head was that of a HEAD: whatever it is answered with has no body.
    head_only: bool,
    output: Vec<u8>,
}

impl<S, V> Conversation<S, V>
where
    S: AsyncReadRent + AsyncWriteRent + AsRawFd,
    V: Service,
{
    fn new(stream: S, place: Registered, service: Rc<V>) -> Self {
        Conversation {
            stream,
            place,
            service,
            input: Vec::with_capacity(READ_BUFFER_INITIAL),
            start: 0,
            parser: HeadParser::default(),
            head: None,
            chunked: ChunkedDecoder::default(),
            body: Vec::new(),
            continued: false,
            head_only: false,
            output: Vec::new(),
        }
    }

    async fn run(mut self) {
        match self.converse().await {
            Ok(End::Closed) => {}
            Ok(End::Linger) => self.linger().await,
            // Reset, broken pipe: the peer is gone and there is no one to tell.
            Err(error) => tracing::trace!(%error, "connection lost"),
        }
    }

    /// Reads, answers all that is complete, writes once, and again.
    async fn converse(&mut self) -> io::Result<End> {
        loop {
            let ended = self.answer_all().await?;
            self.flush().await?;
            if let Some(end) = ended {
                return Ok(end);
            }
            if !self.fill().await? {
                if self.place.is_late() && self.start < self.input.len() {
                    let seconds = REQUEST_TIME_MAX.as_secs();
                    let detail = format!("expected a whole request within {seconds} s of its first byte");
                    self.reject(Status::REQUEST_TIMEOUT, &detail);
                    self.flush().await?;
                }
                return Ok(End::Closed);
            }
        }
    }

    /// Answers every complete request in the read buffer, in order.
    async fn answer_all(&mut self) -> io::Result<Option<End>> {
        loop {
            match self.next() {
                Ok(Next::Request(head)) => {
                    if self.answer(head).await == Persistence::Close {
                        let leftover = self.start < self.input.len();
                        return Ok(Some(if leftover { End::Linger } else { End::Closed }));
                    }
                    if self.output.len() >= WRITE_BUFFER_HIGH {
                        self.flush().await?;
                    }
                }
                Ok(Next::Partial) => return Ok(None),
                Ok(Next::Continue) => {
                    self.output.extend_from_slice(CONTINUE);
                    return Ok(None);
                }
                Err(reject) => {
                    self.reject(reject.into(), reject.detail());
                    return Ok(Some(End::Linger));
                }
            }
        }
    }

    fn next(&mut self) -> Result<Next, Reject> {
        let head = match self.head.take() {
            Some(head) => head,
            None => {
                self.head_only = false;
                match self.parser.parse(&self.input[self.start..])? {
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
            Framing::Length(length) => self.input.len() - body_start >= length,
            Framing::Chunked => {
                let (consumed, progress) = self.chunked.decode(&self.input[body_start..], &mut self.body)?;
                // Decoded bytes leave the read buffer, so framing cannot fill it.
                self.input.drain(body_start..body_start + consumed);
                matches!(progress, Progress::Complete(()))
            }
        };
        if complete {
            return Ok(Next::Request(head));
        }
        let invite = head.expect_continue && !self.continued && self.input.len() == body_start;
        self.continued |= invite;
        self.head = Some(head);
        Ok(if invite { Next::Continue } else { Next::Partial })
    }

    async fn answer(&mut self, head: Head) -> Persistence {
        let bytes = &self.input[self.start..];
        let (length, body) = match head.framing {
            Framing::Length(length) => (head.length + length, &bytes[head.length..head.length + length]),
            Framing::Chunked => (head.length, &self.body[..]),
        };
        let connections = &self.place.connections;
        // What was pipelined behind this request was received too, so that not this answer is the last.
        let last = bytes.len() == length;
        let said = Cell::new(Persistence::Close);
        let moment = || {
            said.set(if !head.keep_alive || (last && connections.draining()) {
                Persistence::Close
            } else if head.version == Version::Http10 {
                Persistence::KeepAlive
            } else {
                Persistence::Default
            });
            (connections.date.get(), said.get())
        };
        self.place.enter(Phase::Answering);
        let reply = Reply::new(&mut self.output, &moment, head.method == Method::Head);
        let request = Request { method: head.method, target: &bytes[head.target.clone()], body };
        self.service.respond(request, reply).await;
        self.start += length;
        self.body.clear();
        said.get()
    }

    fn reject(&mut self, status: Status, detail: &str) {
        let moment = || (self.place.connections.date.get(), Persistence::Close);
        Reply::new(&mut self.output, &moment, self.head_only).problem(status, detail, None);
    }

    /// Writes all answers that were gathered.
    async fn flush(&mut self) -> io::Result<()> {
        if self.output.is_empty() {
            return Ok(());
        }
        self.place.enter(Phase::Writing);
        let connections = Rc::clone(&self.place.connections);
        let too_much = self.output.len() > WRITE_BUFFER_KEEP
            && connections.unsent.get() + self.output.len() > UNSENT_BYTES_MAX;
        if too_much {
            self.output = Vec::new();
            let moment = || (connections.date.get(), Persistence::Close);
            let reply = Reply::new(&mut self.output, &moment, self.head_only);
            reply.unavailable("too many answers wait to be read, try again");
        }
        let unsent = Unsent::new(&connections, self.output.len());
        let (written, output) = self.stream.write_all(std::mem::take(&mut self.output)).await;
        drop(unsent);
        written?;
        if too_much {
            return Err(io::Error::other("closed: too many answers waited to be read"));
        }
        if output.capacity() <= WRITE_BUFFER_KEEP {
            self.output = output;
            self.output.clear();
        }
        Ok(())
    }

    /// Reads once; `false` at the end of the stream.
    async fn fill(&mut self) -> io::Result<bool> {
        if self.start == self.input.len() {
            self.place.enter(Phase::Idle);
            self.start = 0;
            if self.input.capacity() > READ_BUFFER_INITIAL {
                self.input = Vec::with_capacity(READ_BUFFER_INITIAL);
            } else {
                self.input.clear();
            }
        } else {
            // Some clients send a stray line end after a body: that is not yet a request.
            let blank = matches!(&self.input[self.start..], b"\r" | b"\r\n");
            self.place.enter(if blank { Phase::Idle } else { Phase::Receiving });
            if self.input.len() == self.input.capacity() {
                self.make_room();
            }
        }
        let input = std::mem::take(&mut self.input);
        let (filled, capacity) = (input.len(), input.capacity());
        // A read of no bytes would look like the end of the stream.
        assert!(filled < capacity, "the limits on heads and bodies keep room in the read buffer");
        let (read, slice) = self.stream.read(input.slice_mut(filled..capacity)).await;
        self.input = SliceMut::into_inner(slice);
        Ok(read? > 0)
    }

    /// The buffer is full in the middle of a request: what was answered goes, then it doubles.
    fn make_room(&mut self) {
        self.input.drain(..self.start);
        self.start = 0;
        let capacity = self.input.capacity();
        if self.input.len() == capacity {
            let grown = (capacity * 2).min(READ_BUFFER_MAX);
            self.input.reserve_exact(grown.saturating_sub(self.input.len()));
        }
    }

    /// Reads and forgets, for a while, so that closing does not reset the connection under the answer.
    async fn linger(&mut self) {
        self.place.enter(Phase::Lingering);
        end(self.stream.as_raw_fd(), Shutdown::Write);
        let mut buffer = Vec::with_capacity(READ_BUFFER_INITIAL);
        let mut discarded = 0;
        while discarded < LINGER_BYTES_MAX {
            buffer.clear();
            let (read, back) = self.stream.read(buffer).await;
            buffer = back;
            match read {
                Ok(0) | Err(_) => return,
                Ok(bytes) => discarded += bytes,
            }
        }
    }
}
