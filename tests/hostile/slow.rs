//! Clients that take their time: with what they send, and with what they read. Each must be cut off at its deadline, and
//! none before.

use std::time::{Duration, Instant};

use rinha::limits::{REQUEST_TIME_MAX, WRITE_TIME_MAX};

use crate::ground::{Ground, Way, connect_with_window, seconds};
use crate::server::{Connection, request};

/// Clients that trickle: three in four of them are more than both servers have places for in HAProxy.
const CLIENTS: usize = 3_000;
/// Clients that do not read.
const READERS: usize = 200;
/// Pause between two of them: it is the reading that is slow, and not a burst of searches.
const READERS_PAUSE: Duration = Duration::from_millis(4);
/// The receive window of one that does not read.
const WINDOW: usize = 4 << 10;
/// One byte, every so often.
const BEAT: Duration = Duration::from_secs(1);
/// How much later than its deadline a client may be cut off, on a busy machine: clocks look once a second.
const LATE_MAX: Duration = Duration::from_secs(5);
/// Of heads so long behind their deadline, at least.
const HEADS_MORE: Duration = Duration::from_secs(4);
/// How much earlier: the same clocks.
const EARLY_MAX: Duration = Duration::from_secs(1);

/// A client, since when, and the end of its connection.
struct Slow {
    connection: Connection,
    since: Instant,
    ended: Option<Duration>,
}

/// Heads that never end.
pub(crate) fn heads(ground: &Ground) -> String {
    let clients = open(ground, |number| match number % 3 {
        0 => String::new(),
        1 => "GET /pessoas?t=".to_owned(),
        _ => "POST /pessoas HTTP/1.1\r\nHost: a\r\nX: ".to_owned(),
    });
    // For as long as it takes to meet the deadline.
    trickle(ground.way, clients, false, seconds().max(REQUEST_TIME_MAX + HEADS_MORE), |_| b"a")
}

/// Bodies that never end: of a short and of a long length, whose beginning fits HAProxy's buffer or does not, and in
/// chunks.
pub(crate) fn bodies(ground: &Ground) -> String {
    let head = |framing: &str| format!("POST /pessoas HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n");
    let clients = open(ground, |number| match number % 8 {
        0 => head("Content-Length: 30000") + &" ".repeat(20_000),
        1 => {
            head(&format!("X: {0}\r\nY: {0}\r\nContent-Length: 11000", "x".repeat(3_500)))
                + &" ".repeat(9_000)
        }
        2..=4 => head("Transfer-Encoding: chunked") + "2\r\n{ \r\n",
        _ => head("Content-Length: 100") + "{",
    });
    let next =
        |number| -> &'static [u8] { if (2..=4).contains(&(number % 8)) { b"1\r\n \r\n" } else { b" " } };
    trickle(ground.way, clients, true, seconds(), next)
}

fn open(ground: &Ground, first: impl Fn(usize) -> String) -> Vec<Slow> {
    ground
        .addresses_of(CLIENTS)
        .map(|(number, address)| {
            let mut connection = Connection::open(&address);
            connection.send(first(number));
            Slow { connection, since: Instant::now(), ended: None }
        })
        .collect()
}

/// Sends on for so long, a beat at a time. Whoever was there for longer than a request may take must have been answered 408
/// and cut off. `bodies` may have waited for a place in the balancer.
fn trickle(
    way: Way,
    mut clients: Vec<Slow>,
    bodies: bool,
    lasts: Duration,
    next: impl Fn(usize) -> &'static [u8],
) -> String {
    let deadline = REQUEST_TIME_MAX;
    let began = Instant::now();
    let mut beats = 0;
    while began.elapsed() < lasts {
        for (number, client) in clients.iter_mut().enumerate().filter(|(_, client)| client.ended.is_none()) {
            let age = client.since.elapsed();
            // What was said first is read first: a unix socket refuses what is sent to one that is cut off.
            let over = !is_open(&mut client.connection)
                || client.connection.try_send(next(number)).is_err() && !is_open(&mut client.connection);
            if over {
                client.ended = Some(age);
                let text = String::from_utf8_lossy(client.connection.unread()).into_owned();
                // Long bodies have few places in HAProxy, and wait there for no longer than 4 s.
                let queued = bodies && way == Way::Balanced && text.starts_with("HTTP/1.1 503 ");
                assert!(queued || age >= deadline - EARLY_MAX, "cut off after {age:?}: {text}");
                // A close under bytes that were on their way may have lost the answer.
                assert!(queued || text.is_empty() || text.starts_with("HTTP/1.1 408 "), "{text}");
            }
            assert!(over || age <= deadline + LATE_MAX, "still there after {age:?}");
        }
        beats += 1;
        std::thread::sleep((BEAT * beats).saturating_sub(began.elapsed()));
    }
    let ended: Vec<Duration> = clients.iter().filter_map(|client| client.ended).collect();
    let read = |status: &[u8]| {
        let read = clients.iter().filter(|client| client.connection.unread().starts_with(status));
        read.count()
    };
    let (told, queued) = (read(b"HTTP/1.1 408 "), read(b"HTTP/1.1 503 "));
    assert!(told + queued >= ended.len() * 9 / 10, "{told} of {} cut off read their 408", ended.len());
    if lasts < deadline {
        println!("too short to meet the deadline: --seconds 16 does");
    } else {
        assert!(
            ended.len() >= clients.len() * 9 / 10,
            "{} of {} met the deadline",
            ended.len(),
            clients.len()
        );
    }
    format!(
        "{} clients for {:.1?}, a byte each second; cut off: {} ({told} read their 408, {queued} a 503), after {:.1?} to {:.1?}",
        clients.len(),
        began.elapsed(),
        ended.len(),
        ended.iter().min().unwrap_or(&Duration::ZERO),
        ended.iter().max().unwrap_or(&Duration::ZERO),
    )
}

/// Reads what is there; whether the stream goes on.
fn is_open(connection: &mut Connection) -> bool {
    match connection.read_now() {
        Ok(bytes) => bytes > 0,
        Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
    }
}

/// Long answers that are asked for, several on each connection, and read a byte a second, through a window of nearly
/// nothing.
pub(crate) fn readers(ground: &Ground) -> String {
    ground.add_long_pessoas();
    let mut clients: Vec<Slow> = ground
        .addresses_of(READERS)
        .map(|(_, address)| {
            let mut connection = connect_with_window(&address, WINDOW).expect("a connection");
            connection.send(request("GET", "/pessoas?t=longa", "").repeat(2));
            std::thread::sleep(READERS_PAUSE);
            Slow { connection, since: Instant::now(), ended: None }
        })
        .collect();
    let (began, lasts) = (Instant::now(), seconds());
    let mut beats = 0;
    let mut held = 0;
    while began.elapsed() < lasts {
        for client in clients.iter_mut().filter(|client| client.ended.is_none()) {
            if client.connection.skip_byte_now().is_err() {
                client.ended = Some(client.since.elapsed());
            }
        }
        let health = ground.health();
        let account =
            |name: &str| health.iter().map(|health| health["held"][name].as_u64().unwrap()).sum::<u64>();
        held = held.max(account("gathered_bytes"));
        // What waits for a reader is bounded, and is given up at the deadline of a write.
        let limit = account("limit_bytes");
        assert!(account("gathered_bytes") <= limit, "{health:?}");
        beats += 1;
        std::thread::sleep((BEAT * beats).saturating_sub(began.elapsed()));
    }
    if lasts > WRITE_TIME_MAX + LATE_MAX {
        // The last write began when the last request had its turn: HAProxy has a queue.
        crate::load::wait_until("the end of the last write", || {
            ground.health().iter().all(|health| health["held"]["gathered_bytes"] == 0)
        });
    }
    format!(
        "{READERS} clients for {:.1?}, which read a byte each second of {} MiB at most that waited for them",
        began.elapsed(),
        held >> 20
    ) + if lasts > WRITE_TIME_MAX + LATE_MAX {
        ""
    } else {
        "; too short to meet the deadline: --seconds 16 does"
    }
}
