//! One client's socket: bytes in, requests out of them, answers back. It knows the runtime and HTTP's form, never what
//! a request means.

use std::io;
use std::os::fd::AsRawFd;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;

use futures_util::FutureExt;
use monoio::buf::{IoBufMut, SliceMut};
use monoio::io::{AsyncReadRent, AsyncWriteRent, AsyncWriteRentExt};
use nix::sys::socket::Shutdown;

use super::connections::{Phase, end};
use super::incoming::{Incoming, Next};
use super::shared::{Registration, Shared};
use crate::http::{CONTINUE, Head, HttpDate, Method, Persistence, Reply, Service, Status, Version};
use crate::limits::{
    LINGER_BYTES_MAX, READ_BUFFER_INITIAL, REQUEST_TIME_MAX, UNSENT_BYTES_MAX, WRITE_BUFFER_HIGH,
    WRITE_BUFFER_KEEP,
};

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
        shared.counters.panic();
        tracing::error!("a connection's task panicked; its client was disconnected");
    }
}

/// Answers `503` to a connection for which there is no room, and closes it at once.
async fn refuse<S: AsyncWriteRent>(mut stream: S, shared: &Shared) {
    let mut out = Vec::new();
    let moment = || closing(shared);
    Reply::new(&mut out, &moment, false).unavailable("too many connections, try again");
    // The answer fits an empty socket buffer, so the write cannot wait. It fails only if the peer has left.
    let (_written, _out) = stream.write_all(out).await;
}

/// The date and the persistence of an answer that is the connection's last.
fn closing(shared: &Shared) -> (HttpDate, Persistence) {
    (shared.clock.date(), Persistence::Close)
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
    /// Answers that were gathered and not written yet.
    output: Vec<u8>,
}

impl<S, V> Conversation<S, V>
where
    S: AsyncReadRent + AsyncWriteRent + AsRawFd,
    V: Service,
{
    fn new(stream: S, registration: Registration, service: Rc<V>) -> Self {
        Conversation { stream, registration, service, incoming: Incoming::new(), output: Vec::new() }
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
            if !self.fill().await? {
                if self.registration.is_late() && self.incoming.len() > 0 {
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
            match self.incoming.next() {
                Ok(Next::Request(head)) => {
                    if self.answer(head).await == Persistence::Close {
                        let leftover = self.incoming.len() > 0;
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
                    self.reject(reject.status(), reject.detail());
                    return Ok(Some(End::Linger));
                }
            }
        }
    }

    async fn answer(&mut self, head: Head) -> Persistence {
        let (request, length) = self.incoming.request(&head);
        // In a drain only the last answer closes the connection: a request that was pipelined behind this one was
        // received too, and is still answered.
        let last = length == self.incoming.len();
        let shared = &self.registration.shared;
        let moment = || {
            let persistence = if !head.keep_alive || (last && shared.drain.has_begun()) {
                Persistence::Close
            } else if head.version == Version::Http10 {
                Persistence::KeepAlive
            } else {
                Persistence::Default
            };
            (shared.clock.date(), persistence)
        };
        self.registration.enter(Phase::Answering);
        let reply = Reply::new(&mut self.output, &moment, head.method == Method::Head);
        let persistence = self.service.respond(request, reply).await;
        self.incoming.answered(length);
        persistence
    }

    fn reject(&mut self, status: Status, detail: &str) {
        let moment = || closing(&self.registration.shared);
        Reply::new(&mut self.output, &moment, self.incoming.head_only()).problem(status, detail, None);
    }

    /// Writes all answers that were gathered.
    async fn flush(&mut self) -> io::Result<()> {
        if self.output.is_empty() {
            return Ok(());
        }
        self.registration.enter(Phase::Writing);
        let shared = Rc::clone(&self.registration.shared);
        let too_much =
            self.output.len() > WRITE_BUFFER_KEEP && shared.unsent() + self.output.len() > UNSENT_BYTES_MAX;
        if too_much {
            self.output = Vec::new();
            let moment = || closing(&shared);
            Reply::new(&mut self.output, &moment, self.incoming.head_only())
                .unavailable("too many answers wait to be read, try again");
        }
        let unsent = shared.writing(self.output.len());
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
        let within = self.incoming.is_within_request();
        self.registration.enter(if within { Phase::Receiving } else { Phase::Idle });
        let buffer = self.incoming.lend();
        let (filled, capacity) = (buffer.len(), buffer.capacity());
        let (read, slice) = self.stream.read(buffer.slice_mut(filled..capacity)).await;
        self.incoming.take_back(SliceMut::into_inner(slice));
        Ok(read? > 0)
    }

    /// Reads and discards for a while. A close with unread bytes would reset the connection before the peer has read
    /// the answer.
    async fn linger(&mut self) {
        self.registration.enter(Phase::Lingering);
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
