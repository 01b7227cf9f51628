//! Clients that behave, beside an attack: what it costs them is what an attack costs.

#![allow(dead_code, reason = "each test file uses its own part of this")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::server::{Address, Connection};

/// Pause of a polite client between two requests.
const PAUSE: Duration = Duration::from_millis(5);
/// Clients for each address.
const CLIENTS: usize = 2;

/// Clients that ask again and again, each on a connection of its own that was made before the attack.
pub(crate) struct Polite {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Vec<Duration>>>,
}

impl Polite {
    /// Clients that ask for one pessoa.
    pub(crate) fn start(addresses: &[Address], path: &str) -> Polite {
        let path = path.to_owned();
        Polite::asking(addresses, move |connection, _| {
            let answer = connection.ask("GET", &path, "");
            assert_eq!(answer.status, 200, "{}", answer.text());
        })
    }

    /// Clients that call `ask` with their connection and the number of the request; it panics at a wrong answer.
    pub(crate) fn asking(
        addresses: &[Address],
        ask: impl Fn(&mut Connection, usize) + Clone + Send + 'static,
    ) -> Polite {
        let stop = Arc::new(AtomicBool::new(false));
        let clients = addresses.iter().cycle().take(CLIENTS * addresses.len()).map(|address| {
            let (stop, ask) = (Arc::clone(&stop), ask.clone());
            let mut connection = Connection::open(address);
            thread::spawn(move || {
                let mut latencies = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let began = Instant::now();
                    ask(&mut connection, latencies.len());
                    latencies.push(began.elapsed());
                    thread::sleep(PAUSE);
                }
                latencies
            })
        });
        Polite { clients: clients.collect(), stop }
    }

    /// Ends them; how many requests there were, and their p50 and p99. Every one was answered as it should be.
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
