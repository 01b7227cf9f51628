//! What becomes of a connection whose time is over at the very moment its request arrives: the request is answered, and
//! the answer says that it was the last; or it is not seen at all. Real sockets and both drivers; the moment is made by
//! doing both within one turn of the core.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use futures_util::future::join_all;
use monoio::time::sleep;
use monoio::{IoUringDriver, LegacyDriver, RuntimeBuilder};

use super::Shared;
use super::clock::ticks;
use super::connections::Phase;
use super::conversation::serve;
use crate::http::{Answered, Reply, Request, Service, Status};
use crate::ledger::Ledger;
use crate::limits::{IDLE_TIME_MAX, REQUEST_TIME_MAX};

const POST: &str = "POST /pessoas HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nAna";
/// Two of them.
const TWICE: &str = "POST /pessoas HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nAna\
     POST /pessoas HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nAna";
/// Where a request is cut in two.
const CUT: usize = 40;

/// How long anything here may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Commits every request, and answers it.
#[derive(Default)]
struct Commits(RefCell<usize>);

impl Service for Commits {
    async fn respond(&self, request: Request<'_>, reply: Reply<'_>) -> Answered {
        assert_eq!(request.body, b"Ana");
        *self.0.borrow_mut() += 1;
        reply.json(Status::CREATED, request.body)
    }
}

/// Why a connection is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// The time of its phase is over.
    Late,
    /// The server drains, and the connection has no request.
    Drain,
}

/// Which comes first: the bytes, or the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum First {
    Bytes,
    End,
}

/// What the client sent before, what it sends in the moment of the end, the statuses it is told, and how many of its
/// requests are committed. An answer that came says close, and the end after it is a clean one.
const CASES: &[(&str, &str, Why, &[&str], usize)] = &[
    ("", POST, Why::Late, &["201"], 1),
    ("", POST, Why::Drain, &["201"], 1),
    (POST.split_at(CUT).0, POST.split_at(CUT).1, Why::Late, &["201"], 1),
    // Of two, a late client is told that the first one was the last; in a drain both were received.
    ("", TWICE, Why::Late, &["201"], 1),
    ("", TWICE, Why::Drain, &["201", "201"], 2),
    // Half of a request cannot become whole any more.
    ("", POST.split_at(CUT).0, Why::Late, &["408"], 0),
    ("", POST.split_at(CUT).0, Why::Drain, &[], 0),
    ("", "", Why::Late, &[], 0),
    ("", "", Why::Drain, &[], 0),
];

/// The client's end of a connection.
trait Client: Read + Write + Send + 'static {}
impl<C: Read + Write + Send + 'static> Client for C {}

/// A pair of sockets; the server's is as its driver needs it.
fn tcp() -> (Box<dyn Client>, monoio::net::TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let (server, _) = listener.accept().unwrap();
    server.set_nonblocking(monoio::utils::is_legacy()).unwrap();
    (Box::new(client), monoio::net::TcpStream::from_std(server).unwrap())
}

fn unix() -> (Box<dyn Client>, monoio::net::UnixStream) {
    let (client, server) = UnixStream::pair().unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    server.set_nonblocking(monoio::utils::is_legacy()).unwrap();
    (Box::new(client), monoio::net::UnixStream::from_std(server).unwrap())
}

/// What the client of one connection saw.
struct Seen {
    text: String,
    /// The stream ended without an error.
    clean: bool,
    committed: usize,
}

async fn until(mut condition: impl FnMut() -> bool) {
    for _ in 0..PATIENCE.as_millis() {
        if condition() {
            return;
        }
        sleep(Duration::from_millis(1)).await;
    }
    panic!("expected within {PATIENCE:?}");
}

/// Serves one connection, which is ended while bytes arrive.
async fn meet<S>(
    (mut client, stream): (Box<dyn Client>, S),
    before: &str,
    bytes: &str,
    why: Why,
    first: First,
) -> Seen
where
    S: monoio::io::AsyncReadRent + monoio::io::AsyncWriteRent + std::os::fd::AsRawFd + 'static,
{
    let shared = Shared::new(1, Ledger::new(1 << 20));
    let service = Rc::new(Commits::default());
    client.write_all(before.as_bytes()).unwrap();
    let served = monoio::spawn(serve(stream, Rc::clone(&shared), Rc::clone(&service)));
    let phase = if before.is_empty() { Phase::Idle } else { Phase::Receiving };
    until(|| shared.connections.count() == 1).await;
    until(|| shared.connections.phase_of(0) == phase).await;
    // The phase begins when the read does. Now everything happens within a turn.
    let end = || match why {
        Why::Late => {
            let time_max = if phase == Phase::Idle { IDLE_TIME_MAX } else { REQUEST_TIME_MAX };
            (0..ticks(time_max)).for_each(|_| shared.tick());
        }
        Why::Drain => {
            shared.drain.begin();
            shared.connections.end_idle();
        }
    };
    match first {
        First::Bytes => {
            client.write_all(bytes.as_bytes()).unwrap();
            end();
        }
        First::End => {
            end();
            // On a unix socket the client learns at once that nobody reads.
            let _ = client.write_all(bytes.as_bytes());
        }
    }
    let reader = thread::spawn(move || {
        let mut text = Vec::new();
        let clean = client.read_to_end(&mut text).is_ok();
        (String::from_utf8(text).unwrap(), clean)
    });
    until(|| reader.is_finished()).await;
    let (text, clean) = reader.join().unwrap();
    served.await;
    assert_eq!(shared.connections.count(), 0);
    let committed = *service.0.borrow();
    Seen { text, clean, committed }
}

/// The status of each answer, and whether it says close.
fn answers(text: &str) -> Vec<(&str, bool)> {
    let heads = text.split("HTTP/1.1 ").skip(1);
    heads.map(|head| (&head[..3], head.contains("Connection: close\r\n"))).collect()
}

async fn all_cases() {
    let mut seen = Vec::new();
    for (number, &(before, bytes, why, ..)) in CASES.iter().enumerate() {
        for first in [First::Bytes, First::End] {
            seen.push((number, first, "TCP", monoio::spawn(meet(tcp(), before, bytes, why, first))));
            seen.push((number, first, "unix", monoio::spawn(meet(unix(), before, bytes, why, first))));
        }
    }
    let seen = seen
        .into_iter()
        .map(|(number, first, transport, seen)| async move { (number, first, transport, seen.await) });
    for (number, first, transport, seen) in join_all(seen).await {
        let (before, bytes, why, statuses, committed) = CASES[number];
        let what = format!("{transport}, {first:?} first, {why:?}: {before:?} {bytes:?}: {:?}", seen.text);
        let answers = answers(&seen.text);
        // Nothing is committed in silence, and the last answer says that it is the last.
        let created = answers.iter().filter(|(status, _)| *status == "201").count();
        assert_eq!(created, seen.committed, "{what}");
        assert!(answers.iter().rev().enumerate().all(|(back, (_, close))| *close == (back == 0)), "{what}");
        if first == First::Bytes {
            let told: Vec<&str> = answers.iter().map(|(status, _)| *status).collect();
            assert_eq!((told.as_slice(), seen.committed, seen.clean), (statuses, committed, true), "{what}");
        }
    }
}

#[test]
fn a_request_that_meets_the_end_of_its_connection_is_answered_or_not_seen() {
    RuntimeBuilder::<LegacyDriver>::new().enable_timer().build().unwrap().block_on(all_cases());
    match RuntimeBuilder::<IoUringDriver>::new().enable_timer().build() {
        Ok(mut runtime) => runtime.block_on(all_cases()),
        Err(error) => println!("skipped on io_uring: {error}"),
    }
}
