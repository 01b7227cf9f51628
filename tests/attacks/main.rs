//! Hostile clients: a server in a small cgroup that must not be killed, that goes on serving polite clients meanwhile,
//! and that gives everything back afterwards; and cores, exits and logs that nobody may hold up. `RINHA_TEST_BINARY` names
//! another binary to attack than this build's, such as the release build.

#[path = "../support/cgroup.rs"]
mod cgroup;
#[path = "../support/cluster.rs"]
mod cluster;
#[path = "../support/load.rs"]
mod load;
mod on_memory;
mod on_time;
#[path = "../support/polite.rs"]
mod polite;
#[path = "../support/processes.rs"]
mod processes;
#[path = "../support/server.rs"]
mod server;

use std::sync::Mutex;

use crate::server::Server;

/// Held by each attack: they take all that two CPUs have.
pub(crate) static ALONE: Mutex<()> = Mutex::new(());

/// Resident memory of a server, in MiB.
pub(crate) fn resident_mib(server: &Server) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("a live server");
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its resident memory");
    kib.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") / 1024
}
