//! SIGTERM: `/healthz` turns 503, the backlog is accepted, what was received is answered, and the end is clean.

use std::thread::Builder;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::answer::{Client, expect, expect_persistence, request};
use crate::cluster::Cluster;
use crate::outage::{StoppedBackends, wait_until};
use crate::server::Connection;
use crate::world::{ARGUMENTS, Transport, World, person};

/// From SIGTERM to exit 0.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(10);

/// Each world has its thread: a drain that waits for an idle client takes three seconds.
pub(crate) fn sigterm() {
    let cluster = Cluster::start();
    std::thread::scope(|scope| {
        for arguments in ARGUMENTS {
            let world = World::start(&cluster, arguments, Transport::Both, "");
            let thread = Builder::new().name(arguments.join(" "));
            thread.spawn_scoped(scope, move || drains(world)).expect("a thread");
        }
    });
}

fn drains(mut world: World) {
    let created = world.create(person("before"));
    let path = format!("/pessoas/{}", created.id());
    let addresses = world.addresses();
    let open = || -> Vec<Client> {
        addresses.iter().map(|address| Client::new(Connection::open(address))).collect()
    };
    // Each core has a socket of its own, so that some of the connections lead to each.
    let (mut health, mut idle, mut pipelining, mut receiving) = (open(), open(), open(), open());
    for client in health.iter_mut().chain(&mut idle).chain(&mut pipelining).chain(&mut receiving) {
        expect(&client.ask("GET", &path, ""), "200");
    }
    // Half a request is there.
    for (number, client) in receiving.iter_mut().enumerate() {
        let post = request("POST", "/pessoas", person(&format!("half {number}")).as_bytes());
        client.send(&post[..post.len() / 2]);
    }
    // Whole requests are there that wait for Postgres.
    let mut answering = open();
    let stopped = StoppedBackends::stop(&world.database);
    for (number, client) in answering.iter_mut().enumerate() {
        client.send(request("POST", "/pessoas", person(&format!("waiting {number}")).as_bytes()));
    }
    wait_until("a create that waits", || {
        world.ask("GET", "/healthz", "").json()["database"]["creates_waiting"] != 0
    });
    // Connections in the backlog, with a request each: the server does not run while they are made.
    world.server.signal(Signal::SIGSTOP);
    let mut backlog: Vec<Client> = (0..3).flat_map(|_| open()).collect();
    for client in &mut backlog {
        client.send(request("GET", &path, b""));
    }
    let began = Instant::now();
    world.server.signal(Signal::SIGTERM);
    world.server.signal(Signal::SIGCONT);

    for client in &mut health {
        let draining = loop {
            let answer = client.ask("GET", "/healthz", "");
            if answer.status != 200 {
                break answer;
            }
        };
        assert_eq!((draining.status, draining.header("Content-Type")), (503, Some("application/json")));
        assert_eq!(draining.json()["status"], "draining");
        expect_persistence(&draining, Some("close"));
        client.expect_close();
    }

    drop(stopped);
    for client in &mut answering {
        let answer = client.receive();
        expect(&answer, "201");
        expect_persistence(&answer, Some("close"));
        client.expect_close();
    }
    for (number, client) in receiving.iter_mut().enumerate() {
        let post = request("POST", "/pessoas", person(&format!("half {number}")).as_bytes());
        client.send(&post[post.len() / 2..]);
        let answer = client.receive();
        expect(&answer, "201");
        expect_persistence(&answer, Some("close"));
        client.expect_close();
    }
    for client in &mut pipelining {
        client.send([request("GET", &path, b""), request("GET", "/contagem-pessoas", b"")].concat());
        expect(&client.receive(), "200");
        let answer = client.receive();
        expect(&answer, "200");
        expect_persistence(&answer, Some("close"));
        client.expect_close();
    }
    for client in &mut backlog {
        let answer = client.receive();
        assert_eq!((answer.status, &answer.body), (200, &created.body));
        // A connection that was accepted just before the drain may go on, to an answer that closes it.
        if answer.header("Connection").is_none() {
            expect_persistence(&client.ask("GET", &path, ""), Some("close"));
        }
        client.expect_close();
    }
    for client in &mut idle {
        client.expect_close();
    }
    let status = world.server.wait(DRAIN_TIME_MAX.saturating_sub(began.elapsed()));
    assert_eq!(status.code(), Some(0), "{:#?}", world.server.log());
    let acknowledged = world.query("SELECT count(*) FROM pessoas WHERE apelido ~ 'before|half|waiting'");
    assert_eq!(acknowledged, [(1 + 2 * addresses.len()).to_string()]);
}
