//! One client's socket: bytes in, requests out of them, answers back. It knows the runtime and HTTP's form, never what
//! a request means.

use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::AsRawFd;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use monoio::buf::{IoBufMut, SliceMut};
use monoio::io::{AsyncReadRent, AsyncWriteRent, AsyncWriteRentExt};
use monoio::time::{sleep, timeout};
use nix::sys::socket::Shutdown;

use super::connections::{Phase, end};
use super::incoming::{Incoming, Next};
use super::shared::{Registration, Shared};
use super::turn::Turn;
use crate::http::{
    Answered, CONTINUE, Head, HttpDate, Method, Moment, Persistence, Reply, Service, Status, Version,
};
use crate::ledger::{Account, Held};
use crate::limits::{
    LINGER_BYTES_MAX, LINGER_TIME_MAX, READ_BUFFER_INITIAL, REQUEST_TIME_MAX, WRITE_BUFFER_HIGH,
    WRITE_BUFFER_KEEP,
};

/// How often a connection whose reading side was shut down is looked at while it lingers.
const LINGER_POLL: Duration = Duration::from_millis(50);

/// Serves one accepted connection to its end. A panic ends this connection, not the core.
pub async fn serve<S, V>(stream: S, shared: Rc<Shared>, service: Rc<V>)
where
    S: AsyncReadRent + AsyncWriteRent + AsRawFd,
    V: Service,
{
    let Some(registration) = shared.admit(stream.as_raw_fd()) else {
        refuse(stream, &shared).await;
        return;
    };
    let conversation = Conversation::new(stream, registration, service);
    if AssertUnwindSafe(conversation.run()).catch_unwind().await.is_err() {
        shared.counters.count_panic();
        tracing::error!("a connection's task panicked; its client was disconnected");
    }
}

/// Answers `503` to a connection for which there is no room. For as many as [`Shared::refuse`] lets, the request is read and
/// thrown away for a moment: a close with unread bytes resets the connection, perhaps before the answer was read.
async fn refuse<S: AsyncReadRent + AsyncWriteRent + AsRawFd>(mut stream: S, shared: &Rc<Shared>) {
    let refusal = shared.refuse();
    let mut out = Vec::new();
    Reply::new(&mut out, &Last(shared), false).unavailable("too many connections, try again");
    // The answer fits an empty socket buffer, so the write cannot wait. It fails only if the peer has left.
    let (_written, _out) = stream.write_all(out).await;
    let fd = stream.as_raw_fd();
    end(fd, Shutdown::Write);
    if refusal.is_none() {
        return;
    }
    let mut read = pin!(discard(&mut stream));
    if timeout(LINGER_TIME_MAX, &mut read).await.is_err() {
        // A pending read is never dropped: shut down, it returns.
        end(fd, Shutdown::Both);
        read.await;
    }
}

/// Reads and throws away what comes, to the end of the stream or of what is allowed; whether it was the stream's end.
async fn discard<S: AsyncReadRent>(stream: &mut S) -> bool {
    let mut buffer = Vec::with_capacity(READ_BUFFER_INITIAL);
    let mut discarded = 0;
    while discarded < LINGER_BYTES_MAX {
        buffer.clear();
        let (read, back) = stream.read(buffer).await;
        buffer = back;
        match read {
            Ok(0) | Err(_) => return true,
            Ok(bytes) => discarded += bytes,
        }
    }
    false
}

/// The moment of an answer that is its connection's last. It is short: there is room for it.
struct Last<'a>(&'a Shared);

impl Moment for Last<'_> {
    fn date(&self) -> HttpDate {
        self.0.clock.date()
    }

    fn persistence(&self) -> Persistence {
        Persistence::Close
    }

    fn has_room(&self, _: usize, _: usize) -> bool {
        true
    }
}

/// The moment of the answer to a request.
struct Now<'a> {
    registration: &'a Registration,
    incoming: &'a Incoming,
    head: &'a Head,
    /// Bytes of the request in the buffer.
    length: usize,
    /// Bytes of answers that are held already.
    held: usize,
}

impl Moment for Now<'_> {
    fn date(&self) -> HttpDate {
        self.registration.shared.clock.date()
    }

    /// In a drain only the last answer closes the connection: a request that was pipelined behind this one was received
    /// too, if it is whole, and is still answered.
    fn persistence(&self) -> Persistence {
        let draining = self.registration.shared.drain.has_begun();
        let ends = (draining && !self.incoming.has_request_after(self.length)) || self.registration.is_late();
        if !self.head.keep_alive || ends {
            Persistence::Close
        } else if self.head.version == Version::Http10 {
            Persistence::KeepAlive
        } else {
            Persistence::Default
        }
    }

    fn has_room(&self, gathered: usize, more: usize) -> bool {
        let (all, ledger) = (gathered + more, &self.registration.shared.ledger);
        let room = all <= WRITE_BUFFER_KEEP || ledger.has_room(all.saturating_sub(self.held));
        if !room {
            ledger.refuse();
        }
        room
    }
}

/// Why a conversation is over.
enum End {
    /// The peer left, or an answer said `Connection: close`.
    Closed,
    /// The peer may still be sending, and must be able to read the answer first.
    Linger,
}

struct Conversation<S, V> {
    stream: S,
    registration: Registration,
    service: Rc<V>,
    incoming: Incoming,
    /// When the last bytes came: one look at the clock for all requests that were read together.
    read_at: Instant,
    /// What `incoming` takes beyond its smallest size.
    received: Held,
    /// Answers that were gathered and not written yet.
    output: Vec<u8>,
    /// The bytes of `output`, if they are more than are kept anyway.
    gathered: Held,
    turn: Turn,
}

/// What a read brought.
enum Filled {
    Bytes,
    /// The peer will send no more, or the connection was ended for its deadline.
    End,
    /// The request needs a larger buffer than there is room for.
    NoRoom,
}

impl<S, V> Conversation<S, V>
where
    S: AsyncReadRent + AsyncWriteRent + AsRawFd,
    V: Service,
{
    fn new(stream: S, registration: Registration, service: Rc<V>) -> Self {
        let nothing = |account| registration.shared.ledger.hold(account, 0).expect("nothing takes no room");
        let (received, gathered) = (nothing(Account::Received), nothing(Account::Gathered));
        Conversation {
            stream,
            registration,
            service,
            incoming: Incoming::new(),
            read_at: Instant::now(),
            received,
            output: Vec::new(),
            gathered,
            turn: Turn::default(),
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

    /// Answers every complete request, writes the answers at once, and reads more; over and over until the end.
    async fn converse(&mut self) -> io::Result<End> {
        loop {
            let ended = self.answer_all().await?;
            self.flush().await?;
            if let Some(end) = ended {
                return Ok(end);
            }
            match self.fill().await? {
                Filled::Bytes => {}
                Filled::End if self.registration.is_late() && self.incoming.is_within_request() => {
                    let seconds = REQUEST_TIME_MAX.as_secs();
                    let detail = format!("expected a whole request within {seconds} s of its first byte");
                    self.reject(|reply| reply.problem(Status::REQUEST_TIMEOUT, &detail, None));
                    self.flush().await?;
                    return Ok(End::Linger);
                }
                Filled::End => return Ok(End::Closed),
                Filled::NoRoom => {
                    self.reject(|reply| {
                        reply.unavailable(
                            "there is no room for so long a request; nothing was stored, try again",
                        )
                    });
                    self.flush().await?;
                    return Ok(End::Linger);
                }
            }
        }
    }

    /// Answers every complete request in the read buffer, in order.
    async fn answer_all(&mut self) -> io::Result<Option<End>> {
        loop {
            match self.incoming.next() {
                Ok(Next::Request(head)) => {
                    let asked = !head.keep_alive;
                    if self.answer(head).await == Persistence::Close {
                        // A client that did not ask for it may have sent more, which is still in the kernel.
                        let linger = !asked || self.incoming.len() > 0;
                        return Ok(Some(if linger { End::Linger } else { End::Closed }));
                    }
                    if self.output.len() >= WRITE_BUFFER_HIGH {
                        self.flush().await?;
                    }
                    if self.turn.is_over() {
                        self.flush().await?;
                        self.turn.end().await;
                    }
                }
                Ok(Next::Partial) => return Ok(None),
                Ok(Next::Continue) => {
                    self.output.extend_from_slice(CONTINUE);
                    return Ok(None);
                }
                Err(reject) => {
                    self.reject(|reply| reply.problem(reject.status(), reject.detail(), None));
                    return Ok(Some(End::Linger));
                }
            }
        }
    }

    async fn answer(&mut self, head: Head) -> Persistence {
        let (request, length) = self.incoming.request(&head, self.read_at);
        let now = Now {
            registration: &self.registration,
            incoming: &self.incoming,
            head: &head,
            length,
            held: self.gathered.bytes(),
        };
        self.registration.enter(Phase::Answering);
        let before = self.output.len();
        let reply = Reply::new(&mut self.output, &now, head.method == Method::Head);
        let answered = self.service.respond(request, reply).await;
        self.incoming.answered(length);
        self.turn.answered(self.output.len() - before);
        if self.output.len() > WRITE_BUFFER_KEEP {
            // The answer asked for room; what is beyond its body is little.
            self.gathered.set(self.output.len());
        }
        answered.persistence
    }

    /// Answers with an error, after which the connection is closed.
    fn reject(&mut self, answer: impl FnOnce(Reply<'_>) -> Answered) {
        let last = Last(&self.registration.shared);
        let answered = answer(Reply::new(&mut self.output, &last, self.incoming.head_only()));
        self.service.rejected(answered.status, self.read_at);
    }

    /// Writes all answers that were gathered.
    async fn flush(&mut self) -> io::Result<()> {
        if self.output.is_empty() {
            return Ok(());
        }
        self.registration.enter(Phase::Writing);
        let (written, output) = self.stream.write_all(std::mem::take(&mut self.output)).await;
        written?;
        self.gathered.set(0);
        if output.capacity() <= WRITE_BUFFER_KEEP {
            self.output = output;
            self.output.clear();
        }
        Ok(())
    }

    /// Reads once.
    async fn fill(&mut self) -> io::Result<Filled> {
        let within = self.incoming.is_within_request();
        self.registration.enter(if within { Phase::Receiving } else { Phase::Idle });
        if self.turn.is_over() {
            self.turn.end().await;
        }
        self.incoming.make_room();
        let bytes = self.incoming.bytes_held();
        if bytes != self.received.bytes() && !self.received.resize(bytes) {
            return Ok(Filled::NoRoom);
        }
        let buffer = self.incoming.lend();
        let (filled, capacity) = (buffer.len(), buffer.capacity());
        let mut read = pin!(self.stream.read(buffer.slice_mut(filled..capacity)));
        let mut polls = 0;
        let (read, slice) = poll_fn(|cx| {
            polls += 1;
            read.as_mut().poll(cx)
        })
        .await;
        self.turn.read(polls > 1);
        self.read_at = Instant::now();
        self.incoming.take_back(SliceMut::into_inner(slice));
        Ok(if read? > 0 { Filled::Bytes } else { Filled::End })
    }

    /// Reads and discards for a while. A close with unread bytes would reset the connection before the peer has read
    /// the answer.
    async fn linger(&mut self) {
        let late = self.registration.is_late();
        self.registration.enter(Phase::Lingering);
        // What was received is of no use any more.
        self.incoming = Incoming::new();
        self.received.set(0);
        end(self.stream.as_raw_fd(), Shutdown::Write);
        let ended = discard(&mut self.stream).await;
        if ended && !late {
            return;
        }
        // The peer sends on and on, and is left to find out from a full window; or the reading side was shut down for the
        // deadline, and tells an end where there only is nothing yet. Either way the peer has time to read.
        for _ in 0..LINGER_TIME_MAX.as_millis() / LINGER_POLL.as_millis() {
            sleep(LINGER_POLL).await;
            if late {
                discard(&mut self.stream).await;
            }
        }
    }
}
