//! Clients of every kind at every instance, who write down what they asked and what they were told.

#![allow(dead_code, reason = "each test file uses its own part of this")]

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rinha::limits::BALANCER_TIME_MAX;
use serde_json::Value;

use crate::history::{Asked, Entry, FRESH_MAX, Told};
use crate::load::Pessoa;
use crate::server::{Address, Connection, Response};

/// Clients of each instance that create.
const CREATORS: usize = 2;
/// Pauses of a client: of those that create, of those that race, of those that read what memory has, and of those that
/// search and count.
const CREATE_PAUSE: Duration = Duration::from_millis(8);
const RACE_PERIOD: Duration = Duration::from_millis(50);
const READ_PAUSE: Duration = Duration::from_millis(5);
const LOOK_PAUSE: Duration = Duration::from_millis(60);
/// One in so many new pessoas is searched for at once where it was created.
const OWN_SEARCHES: usize = 4;
/// A client hangs up later than a balancer does, and no server answers later than that.
const PATIENCE: Duration = BALANCER_TIME_MAX.saturating_add(Duration::from_secs(1));
/// Before the same pessoa is sent again.
const RETRY_PAUSE: Duration = Duration::from_millis(20);
/// The first text of an answer that says so (the contract's `detail`).
const NOTHING: &str = "nothing was stored";

/// What is common to all clients.
struct Shared {
    epoch: Instant,
    instances: Vec<Address>,
    /// Pessoas that every instance had in memory before the history began.
    known: Vec<String>,
    stop: AtomicBool,
    /// 201s of each instance.
    acknowledged: Vec<AtomicUsize>,
    recent: Recent,
}

/// When a pessoa was acknowledged, and its apelido and id: what others look for.
pub(crate) type Recent = Arc<Mutex<Vec<(Duration, String, String)>>>;

/// Clients at work; stopped when dropped.
pub(crate) struct Clients {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<Vec<Entry>>>,
}

impl Clients {
    /// Starts clients at every instance. `prefix` begins their apelidos, and no other run's.
    pub(crate) fn start(
        instances: &[Address],
        known: Vec<String>,
        prefix: &str,
        seed: u64,
        epoch: Instant,
    ) -> Clients {
        let shared = Arc::new(Shared {
            epoch,
            instances: instances.to_vec(),
            known,
            stop: AtomicBool::new(false),
            acknowledged: instances.iter().map(|_| AtomicUsize::new(0)).collect(),
            recent: Recent::default(),
        });
        let mut clients = Vec::new();
        for instance in 0..instances.len() {
            for number in 0..CREATORS {
                let prefix = format!("{prefix}c{instance}{number}.");
                clients.push(spawn(&shared, seed ^ (instance * 16 + number) as u64, move |client| {
                    client.create(instance, &prefix);
                }));
            }
            let racing = format!("{prefix}r.");
            clients.push(spawn(&shared, seed ^ (instance + 1000) as u64, move |client| {
                client.race(instance, &racing);
            }));
            clients
                .push(spawn(&shared, seed ^ (instance + 2000) as u64, move |client| client.read(instance)));
            clients
                .push(spawn(&shared, seed ^ (instance + 3000) as u64, move |client| client.look(instance)));
        }
        Clients { shared, clients }
    }

    /// How many 201s each instance gave so far.
    pub(crate) fn acknowledged(&self) -> Vec<usize> {
        self.shared.acknowledged.iter().map(|count| count.load(Ordering::Relaxed)).collect()
    }

    /// For whoever else creates: what is put here is looked for.
    pub(crate) fn recent(&self) -> Recent {
        Arc::clone(&self.shared.recent)
    }

    /// What all of them asked and were told.
    pub(crate) fn finish(mut self) -> Vec<Entry> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let clients = std::mem::take(&mut self.clients).into_iter();
        clients
            .flat_map(|client| client.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            let _ = client.join();
        }
    }
}

fn spawn(
    shared: &Arc<Shared>,
    seed: u64,
    work: impl FnOnce(&mut Client) + Send + 'static,
) -> JoinHandle<Vec<Entry>> {
    let shared = Arc::clone(shared);
    thread::spawn(move || {
        let random = StdRng::seed_from_u64(seed);
        let mut client = Client { shared, random, connections: HashMap::new(), entries: Vec::new() };
        work(&mut client);
        client.entries
    })
}

struct Client {
    shared: Arc<Shared>,
    random: StdRng,
    connections: HashMap<usize, Connection>,
    entries: Vec<Entry>,
}

impl Client {
    fn is_over(&self) -> bool {
        self.shared.stop.load(Ordering::Relaxed)
    }

    /// New pessoas, each until its fate is known, and each read at once through another instance. An apelido ends with a
    /// point, so that no other has it in it.
    fn create(&mut self, instance: usize, prefix: &str) {
        let instances = self.shared.instances.len();
        for number in 0.. {
            if self.is_over() {
                return;
            }
            let pessoa = Pessoa::random(&mut self.random, format!("{prefix}{number}."));
            while let Told::Unavailable | Told::Lost | Told::Nothing = self.post(instance, &pessoa) {
                if self.is_over() {
                    return;
                }
                thread::sleep(RETRY_PAUSE);
            }
            if let Some(Entry { told: Told::Created { id, .. }, .. }) = self.entries.last() {
                let id = id.clone();
                self.get((instance + 1 + number % (instances - 1)) % instances, &id, false);
                // Memory of the instance that said 201 has it too.
                if number % OWN_SEARCHES == 0 {
                    self.search(instance, pessoa.apelido);
                }
            }
            thread::sleep(CREATE_PAUSE);
        }
    }

    /// The same apelidos as the other racers, at about the same time, with another content.
    fn race(&mut self, instance: usize, prefix: &str) {
        while !self.is_over() {
            let number = self.shared.epoch.elapsed().as_millis() / RACE_PERIOD.as_millis() + 1;
            let due = RACE_PERIOD * u32::try_from(number).expect("a short test");
            thread::sleep(due.saturating_sub(self.shared.epoch.elapsed()));
            let mut pessoa = Pessoa::named(&format!("{prefix}{number}."));
            pessoa.nome = format!("racer {instance}");
            self.post(instance, &pessoa);
        }
    }

    /// What memory has, on and on.
    fn read(&mut self, instance: usize) {
        let known = self.shared.known.clone();
        for id in known.iter().cycle() {
            if self.is_over() {
                return;
            }
            self.get(instance, id, true);
            thread::sleep(READ_PAUSE);
        }
    }

    /// Searches, counts, and reads of others' new pessoas.
    fn look(&mut self, instance: usize) {
        for number in 0_usize.. {
            if self.is_over() {
                return;
            }
            let now = self.shared.epoch.elapsed();
            let recent = self.shared.recent.lock().unwrap_or_else(PoisonError::into_inner);
            // The newest that a search must find; else any.
            let due = recent.partition_point(|(at, _, _)| *at + FRESH_MAX * 11 / 10 < now);
            let chosen = match number % 6 {
                // It need not be found yet: how old such a one gets is told.
                0 => recent.last().cloned(),
                _ if due == 0 => None,
                1 => recent.get(due - 1).cloned(),
                _ => recent.get(self.random.random_range(0..due)).cloned(),
            };
            drop(recent);
            match (number % 3, chosen) {
                (0 | 1, Some((_, apelido, _))) => {
                    self.search(instance, apelido);
                }
                (_, Some((_, _, id))) if number % 6 == 2 => {
                    self.get(instance, &id, false);
                }
                _ => {
                    self.ask(instance, "GET", "/contagem-pessoas", "", Asked::Count);
                }
            }
            thread::sleep(LOOK_PAUSE);
        }
    }

    fn search(&mut self, instance: usize, apelido: String) {
        self.ask(instance, "GET", &format!("/pessoas?t={apelido}"), "", Asked::Search { apelido });
    }

    fn get(&mut self, instance: usize, id: &str, known: bool) {
        self.ask(instance, "GET", &format!("/pessoas/{id}"), "", Asked::Get { id: id.to_owned(), known });
    }

    fn post(&mut self, instance: usize, pessoa: &Pessoa) -> Told {
        let told = self.ask(instance, "POST", "/pessoas", &pessoa.body(), Asked::Create(pessoa.clone()));
        if let Told::Created { id, .. } = &told {
            self.shared.acknowledged[instance].fetch_add(1, Ordering::Relaxed);
            let mut recent = self.shared.recent.lock().unwrap_or_else(PoisonError::into_inner);
            recent.push((self.shared.epoch.elapsed(), pessoa.apelido.clone(), id.clone()));
        }
        told
    }

    fn ask(&mut self, instance: usize, method: &str, target: &str, body: &str, asked: Asked) -> Told {
        let began = self.shared.epoch.elapsed();
        let told = self.send(instance, method, target, body, &asked);
        let ended = self.shared.epoch.elapsed();
        self.entries.push(Entry { instance, began, ended, asked, told: told.clone() });
        told
    }

    fn send(&mut self, instance: usize, method: &str, target: &str, body: &str, asked: &Asked) -> Told {
        let open = self.connections.remove(&instance);
        let Some(mut connection) =
            open.or_else(|| Connection::try_open(&self.shared.instances[instance]).ok())
        else {
            return Told::Nothing;
        };
        connection.set_read_timeout(PATIENCE);
        match connection.try_ask(method, target, body) {
            Ok(response) => {
                if response.header("Connection") != Some("close") {
                    self.connections.insert(instance, connection);
                }
                told(&response, asked)
            }
            Err(_) => Told::Lost,
        }
    }
}

/// An answer, as the judge sees it.
pub(crate) fn told(response: &Response, asked: &Asked) -> Told {
    let json = || serde_json::from_slice::<Value>(&response.body).unwrap_or(Value::Null);
    match (response.status, asked) {
        (201, Asked::Create(_)) => Told::Created { id: response.id(), body: json() },
        (422, Asked::Create(_)) => Told::Refused,
        (200, Asked::Get { .. }) => Told::Found(json()),
        (404, Asked::Get { .. }) => Told::Absent,
        (200, Asked::Search { .. }) => match json() {
            Value::Array(list) => Told::List(list),
            _ => Told::Other(200, response.text().to_owned()),
        },
        (200, Asked::Count) => match response.text().parse() {
            Ok(number) => Told::Number(number),
            Err(_) => Told::Other(200, response.text().to_owned()),
        },
        (503, Asked::Create(_)) if response.text().contains(NOTHING) => Told::Nothing,
        (502..=504, _) => Told::Unavailable,
        (status, _) => Told::Other(status, response.text().to_owned()),
    }
}
