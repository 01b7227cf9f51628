//! The contract's main rows as a client of the one port sees them, and what two instances behind it owe each other.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use crate::answer::{Client, expect};
use crate::composition::{Composition, INSTANCES};
use crate::load::wait_until;
use crate::race::{body, race};
use crate::server::{Connection, Response};
use crate::tell;

const ANA: &str = r#"{"apelido":"ana","nome":"Ana Barbosa","nascimento":"1985-09-23","stack":["C#","Node"]}"#;
const NOBODY: &str = "/pessoas/0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5c";

/// What is asked once `ANA` is there, and how it is answered: a status, and of a problem the start of its detail.
const ROWS: &[(&str, &str, &str, &str)] = &[
    ("POST", "/pessoas", ANA, "422 `apelido`: expected one that no other pessoa has"),
    ("POST", "/pessoas", r#"{"apelido":null,"nome":"Ana","nascimento":"1985-09-23"}"#, "422 `apelido`"),
    ("POST", "/pessoas", r#"{"apelido":"b","nome":null,"nascimento":"1985-09-23"}"#, "422 `nome`"),
    ("POST", "/pessoas", r#"{"apelido":"b","nome":"Ana","nascimento":"1985-02-29"}"#, "422 `nascimento`"),
    ("POST", "/pessoas", r#"{"apelido":"b","nome":1,"nascimento":"1985-09-23"}"#, "400 `nome`"),
    (
        "POST",
        "/pessoas",
        r#"{"apelido":"b","nome":"Ana","nascimento":"1985-09-23","stack":[1]}"#,
        "400 `stack[0]`",
    ),
    ("POST", "/pessoas", "{", "400 the body"),
    ("GET", "/pessoas", "", "400 "),
    ("GET", "/pessoas?t=%", "", "400 "),
    ("GET", "/pessoas/1", "", "404 "),
    ("GET", NOBODY, "", "404 no pessoa has this id"),
    ("HEAD", NOBODY, "", "404"),
    ("GET", "/", "", "303"),
    ("GET", "/docs", "", "200"),
    ("GET", "/nowhere", "", "404 "),
    ("DELETE", "/pessoas", "", "405 "),
    ("GET", "/pessoas?t=NODE", "", "200"),
    ("HEAD", "/pessoas?t=NODE", "", "200"),
    ("HEAD", "/contagem-pessoas", "", "200"),
    ("GET", "/healthz", "", "200"),
];

/// Asks each row of both instances, on an empty database.
pub(crate) fn main_rows(composition: &dyn Composition) {
    let mut client = Client::new(Connection::open(&composition.address()));
    assert_eq!(count(&mut client), 0);
    let created = client.ask("POST", "/pessoas", ANA);
    assert_eq!(created.status, 201);
    let path = format!("/pessoas/{}", created.id());
    for _ in INSTANCES {
        let got = client.ask("GET", &path, "");
        assert_eq!((got.status, &got.body), (200, &created.body));
        let head = client.ask("HEAD", &path, "");
        assert_eq!((head.status, head.header("Content-Length")), (200, got.header("Content-Length")));
    }
    // The other instance learns of ana within a second. This waits for that, so that no row has to.
    wait_until("ana in both instances", || {
        INSTANCES
            .iter()
            .all(|_| client.ask("GET", "/pessoas?t=ana+BARB", "").json().as_array().unwrap().len() == 1)
    });
    // Each row is asked as often as there are instances, which take turns.
    for &(method, target, body, expected) in ROWS {
        for _ in INSTANCES {
            let answer = client.ask(method, target, body);
            match method {
                "HEAD" => assert_eq!((answer.status.to_string(), answer.text()), (expected.to_owned(), "")),
                _ => expect(&answer, expected),
            }
        }
    }
    let found = client.ask("GET", "/pessoas?t=node", "");
    assert_eq!(found.json(), serde_json::json!([created.json()]));
    assert_eq!(client.ask("GET", "/pessoas?t=nobody", "").text(), "[]");
    assert_eq!(count(&mut client), 1);
}

fn count(client: &mut Client) -> u64 {
    client.ask("GET", "/contagem-pessoas", "").text().parse().unwrap()
}

/// A balancer without servers answers in their place.
pub(crate) fn no_server_yet(composition: &dyn Composition) {
    wait_until("the balancer's own answer", || {
        let answer = Connection::try_open(&composition.address())
            .and_then(|mut connection| connection.try_ask("POST", "/pessoas", ANA));
        answer.is_ok_and(|answer| {
            assert_eq!((answer.status, answer.header("Retry-After")), (503, Some("1")), "{answer:?}");
            assert_eq!(answer.header("Content-Type"), Some("application/problem+json"));
            true
        })
    });
}

/// Each create is read at once: through the balancer, which asks the instance that made it, and of the other one.
pub(crate) fn read_your_write(composition: &dyn Composition) {
    const PESSOAS: u64 = 300;
    let before = composition.statistics();
    let mut connection = Connection::open(&composition.address());
    let mut instances = INSTANCES.map(|name| Connection::open(&composition.instance(name)));
    let mut made = [0; INSTANCES.len()];
    for number in 0..PESSOAS {
        let created = connection.ask("POST", "/pessoas", &body(&format!("mine{number}"), "Mine"));
        assert_eq!(created.status, 201, "{created:?}");
        let path = format!("/pessoas/{}", created.id());
        let maker = ["80", "81"].iter().position(|digits| created.id()[19..].starts_with(digits));
        let maker = maker.expect("an id names its instance");
        made[maker] += 1;
        for asked in [&mut connection, &mut instances[1 - maker]] {
            let got = asked.ask("GET", &path, "");
            assert_eq!((got.status, &got.body), (200, &created.body));
        }
    }
    assert!(made.iter().all(|made| (PESSOAS / 2 - 5..=PESSOAS / 2 + 5).contains(made)), "evenly: {made:?}");
    let after = composition.statistics();
    for (name, made) in INSTANCES.iter().zip(made) {
        let server = format!("{name}-0");
        let requests = after[&server].requests - before[&server].requests;
        assert_eq!(after[&server].status, "UP", "{server}");
        // The engine's health check asks now and then.
        assert!(requests.abs_diff(2 * made) <= 5, "{server}: {requests} requests, {made} of them creates");
    }
}

/// A search finds a pessoa through either instance within a second of its 201.
pub(crate) fn found_by_both(composition: &dyn Composition) {
    let mut slowest = Duration::ZERO;
    let mut connection = Connection::open(&composition.address());
    let mut instances = INSTANCES.map(|name| Connection::open(&composition.instance(name)));
    for number in 0..50 {
        let apelido = format!("sought{number:02}");
        let created = connection.ask("POST", "/pessoas", &body(&apelido, "Sought"));
        let began = Instant::now();
        assert_eq!(created.status, 201);
        let expected = [b"[", &created.body[..], b"]"].concat();
        for instance in &mut instances {
            wait_until("a search that finds it", || {
                instance.ask("GET", &format!("/pessoas?t={apelido}"), "").body == expected
            });
            slowest = slowest.max(began.elapsed());
        }
    }
    tell!("   within {slowest:?}");
    assert!(slowest < Duration::from_secs(1), "the contract's promise");
}

/// Many clients want the same apelidos; each apelido gets one 201, and everyone can read it.
pub(crate) fn one_winner(composition: &dyn Composition) {
    const APELIDOS: usize = 200;
    let winners = race(&[composition.address()], APELIDOS);
    let apelidos: HashSet<usize> = winners.iter().map(|winner| winner.apelido).collect();
    assert_eq!((winners.len(), apelidos.len()), (APELIDOS, APELIDOS), "each apelido has exactly one 201");
    for name in INSTANCES {
        let mut connection = Connection::open(&composition.instance(name));
        for Response { body, .. } in winners.iter().map(|winner| &winner.response) {
            let id = serde_json::from_slice::<serde_json::Value>(body).unwrap()["id"].take();
            let got = connection.ask("GET", &format!("/pessoas/{}", id.as_str().unwrap()), "");
            assert_eq!((got.status, &got.body), (200, body));
        }
    }
}

/// Clients that trickle in their bodies take no slot from others, whether the balancer's buffer holds the body or not.
pub(crate) fn slow_bodies(composition: &dyn Composition) {
    // More than both instances have slots.
    const SLOW: usize = 2_300;
    let address = composition.address();
    let slow = |fields: &str, length: usize, sent: usize| {
        let head = format!("POST /pessoas HTTP/1.1\r\nHost: a\r\n{fields}Content-Length: {length}\r\n\r\n");
        let mut connection = Connection::open(&address);
        connection.send([head.as_bytes(), &vec![b' '; sent]].concat());
        connection
    };
    let short: Vec<Connection> = (0..SLOW).map(|_| slow("", 100, 1)).collect();
    // With a long head, a body that is not long in itself does not fit either.
    let fields = format!("X: {0}\r\nY: {0}\r\n", "x".repeat(3_500));
    let long: Vec<Connection> = (0..600)
        .map(|number| if number % 2 == 0 { slow("", 30_000, 20_000) } else { slow(&fields, 11_000, 9_000) })
        .collect();
    let began = Instant::now();
    for number in 0..10 {
        let created =
            Connection::open(&address).ask("POST", "/pessoas", &body(&format!("slow{number}"), "Slow"));
        assert_eq!(created.status, 201, "{created:?}");
        let got = Connection::open(&address).ask("GET", &format!("/pessoas/{}", created.id()), "");
        assert_eq!((got.status, got.body), (200, created.body));
    }
    // A short body in chunks is no long one.
    let pessoa = body("chunks", "Slow");
    let mut client = Connection::open(&address);
    client.send(format!(
        "POST /pessoas HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{pessoa}\r\n0\r\n\r\n",
        pessoa.len()
    ));
    assert_eq!(client.receive().status, 201);
    tell!("   21 requests in {:?}, beside {} slow clients", began.elapsed(), short.len() + long.len());
}

/// HTTP/2 by prior knowledge and a transfer coding that nobody knows are refused, in HTTP/1.1. What the balancer cannot
/// parse it answers with a page of its own.
pub(crate) fn other_protocols(composition: &dyn Composition) {
    let address = composition.address();
    let mut client = Connection::open(&address);
    client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00");
    let refused = client.receive();
    assert!([400, 505].contains(&refused.status), "{refused:?}");
    let mut client = Connection::open(&address);
    client.send("POST /pessoas HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: cow, chunked\r\n\r\n0\r\n\r\n");
    let refused = client.receive();
    tell!("   an unknown transfer coding: {} {:?}", refused.status, refused.header("Content-Type"));
    assert!([400, 422, 501].contains(&refused.status), "{refused:?}");
}
