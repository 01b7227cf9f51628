//! A panic in a request, which a debug build has on request.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::cluster::{Cluster, temporary_directory};
use crate::load::Pessoa;
use crate::server::{Connection, Server, binary, database_url};

/// The contract's bound on an end.
const END_TIME_MAX: Duration = Duration::from_secs(10);

/// A panic in a request ends its client's connection, and nothing else, whichever core it happens on.
#[test]
fn a_panic_costs_one_connection() {
    let cluster = Cluster::start();
    let directory = temporary_directory();
    let socket = format!("unix:{}/core-{{core}}.sock", directory.path().display());
    let mut command = binary();
    command.env("RINHA_TEST_PANIC", "bomba");
    command.args(["--log-format=json", "--listen=127.0.0.1:0", "--cores=2", "--listen", &socket]);
    command.args(["--database-url", &database_url(&cluster.config())]);
    let mut server = Server::spawn(command);
    server.wait_until_serving();
    // One of the cores owns the apelido, the other asks it.
    let cores = server.addresses().split_off(1);
    let mut neighbours: Vec<Connection> = cores.iter().map(Connection::open).collect();
    for address in &cores {
        let mut client = Connection::open(address);
        let answer = client.try_ask("POST", "/pessoas", &Pessoa::named("bomba").body());
        assert!(answer.is_err(), "{answer:?}");
    }
    for neighbour in &mut neighbours {
        assert_eq!(neighbour.ask("GET", "/contagem-pessoas", "").text(), "0");
    }
    assert_eq!(server.ask("GET", "/healthz", "").json()["connections"]["panics"], 2);
    assert_eq!(Pessoa::named("depois").post_to(&server).status, 201);
    server.signal(Signal::SIGTERM);
    drop(neighbours);
    assert_eq!(server.wait(END_TIME_MAX).code(), Some(0));
}
