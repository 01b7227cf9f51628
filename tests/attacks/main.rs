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
#[path = "../support/processes.rs"]
mod processes;
#[path = "../support/server.rs"]
mod server;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::server::{Address, Connection, Server};

/// Held by each attack: they take all that two CPUs have.
pub(crate) static ALONE: Mutex<()> = Mutex::new(());

/// Pause of a polite client between two requests.
const POLITE_PAUSE: Duration = Duration::from_millis(5);

/// Clients that ask for one pessoa again and again, each on a connection of its own that was made before the attack.
pub(crate) struct Polite {
    stop: std::sync::Arc<AtomicBool>,
    clients: Vec<JoinHandle<Vec<Duration>>>,
}

impl Polite {
    /// Two clients for each address.
    pub(crate) fn start(addresses: &[Address], path: &str) -> Polite {
        let stop = std::sync::Arc::new(AtomicBool::new(false));
        let clients = addresses.iter().cycle().take(2 * addresses.len()).map(|address| {
            let (stop, path) = (std::sync::Arc::clone(&stop), path.to_owned());
            let mut connection = Connection::open(address);
            thread::spawn(move || {
                let mut latencies = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let began = Instant::now();
                    let answer = connection.ask("GET", &path, "");
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    latencies.push(began.elapsed());
                    thread::sleep(POLITE_PAUSE);
                }
                latencies
            })
        });
        Polite { clients: clients.collect(), stop }
    }

    /// Ends them; how many requests there were, and their p50 and p99. Every one was answered 200.
    pub(crate) fn end(self) -> (usize, Duration, Duration) {
        self.stop.store(true, Ordering::Relaxed);
        let mut latencies: Vec<Duration> = self
            .clients
            .into_iter()
            .flat_map(|client| client.join().expect("a polite client is served"))
            .collect();
        latencies.sort_unstable();
        let at = |hundredths: usize| latencies[(latencies.len() - 1) * hundredths / 100];
        assert!(!latencies.is_empty());
        (latencies.len(), at(50), at(99))
    }
}

/// Resident memory of a server, in MiB.
pub(crate) fn resident_mib(server: &Server) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("a live server");
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its resident memory");
    kib.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") / 1024
}
