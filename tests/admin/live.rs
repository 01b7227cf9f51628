//! The live page's stream, as bytes; `tests/live` looks at the page itself.

use std::time::{Duration, Instant};

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::sys::signal::Signal;
use rinha::limits::{
    ADMIN_TIME_MAX, LIVE_PEER_TIME_MAX, LIVE_PERIOD, LIVE_SNAPSHOT_BYTES_MAX, LIVE_WATCHERS_MAX,
};
use serde_json::Value;

use crate::cluster::Cluster;
use crate::load::{Pessoa, wait_until};
use crate::server::{Address, Connection, Server};
use crate::{Watched, admin_of, unix_socket};

/// Somebody who watches.
struct Watcher(Connection);

impl Watcher {
    fn start(admin: &Address) -> Watcher {
        let mut connection = Connection::open(admin);
        connection.send("GET /live/events HTTP/1.1\r\nHost: a\r\n\r\n");
        Watcher(connection)
    }

    fn head(&mut self) -> String {
        wait_until("a head", || {
            assert!(self.0.read_once().is_ok(), "the stream goes on");
            String::from_utf8_lossy(self.0.unread()).contains("\r\n\r\n")
        });
        let text = String::from_utf8_lossy(self.0.unread());
        text.split("\r\n\r\n").next().expect("a head").to_owned()
    }

    /// The next whole event for which this holds.
    fn wait_for(&mut self, what: &str, holds: impl Fn(&Value) -> bool) {
        let mut seen = 0;
        wait_until(what, || {
            assert!(self.0.read_once().is_ok(), "the stream goes on");
            let text = String::from_utf8_lossy(self.0.unread()).into_owned();
            let whole = text.rsplit_once("\n\n").map_or("", |(whole, _)| whole);
            let events: Vec<Value> = whole
                .split("\n\n")
                .filter_map(|event| Some(event.strip_prefix("data: ")?.trim_end_matches('\n')))
                .map(|data| serde_json::from_str(data).expect("an event is one line of JSON"))
                .collect();
            let held = events[seen.min(events.len())..].iter().any(&holds);
            seen = events.len();
            held
        });
    }
}

/// The snapshot of one instance of an event.
fn snapshot(event: &Value, instance: usize) -> Option<Value> {
    let text = event["instances"][instance]["snapshot"].as_str()?;
    Some(serde_json::from_str(text).expect("a snapshot is JSON"))
}

#[test]
fn events_come_once_a_second_and_say_what_the_metrics_say() {
    let cluster = Cluster::start();
    let watched = Watched::start(&cluster, &["--cores=2"]);
    let mut watcher = Watcher::start(&watched.admin);
    let head = watcher.head();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains("\r\nContent-Type: text/event-stream\r\n"), "{head}");
    assert_eq!(Pessoa::named("Ana").post_to(&watched.server).status, 201);
    watcher.wait_for("the create in an event", |event| {
        let now = snapshot(event, 0).expect("it is there");
        let created = now["requests"].as_array().expect("a list").iter().any(|each| {
            each["route"] == "/pessoas" && each["status"] == 201 && each["seconds"]["count"] == 1
        });
        created
            && now["pessoas"] == 1
            && now["stage"] == "serving"
            && now["drivers"].as_array().unwrap().len() == 2
    });
    // Whoever asks once gets the same.
    let now = watched.ask("/live/now").json();
    assert_eq!(now["pessoas"], 1);
    assert_eq!(now["queues"].as_array().map(Vec::len), Some(6));
    assert!(now["queues"].as_array().unwrap().iter().all(|queue| queue["limit"].as_u64() > Some(0)));
}

/// Those who watch have places of their own, get them back, and take nobody else's.
#[test]
fn watchers_are_few_and_in_nobodys_way() {
    let cluster = Cluster::start();
    let watched = Watched::start(&cluster, &[]);
    let mut watchers: Vec<Watcher> = (0..LIVE_WATCHERS_MAX).map(|_| Watcher::start(&watched.admin)).collect();
    for watcher in &mut watchers {
        assert!(watcher.head().contains("text/event-stream"));
    }
    let refused = watched.ask("/live/events");
    assert_eq!(refused.status, 503);
    assert!(refused.text().contains("too many watch the live page"), "{}", refused.text());
    assert_eq!(watched.ask("/readyz").status, 200);
    assert_eq!(watched.ask("/metrics").status, 200);
    drop(watchers);
    wait_until("places that are free again", || Watcher::start(&watched.admin).head().contains("200 OK"));
    assert_eq!(Connection::open(&watched.admin).ask("POST", "/live/events", "").status, 405);
}

/// A stream that is read goes on, however long an answer may take otherwise.
#[test]
fn a_stream_that_is_read_does_not_end() {
    let cluster = Cluster::start();
    let watched = Watched::start(&cluster, &[]);
    let mut watcher = Watcher::start(&watched.admin);
    let began = Instant::now();
    let events = 3 + ADMIN_TIME_MAX.as_secs() / LIVE_PERIOD.as_secs();
    for _ in 0..events {
        watcher.0.forget();
        watcher.wait_for("an event", |_| true);
    }
    assert!(began.elapsed() > ADMIN_TIME_MAX, "{events} events in {:?}", began.elapsed());
}

/// Who has said all that it has to say still reads. Who is gone does not, and its place is another's.
#[test]
fn who_ends_its_own_direction_still_watches() {
    let cluster = Cluster::start();
    let (_directory, listen) = unix_socket();
    let over_tcp = Watched::start(&cluster, &["--cores=1"]);
    let over_unix = Server::on(&cluster.config(), &["--admin", &listen, "--cores=1"]);
    for admin in [&over_tcp.admin, &admin_of(&over_unix)] {
        let mut watchers: Vec<Watcher> = (0..LIVE_WATCHERS_MAX).map(|_| Watcher::start(admin)).collect();
        for watcher in &mut watchers {
            watcher.0.finish();
        }
        for _ in 0..3 {
            for watcher in &mut watchers {
                watcher.0.forget();
                watcher.wait_for("an event", |_| true);
            }
        }
        drop(watchers);
        wait_until("places that are free again", || Watcher::start(admin).head().contains("200 OK"));
    }
}

/// Who takes no event, however many places it has, loses them.
#[test]
fn who_reads_too_slowly_is_closed() {
    let cluster = Cluster::start();
    // Events of 64 KiB: what a reader's kernel takes is soon full. The sender's would take megabytes if it was let.
    let peer = liar(answer_of(&"x".repeat(64 * 1024)), &Arc::default());
    let watched = Watched::start(&cluster, &["--admin-peers", &peer]);
    let mut slow: Vec<Watcher> = (0..LIVE_WATCHERS_MAX).map(|_| Watcher::start(&watched.admin)).collect();
    wait_until("places that are taken", || watched.ask("/live/events").status == 503);
    wait_until("a place", || {
        let mut next = Watcher::start(&watched.admin);
        next.head().starts_with("HTTP/1.1 200 OK")
    });
    // What was sent before is still there; then comes the end, in the middle of an event.
    wait_until("ends", || slow.iter_mut().any(|watcher| watcher.0.read_once().is_err()));
    assert_eq!(watched.ask("/readyz").status, 200);
}

/// Peers are asked once a period while somebody watches, however many do, and never while nobody does.
#[test]
fn nothing_is_gathered_for_nobody_and_once_for_all() {
    let cluster = Cluster::start();
    let asked = Arc::new(AtomicUsize::new(0));
    let peer = liar(answer_of("{}"), &asked);
    let watched = Watched::start(&cluster, &["--admin-peers", &peer]);
    assert_eq!(watched.ask("/live").status, 200);
    assert_eq!(watched.ask("/live/now").status, 200);
    std::thread::sleep(2 * LIVE_PERIOD);
    assert_eq!(asked.load(Ordering::SeqCst), 0, "nobody watches");
    let began = Instant::now();
    let mut watchers: Vec<Watcher> = (0..5).map(|_| Watcher::start(&watched.admin)).collect();
    for _ in 0..4 {
        for watcher in &mut watchers {
            watcher.0.forget();
            watcher.wait_for("an event", |_| true);
        }
    }
    let count = asked.load(Ordering::SeqCst);
    // The first is at once.
    let periods = usize::try_from(began.elapsed().as_millis() / LIVE_PERIOD.as_millis()).expect("few") + 2;
    assert!((2..=periods).contains(&count), "{count} in {periods} periods");
    drop(watchers);
    let mut before = usize::MAX;
    wait_until("an end of the questions", || {
        let count = asked.load(Ordering::SeqCst);
        std::thread::sleep(2 * LIVE_PERIOD);
        std::mem::replace(&mut before, count) == count
    });
}

/// Who watches sees the end come, and does not put it off.
#[test]
fn a_drain_is_shown_and_not_held_up() {
    let cluster = Cluster::start();
    let mut watched = Watched::start(&cluster, &["--cores=1"]);
    let mut client = watched.server.connect();
    assert!(client.is_alive());
    let mut watcher = Watcher::start(&watched.admin);
    watcher.wait_for("an event", |event| snapshot(event, 0).is_some_and(|now| now["stage"] == "serving"));
    watched.server.signal(Signal::SIGTERM);
    watcher.wait_for("a drain", |event| snapshot(event, 0).is_some_and(|now| now["stage"] == "draining"));
    drop(client);
    assert_eq!(watched.server.wait(Duration::from_secs(10)).code(), Some(0));
}

/// An answer with this body.
fn answer_of(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// The address of something that answers everybody so, and counts them; with nothing it never answers.
fn liar(answer: Vec<u8>, asked: &Arc<AtomicUsize>) -> String {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a socket");
    let address = listener.local_addr().expect("its address").to_string();
    let asked = Arc::clone(asked);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            asked.fetch_add(1, Ordering::SeqCst);
            if answer.is_empty() {
                std::mem::forget(stream);
                continue;
            }
            // Who closes with unread bytes resets the connection. The server may be gone before it has all.
            let mut request = [0; 1024];
            let _ = (&stream).read(&mut request).and_then(|_| (&stream).write_all(&answer));
        }
    });
    address
}

/// A peer that is not there, that does not answer, that sends too much or something else, costs one line.
#[test]
fn peers_that_are_away_or_lie() {
    let cluster = Cluster::start();
    let other = Watched::start(&cluster, &[]);
    let liar = |answer: Vec<u8>| liar(answer, &Arc::default());
    let nobody = crate::processes::Child::free_port();
    let body = "\n\ndata: x\n\n";
    let peers = [
        match &other.admin {
            Address::Tcp(address) => address.to_string(),
            Address::Unix(path) => path.display().to_string(),
        },
        format!("127.0.0.1:{nobody}"),
        liar(Vec::new()),
        liar(vec![b'x'; 2 * LIVE_SNAPSHOT_BYTES_MAX]),
        liar(b"SSH-2.0-OpenSSH_9\r\n".to_vec()),
        liar(answer_of(body)),
        "unix:/nowhere/admin.sock".to_owned(),
    ];
    let watched = Watched::start(&cluster, &["--admin-peers", &peers.join(",")]);
    let mut watcher = Watcher::start(&watched.admin);
    let began = Instant::now();
    watcher.wait_for("an event with all of them", |event| {
        let instances = event["instances"].as_array().expect("a list");
        assert_eq!(instances.len(), 1 + peers.len());
        assert!(snapshot(event, 0).is_some() && snapshot(event, 1).is_some(), "{event}");
        let away = |instance: usize| instances[instance]["away"].as_str().unwrap_or_default();
        assert!(away(2).contains("refused"), "{event}");
        assert!(away(3).contains("no answer within"), "{event}");
        assert!(away(4).contains("an answer of more than"), "{event}");
        assert!(away(5).contains("expected a rinha server's --admin"), "{event}");
        // What it says stays a text within the event.
        assert_eq!(instances[6]["snapshot"], body, "{event}");
        assert!(away(7).contains("No such file"), "{event}");
        true
    });
    assert!(began.elapsed() < 4 * LIVE_PEER_TIME_MAX + Duration::from_secs(5));
}
