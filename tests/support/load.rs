//! Clients that post pessoas of which no two are alike, through every fault, and remember what each was told; and the
//! judge that compares what they were told with what the database holds.

#![allow(dead_code, reason = "each test file uses its own part of this")]

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use crate::cluster;
use crate::server::{Address, Connection, Response, Server, request};

/// Pessoas of one client, at most.
const PESSOAS_MAX: usize = 4000;
/// A client gives up after this long, whatever the test does.
const LOAD_TIME_MAX: Duration = Duration::from_secs(60);
/// Pause of a client between two pessoas, so that a fault meets a busy server and not a full disk.
const PAUSE: Duration = Duration::from_millis(1);
/// Pause before the same pessoa is sent again. It is shorter than what `Retry-After` asks for, as a hasty client is the
/// harder one.
const RETRY_PAUSE: Duration = Duration::from_millis(20);
/// How long something is waited for that must happen.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(20);
/// Requests on their way at once while everything is read back.
const PIPELINE: usize = 64;

/// A seed for this run, said so that a failure can be seen again with `TEST_SEED`.
pub(crate) fn seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
    let seed = match std::env::var("TEST_SEED") {
        Ok(seed) => seed.parse().expect("a number in TEST_SEED"),
        Err(_) => u64::from(now.subsec_nanos()) << 16 | u64::from(std::process::id()) & 0xFFFF,
    };
    println!("TEST_SEED={seed}");
    seed
}

/// Polls until `condition` holds, and says how long that took.
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) -> Duration {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < WAIT_MAX, "expected within {WAIT_MAX:?}: {what}");
        thread::sleep(Duration::from_millis(2));
    }
    began.elapsed()
}

/// What a client sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pessoa {
    pub(crate) apelido: String,
    pub(crate) nome: String,
    pub(crate) nascimento: String,
    pub(crate) stack: Option<Vec<String>>,
}

impl Pessoa {
    /// One like any other, but for its apelido.
    pub(crate) fn named(apelido: &str) -> Pessoa {
        Pessoa {
            apelido: apelido.to_owned(),
            nome: "Ana".to_owned(),
            nascimento: "2000-02-29".to_owned(),
            stack: None,
        }
    }

    /// Content that a careless writer would mangle somewhere between the socket and the table.
    pub(crate) fn random(random: &mut StdRng, apelido: String) -> Pessoa {
        const NOMES: [&str; 6] = ["Ana Barbosa", "José", "O'Brien \"Bo\"", "a\\b\tc", "😀 Ünïcode", " "];
        const ITEMS: [&str; 7] = ["C#", "Node", "a,b {c}", "NULL", "\"", "ção", "x\\"];
        let stack = random.random_bool(0.7).then(|| {
            let items = random.random_range(0..4);
            (0..items).map(|_| ITEMS[random.random_range(0..ITEMS.len())].to_owned()).collect()
        });
        Pessoa {
            apelido,
            nome: NOMES[random.random_range(0..NOMES.len())].to_owned(),
            nascimento: format!(
                "{:04}-{:02}-{:02}",
                random.random_range(1..=9999),
                random.random_range(1..=12),
                random.random_range(1..=28)
            ),
            stack,
        }
    }

    /// The body of its create.
    pub(crate) fn body(&self) -> String {
        json!({
            "apelido": self.apelido, "nome": self.nome, "nascimento": self.nascimento, "stack": self.stack
        })
        .to_string()
    }

    /// What the API shows of it once it has this id.
    pub(crate) fn shown(&self, id: &str) -> Value {
        json!({
            "id": id, "apelido": self.apelido, "nome": self.nome, "nascimento": self.nascimento,
            "stack": self.stack
        })
    }

    /// Posts it once.
    pub(crate) fn post(&self, connection: &mut Connection) -> io::Result<Response> {
        connection.try_ask("POST", "/pessoas", &self.body())
    }

    /// Posts it on a connection of its own.
    pub(crate) fn post_to(&self, server: &Server) -> Response {
        self.post(&mut server.connect()).expect("an answer")
    }
}

/// What a client knows of its pessoa in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// 201, with this id and this body.
    Acknowledged { id: String, body: Vec<u8> },
    /// 422.
    Refused,
    /// The load ended before anything was known.
    Unknown,
}

/// One pessoa and its story.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    pub(crate) pessoa: Pessoa,
    pub(crate) fate: Fate,
    /// Before its fate was told, the pessoa was sent at least once without a definite answer: it may have been stored
    /// then.
    pub(crate) doubted: bool,
}

impl Attempt {
    /// One that was answered 201 at once.
    pub(crate) fn acknowledged(pessoa: &Pessoa, answer: &Response) -> Attempt {
        let fate = Fate::Acknowledged { id: answer.id(), body: answer.body.clone() };
        Attempt { pessoa: pessoa.clone(), fate, doubted: false }
    }
}

#[derive(Default)]
struct Tally {
    stop: AtomicBool,
    acknowledged: AtomicUsize,
    refused: AtomicUsize,
    unavailable: AtomicUsize,
    lost: AtomicUsize,
    torn: AtomicUsize,
}

/// Client threads at work; stopped when dropped.
pub(crate) struct Load {
    tally: Arc<Tally>,
    clients: Vec<JoinHandle<Vec<Attempt>>>,
}

impl Load {
    /// Clients that post pessoas of random content, each over one connection that is made again when it breaks, each
    /// pessoa until its fate is known.
    pub(crate) fn start(address: &Address, clients: usize, seed: u64) -> Load {
        Load::with(address, clients, seed, |pessoa| pessoa)
    }

    /// Starts such clients with pessoas that `change` has changed.
    pub(crate) fn with(
        address: &Address,
        clients: usize,
        seed: u64,
        change: impl Fn(Pessoa) -> Pessoa + Clone + Send + 'static,
    ) -> Load {
        let tally = Arc::new(Tally::default());
        let clients = (0..clients).map(|number| {
            let client = Client {
                address: address.clone(),
                connection: None,
                tally: Arc::clone(&tally),
                began: Instant::now(),
            };
            let random = StdRng::seed_from_u64(seed.wrapping_add(number as u64));
            let prefix = format!("{seed:x}.{number}");
            let change = change.clone();
            thread::spawn(move || client.run(random, &prefix, change))
        });
        let clients = clients.collect();
        Load { tally, clients }
    }

    /// Pessoas that were answered 201 so far.
    pub(crate) fn acknowledged(&self) -> usize {
        self.tally.acknowledged.load(Ordering::Relaxed)
    }

    /// Answers so far that tell no outcome: 503, of a balancer also 502 and 504.
    pub(crate) fn unavailable(&self) -> usize {
        self.tally.unavailable.load(Ordering::Relaxed)
    }

    /// Requests that were sent and never answered, so far.
    pub(crate) fn lost(&self) -> usize {
        self.tally.lost.load(Ordering::Relaxed)
    }

    /// Lost requests of whose answer a part came, so far.
    pub(crate) fn torn(&self) -> usize {
        self.tally.torn.load(Ordering::Relaxed)
    }

    /// Waits until this many more were acknowledged, and returns how long that took.
    pub(crate) fn wait_for(&self, more: usize) -> Duration {
        let goal = self.acknowledged() + more;
        wait_until("more acknowledged pessoas", || {
            assert!(self.clients.iter().all(|client| !client.is_finished()), "a client gave up");
            self.acknowledged() >= goal
        })
    }

    /// Ends the load, and returns what every client was told.
    pub(crate) fn finish(mut self) -> Vec<Attempt> {
        self.tally.stop.store(true, Ordering::Relaxed);
        let attempts: Vec<Attempt> = std::mem::take(&mut self.clients)
            .into_iter()
            .flat_map(|client| client.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect();
        let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
        println!(
            "{} pessoas: {} acknowledged, {} refused, {} in doubt on the way; 503: {}, lost: {}",
            attempts.len(),
            count(&self.tally.acknowledged),
            count(&self.tally.refused),
            attempts.iter().filter(|attempt| attempt.doubted).count(),
            count(&self.tally.unavailable),
            count(&self.tally.lost),
        );
        attempts
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.tally.stop.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            let _ = client.join();
        }
    }
}

struct Client {
    address: Address,
    connection: Option<Connection>,
    tally: Arc<Tally>,
    began: Instant,
}

impl Client {
    fn run(mut self, mut random: StdRng, prefix: &str, change: impl Fn(Pessoa) -> Pessoa) -> Vec<Attempt> {
        let mut attempts = Vec::new();
        while attempts.len() < PESSOAS_MAX && !self.is_over() {
            let apelido = format!("{prefix}.{}", attempts.len());
            attempts.push(self.settle(change(Pessoa::random(&mut random, apelido))));
            thread::sleep(PAUSE);
        }
        attempts
    }

    fn is_over(&self) -> bool {
        self.tally.stop.load(Ordering::Relaxed) || self.began.elapsed() >= LOAD_TIME_MAX
    }

    /// Sends `pessoa` until its fate is known.
    fn settle(&mut self, pessoa: Pessoa) -> Attempt {
        let mut doubted = false;
        loop {
            if let Some(answer) = self.send(&pessoa) {
                let fate = match answer {
                    Ok(response) => self.judge(&pessoa, &response),
                    Err(_) => {
                        self.tally.lost.fetch_add(1, Ordering::Relaxed);
                        Fate::Unknown
                    }
                };
                if fate != Fate::Unknown {
                    return Attempt { pessoa, fate, doubted };
                }
                doubted = true;
            }
            if self.is_over() {
                return Attempt { pessoa, fate: Fate::Unknown, doubted };
            }
            thread::sleep(RETRY_PAUSE);
        }
    }

    /// None when there is no server to send it to.
    fn send(&mut self, pessoa: &Pessoa) -> Option<io::Result<Response>> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::try_open(&self.address).ok()?,
        };
        let answer = pessoa.post(&mut connection);
        if answer.is_err() && !connection.unread().is_empty() {
            self.tally.torn.fetch_add(1, Ordering::Relaxed);
        }
        if answer.as_ref().is_ok_and(|response| response.header("Connection") != Some("close")) {
            self.connection = Some(connection);
        }
        Some(answer)
    }

    fn judge(&self, pessoa: &Pessoa, response: &Response) -> Fate {
        let count = |counter: &AtomicUsize| counter.fetch_add(1, Ordering::Relaxed);
        match response.status {
            201 => {
                let id = response.id();
                assert_eq!(response.json(), pessoa.shown(&id));
                count(&self.tally.acknowledged);
                Fate::Acknowledged { id, body: response.body.clone() }
            }
            422 => {
                count(&self.tally.refused);
                Fate::Refused
            }
            502..=504 => {
                assert!(response.header("Retry-After").is_some(), "{response:?}");
                count(&self.tally.unavailable);
                Fate::Unknown
            }
            status => panic!("expected 201, 422 or 502 to 504, got {status}: {}", response.text()),
        }
    }
}

/// Nothing acknowledged is lost, nothing is there twice, and nothing is there that was not sent: `attempts` against the
/// table, and against what the server shows.
pub(crate) fn verify(attempts: &[Attempt], config: &tokio_postgres::Config, server: &Address) {
    verify_rows(attempts, &cluster::query(config, &format!("{ROWS} pessoas")), server);
}

/// What is asked of each table; its name comes behind.
pub(crate) const ROWS: &str = "select json_build_object('id', id, 'apelido', apelido, 'nome', nome, \
                               'nascimento', nascimento::text, 'stack', stack) from";

/// The same, against the [`ROWS`] of all tables.
pub(crate) fn verify_rows(attempts: &[Attempt], rows: &[String], server: &Address) {
    let mut stored: HashMap<String, Value> = HashMap::with_capacity(rows.len());
    for row in rows {
        let row: Value = serde_json::from_str(row).expect("JSON of Postgres");
        let apelido = row["apelido"].as_str().expect("a text").to_owned();
        let before = stored.insert(apelido, row);
        assert_eq!(before, None, "the same apelido twice");
    }
    let mut connection = Connection::open(server);
    assert_eq!(connection.ask("GET", "/contagem-pessoas", "").text(), rows.len().to_string());

    let mut acknowledged = Vec::new();
    for Attempt { pessoa, fate, doubted } in attempts {
        let row = stored.remove(&pessoa.apelido);
        match fate {
            Fate::Acknowledged { id, body } => {
                assert_eq!(row, Some(pessoa.shown(id)), "acknowledged as {id}");
                acknowledged.push((id, body));
            }
            Fate::Refused => {
                assert!(*doubted, "a new apelido was refused: {pessoa:?}");
                let row = row.unwrap_or_else(|| panic!("refused without a row that has it: {pessoa:?}"));
                assert_eq!(row, pessoa.shown(row["id"].as_str().expect("an id")));
            }
            Fate::Unknown => {
                if let Some(row) = row {
                    assert!(*doubted, "stored without having been sent: {row}");
                    assert_eq!(row, pessoa.shown(row["id"].as_str().expect("an id")));
                }
            }
        }
    }
    assert_eq!(stored.into_values().collect::<Vec<_>>(), [] as [Value; 0], "rows that no one sent");

    for some in acknowledged.chunks(PIPELINE) {
        let requests: String =
            some.iter().map(|(id, _)| request("GET", &format!("/pessoas/{id}"), "")).collect();
        connection.send(requests);
        for (id, body) in some {
            let shown = connection.receive();
            assert_eq!((shown.status, &shown.body), (200, *body), "{id}");
        }
    }
}
