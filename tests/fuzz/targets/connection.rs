//! Whole connections: a stream of bytes in reads of any size, through the server's own conversation, to a service that
//! notes what it is given. However the stream is cut, the requests are those of a plain reading of it, each is answered
//! once and in order, and the answers are the same bytes.
//!
//! An input: how the connection is served (bit 0: in a drain), how many cuts there are, the bytes between them, the stream.
#![no_main]
#![allow(clippy::unwrap_used, reason = "a fuzz target panics on purpose")]

#[path = "../../http_oracle/httparse.rs"]
#[allow(dead_code, reason = "another target uses it")]
mod httparse;
#[path = "../../http_oracle/invariants.rs"]
#[allow(dead_code, reason = "another target uses it")]
mod invariants;
mod reference;

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;
use std::task::Poll;

use libfuzzer_sys::fuzz_target;
use monoio::buf::{IoBuf, IoBufMut, IoVecBuf, IoVecBufMut};
use monoio::io::{AsyncReadRent, AsyncWriteRent};
use monoio::{BufResult, LegacyDriver, Runtime, RuntimeBuilder};
use rinha::http::{Answered, Method, Reply, Request, Service, Status};
use rinha::ledger::Ledger;
use rinha::limits::READ_BUFFER_INITIAL;
use rinha::net::Shared;
use rinha::net::conversation::serve;

use invariants::parse;
use reference::{End, Exchange};

/// A stream is also cut at every byte, up to this length.
const CUT_EVERYWHERE_MAX: usize = 300;
const MEMORY: usize = 16 << 20;

/// The server's end of a connection whose client sends all at once, and its end behind it.
struct Wire {
    stream: Rc<[u8]>,
    at: usize,
    /// Where reads end, ascending.
    cuts: Vec<usize>,
    written: Rc<RefCell<Vec<u8>>>,
}

impl AsRawFd for Wire {
    fn as_raw_fd(&self) -> RawFd {
        // Nobody's: to shut it down does nothing.
        -1
    }
}

/// Lets others go first, as a read that has to wait does.
async fn wait() {
    let mut waited = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut waited, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

impl AsyncReadRent for Wire {
    async fn read<T: IoBufMut>(&mut self, buffer: T) -> BufResult<usize, T> {
        wait().await;
        let end = self.cuts.iter().copied().find(|&cut| cut > self.at).unwrap_or(self.stream.len());
        let mut part = &self.stream[self.at..end];
        let (read, buffer) = part.read(buffer).await;
        self.at += read.as_ref().copied().unwrap_or(0);
        (read, buffer)
    }

    async fn readv<T: IoVecBufMut>(&mut self, buffer: T) -> BufResult<usize, T> {
        (Err(io::ErrorKind::Unsupported.into()), buffer)
    }
}

impl AsyncWriteRent for Wire {
    async fn write<T: IoBuf>(&mut self, buffer: T) -> BufResult<usize, T> {
        // SAFETY: the buffer says that so many of its bytes can be read from there, and it is not touched meanwhile.
        let bytes = unsafe { std::slice::from_raw_parts(buffer.read_ptr(), buffer.bytes_init()) };
        self.written.borrow_mut().extend_from_slice(bytes);
        (Ok(bytes.len()), buffer)
    }

    async fn writev<T: IoVecBuf>(&mut self, buffers: T) -> BufResult<usize, T> {
        (Err(io::ErrorKind::Unsupported.into()), buffers)
    }

    async fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    async fn shutdown(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Notes each request, and answers with its number.
#[derive(Default)]
struct Notes {
    requests: RefCell<Vec<Exchange>>,
    rejections: RefCell<Vec<Status>>,
}

impl Service for Notes {
    async fn respond(&self, request: Request<'_>, reply: Reply<'_>) -> Answered {
        let number = self.requests.borrow().len();
        if number % 2 == 1 {
            wait().await;
        }
        self.requests.borrow_mut().push(Exchange {
            head: request.method == Method::Head,
            target: request.target.to_vec(),
            body: request.body.to_vec(),
        });
        reply.json(Status::OK, format!("[{number}]").as_bytes())
    }

    fn rejected(&self, status: Status, _received: std::time::Instant) {
        self.rejections.borrow_mut().push(status);
    }
}

/// What a connection came to.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    requests: Vec<Exchange>,
    rejections: Vec<u16>,
    /// Without dates and invitations, which depend on the moment.
    answers: Vec<u8>,
    invitations: usize,
}

fn remove(bytes: &[u8], from: &[u8], to: &[u8]) -> (Vec<u8>, usize) {
    let (mut out, mut rest, mut count) = (Vec::new(), bytes, 0);
    while let Some(at) = memchr::memmem::find(rest, from) {
        out.extend_from_slice(&rest[..at]);
        let end = at + from.len() + memchr::memmem::find(&rest[at + from.len()..], to).unwrap() + to.len();
        rest = &rest[end..];
        count += 1;
    }
    out.extend_from_slice(rest);
    (out, count)
}

fn converse(runtime: &mut MyRuntime, stream: &[u8], cuts: Vec<usize>, drains: bool) -> Outcome {
    let written = Rc::default();
    let wire = Wire { stream: stream.into(), at: 0, cuts, written: Rc::clone(&written) };
    let notes = Rc::new(Notes::default());
    let shared = Shared::new(1, Ledger::new(MEMORY));
    if drains {
        shared.drain.begin();
    }
    runtime.block_on(serve(wire, Rc::clone(&shared), Rc::clone(&notes)));
    assert_eq!(shared.counters.panicked(), 0, "a panic");
    assert_eq!((shared.connections.count(), shared.ledger.state().connections), (0, 0), "all is given back");
    assert_eq!((shared.ledger.state().received, shared.ledger.state().gathered), (0, 0), "all is given back");
    let (answers, dates) = remove(&written.borrow(), b"Date: ", b"\r\n");
    let (answers, invitations) = remove(&answers, b"HTTP/1.1 100 Continue", b"\r\n\r\n");
    let requests = notes.requests.take();
    let rejections: Vec<u16> = notes.rejections.take().iter().map(|status| status.code()).collect();
    assert_eq!(dates, requests.len() + rejections.len(), "one answer each");
    Outcome { requests, rejections, answers, invitations }
}

/// The answers are whole, in order, and only the last of them ends the connection.
fn check_answers(outcome: &Outcome, must_close: bool) {
    let mut rest = &outcome.answers[..];
    let answers = outcome.requests.len() + outcome.rejections.len();
    for number in 0..answers {
        let mut headers = [::httparse::EMPTY_HEADER; 8];
        let mut head = ::httparse::Response::new(&mut headers);
        let length = head.parse(rest).unwrap().unwrap();
        let field = |name: &str| {
            head.headers
                .iter()
                .find(|field| field.name == name)
                .map(|field| str::from_utf8(field.value).unwrap())
        };
        let body_length: usize = field("Content-Length").unwrap().parse().unwrap();
        let (code, closes) = (head.code.unwrap(), field("Connection") == Some("close"));
        rest = &rest[length..];
        match outcome.requests.get(number) {
            Some(request) => {
                assert_eq!(code, 200);
                if !request.head {
                    assert_eq!(rest[..body_length], *format!("[{number}]").as_bytes());
                    rest = &rest[body_length..];
                }
            }
            None => {
                assert_eq!(outcome.rejections, [code]);
                assert!([400, 413, 414, 431, 505].contains(&code) && closes);
                // To HEAD it is the head alone.
                assert!(rest.is_empty() || rest.len() == body_length);
                rest = &[];
            }
        }
        let is_last = number + 1 == answers;
        assert!(!closes || is_last, "something was answered behind the end");
        assert!(closes || !is_last || !must_close, "the last answer must say that it is");
    }
    assert!(rest.is_empty(), "more than the answers");
}

type MyRuntime = Runtime<monoio::time::TimeDriver<LegacyDriver>>;

thread_local! {
    static RUNTIME: RefCell<MyRuntime> =
        RefCell::new(RuntimeBuilder::<LegacyDriver>::new().enable_timer().build().unwrap());
}

fn check(input: &[u8], runtime: &mut MyRuntime) {
    let [flags, count, rest @ ..] = input else { return };
    let Some((steps, stream)) = rest.split_at_checked(usize::from(count % 16)) else { return };
    let drains = flags & 1 == 1;
    let cuts = steps.iter().scan(0, |at, &step| {
        *at += usize::from(step);
        Some((*at).min(stream.len()))
    });
    let (requests, end, waits) = reference::read(stream);

    let whole = converse(runtime, stream, Vec::new(), drains);
    check_answers(&whole, drains || end == End::Closed);
    assert!(whole.invitations <= waits);
    let mut others = vec![cuts.collect()];
    if stream.len() <= CUT_EVERYWHERE_MAX {
        others.push((0..stream.len()).collect());
    }
    for cuts in others {
        let cut = converse(runtime, stream, cuts, drains);
        check_answers(&cut, drains || end == End::Closed);
        assert!(cut.invitations <= waits);
        if drains {
            assert!(requests.starts_with(&cut.requests));
        } else {
            assert_eq!(
                (&cut.requests, &cut.rejections, &cut.answers),
                (&whole.requests, &whole.rejections, &whole.answers)
            );
        }
    }
    if !drains {
        assert_eq!(whole.requests, requests);
        match end {
            End::Refused => assert_eq!(whole.rejections.len(), 1),
            End::Closed => assert_eq!(whole.rejections, [0; 0]),
            End::Open => assert!(whole.rejections.len() <= 1),
        }
    } else if stream.len() < READ_BUFFER_INITIAL {
        assert_eq!(whole.requests, requests, "all of what was received is answered");
    }
}

fuzz_target!(|input: &[u8]| RUNTIME.with_borrow_mut(|runtime| check(input, runtime)));
