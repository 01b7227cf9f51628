//! Nothing acknowledged is ever lost: the real binary and a real Postgres, while one, the other or both are killed,
//! frozen, locked or made to refuse. What clients were told is compared with the table, row by row.

#[path = "../support/cluster.rs"]
mod cluster;
mod commits;
mod durable;
mod kills;
#[path = "../support/load.rs"]
mod load;
#[path = "../support/processes.rs"]
mod processes;
#[path = "../support/server.rs"]
mod server;
#[path = "../support/standby.rs"]
mod standby;
mod waits;

use std::path::Path;

use server::Address;

/// The servers under test: every fault meets a server with each of these arguments.
const SERVERS: &[&[&str]] = &[&["--cores", "1"], &["--cores", "2"]];

/// The promise: the first new 201 comes within this time of the database being back, in seconds.
const RECOVERY_SECONDS_MAX: u64 = 5;

/// Runs a test against every kind of server.
fn each_server(test: impl Fn(&[&str])) {
    for arguments in SERVERS {
        println!("server: {arguments:?}");
        test(arguments);
    }
}

/// A unix socket in `directory`, the same after a restart: the value of `--listen`, and where clients of core 0 go.
fn lasting_socket(directory: &Path) -> (String, Address) {
    let socket = |core: &str| directory.join(format!("api-{core}.sock"));
    (format!("unix:{}", socket("{core}").display()), Address::Unix(socket("0")))
}
