//! A request that trickles in slower than 10 s.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rinha::limits::REQUEST_TIME_MAX;

use crate::answer::{Client, expect, expect_persistence, request};
use crate::cluster::Cluster;
use crate::server::Connection;
use crate::world::{ARGUMENTS, Transport, World, person};

/// What is sent at once, and what then trickles in, again and again.
const CASES: &[(&str, &str)] = &[
    ("G", "E"),
    ("GET /pessoas/1 HTTP/1.1\r\nHost: a\r\nX: ", "x"),
    ("POST /pessoas HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n", "{"),
    ("POST /pessoas HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\n{\r\n"),
    // Not even one byte more: the time is the request's, not that between two bytes.
    ("GET /pessoas/1 HTTP/1.1\r\n", ""),
    // The invitation to send the body does not start the time again.
    (EXPECTS, ""),
    // The request before the late one was answered in time.
    ("GET /pessoas/1 HTTP/1.1\r\nHost: a\r\n\r\nGET /", "a"),
];

const EXPECTS: &str =
    "POST /pessoas HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n";

/// Everything waits at the same time, so that this takes little longer than one wait.
pub(crate) fn a_trickle_is_answered_408_then_closed() {
    let cluster = Cluster::start();
    let worlds: Vec<World> =
        ARGUMENTS.iter().map(|arguments| World::start(&cluster, arguments, Transport::Both, "")).collect();
    let mut waiting: Vec<(Client, &str)> = Vec::new();
    let mut patient = Vec::new();
    for address in worlds.iter().flat_map(World::addresses) {
        for (first, trickle) in CASES {
            let mut client = Client::new(Connection::open(&address));
            client.send(first);
            if *first == EXPECTS {
                client.receive_continue();
            }
            if first.contains("\r\n\r\nGET") {
                expect(&client.receive(), "404 ");
            }
            waiting.push((client, trickle));
        }
        // A connection between two requests may wait for longer, before the first one too.
        patient.push(Client::new(Connection::open(&address)));
    }
    let began = Instant::now();
    // The server looks for late requests when its clock turns a second; a byte in the very moment of the close would
    // reset the connection. So the bytes are sent in the middle of a second.
    let most = waiting.len();
    while waiting.len() == most {
        let into_second = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_millis();
        let until_middle =
            Duration::from_millis(u64::from(if into_second < 500 { 500 } else { 1_500 } - into_second));
        if waiting[0].0.hears_within(until_middle) {
            break;
        }
        for (client, trickle) in &mut waiting {
            client.send(trickle);
        }
    }
    // No 408 came too early. The second allows for the time in which the connections were made, before `began`.
    assert!(began.elapsed() + Duration::from_secs(1) > REQUEST_TIME_MAX, "{:?}", began.elapsed());
    // And none comes much later: the clock of a core has seconds, and the first tick may be close.
    let latest = REQUEST_TIME_MAX + Duration::from_secs(4);
    for (mut client, _) in waiting {
        let response = client.receive();
        assert!(began.elapsed() < latest, "{:?}", began.elapsed());
        expect(&response, "408 expected a whole request within 10 s of its first byte");
        expect_persistence(&response, Some("close"));
        client.expect_close();
    }
    for (number, mut client) in patient.into_iter().enumerate() {
        let body = person(&format!("patient {number}"));
        client.send(request("POST", "/pessoas", body.as_bytes()));
        expect(&client.receive(), "201");
    }
}
