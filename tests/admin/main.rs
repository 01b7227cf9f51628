//! The admin listener: what it says, when, to whom, and what it costs its neighbours: nothing.

mod bounds;
#[path = "../support/cluster.rs"]
mod cluster;
mod exposition;
mod live;
#[path = "../support/load.rs"]
mod load;
mod monitoring;
mod moves;
#[path = "../support/processes.rs"]
mod processes;
mod prometheus;
mod ready;
#[path = "../support/server.rs"]
mod server;

use cluster::{Cluster, temporary_directory};
use exposition::Exposition;
use load::wait_until;
use server::{Address, Connection, Response, Server, database_url};
use tempfile::TempDir;

/// A server with an admin listener, on a database of a test's own.
struct Watched {
    server: Server,
    admin: Address,
}

/// The address at which a server's operators are answered, as its log says.
fn admin_of(server: &Server) -> Address {
    let mut address = None;
    wait_until("an admin listener", || {
        let said = server.events().into_iter().find(|event| event["message"] == "operators are answered");
        address = said.map(|event| event["address"].as_str().expect("a text").to_owned());
        address.is_some()
    });
    Address::parse(&address.expect("an address"))
}

impl Watched {
    /// On a port of loopback that is free.
    fn start(cluster: &Cluster, arguments: &[&str]) -> Watched {
        let server = Server::on(&cluster.config(), &[&["--admin=127.0.0.1:0"], arguments].concat());
        let admin = admin_of(&server);
        Watched { server, admin }
    }

    fn ask(&self, target: &str) -> Response {
        Connection::open(&self.admin).ask("GET", target, "")
    }

    fn metrics(&self) -> Exposition {
        let answer = self.ask("/metrics");
        assert_eq!(answer.status, 200);
        Exposition::read(answer.text())
    }
}

/// A unix socket for operators, in a directory that goes with the guard.
fn unix_socket() -> (TempDir, String) {
    let directory = temporary_directory();
    let listen = format!("unix:{}", directory.path().join("admin.sock").display());
    (directory, listen)
}
