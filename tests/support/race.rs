//! Many clients that want the same apelidos at once.

#![allow(dead_code, reason = "each test file uses its own part of this")]

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::server::{Address, Connection, Response};

/// How long anything may take to become visible that has no promise of its own.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn body(apelido: &str, nome: &str) -> String {
    format!(r#"{{"apelido":"{apelido}","nome":"{nome}","nascimento":"2000-01-01","stack":["Rust"]}}"#)
}

/// What one client saw of one apelido.
pub(crate) struct Winner {
    pub(crate) apelido: usize,
    pub(crate) response: Response,
    /// Which instance said 201.
    pub(crate) instance: usize,
}

/// 64 clients post the same apelidos to all instances at once, each in an order of its own. Everyone goes on
/// until each of its creates has an answer that is not "unknown"; returns the 201s.
pub(crate) fn race(instances: &[Address], apelidos: usize) -> Vec<Winner> {
    const CLIENTS: usize = 64;
    let unknown = AtomicUsize::new(0);
    let winners: Vec<Winner> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let unknown = &unknown;
                scope.spawn(move || {
                    let mut won = Vec::new();
                    let mut connections: HashMap<usize, Connection> = HashMap::new();
                    for turn in 0..apelidos {
                        // Steps through all of them: 7919 is prime and no factor of the number of apelidos.
                        let apelido = (client * 31 + turn * 7919) % apelidos;
                        let mut instance = (client + turn) % instances.len();
                        let text = body(&format!("raced{apelido}"), &format!("client {client}"));
                        let began = Instant::now();
                        let response = loop {
                            assert!(began.elapsed() < PATIENCE, "no answer for raced{apelido}");
                            let open = connections
                                .remove(&instance)
                                .or_else(|| Connection::try_open(&instances[instance]).ok());
                            let asked = open.map(|mut open| (open.try_ask("POST", "/pessoas", &text), open));
                            if let Some((Ok(response), open)) = asked {
                                if response.header("Connection") != Some("close") {
                                    connections.insert(instance, open);
                                }
                                if response.status != 503 {
                                    break response;
                                }
                            }
                            // The outcome is unknown: the next instance is asked.
                            unknown.fetch_add(1, Ordering::Relaxed);
                            instance = (instance + 1) % instances.len();
                            std::thread::sleep(Duration::from_millis(2));
                        };
                        match response.status {
                            201 => won.push(Winner { apelido, response, instance }),
                            422 => {}
                            status => panic!("{status}: {}", response.text()),
                        }
                    }
                    won
                })
            })
            .collect();
        clients.into_iter().flat_map(|client| client.join().expect("a client")).collect()
    });
    println!("{} answers were unknown at first", unknown.into_inner());
    winners
}
