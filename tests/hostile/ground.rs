//! What is attacked: a server, or two of them behind HAProxy, on a database of their own; and the clients that behave
//! beside an attack. It knows no attack.

use std::env;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rand::RngExt;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cluster::{Cluster, temporary_directory};
use crate::load::{Attempt, Pessoa, verify, wait_until};
use crate::polite::Polite;
use crate::processes::Child;
use crate::server::{Address, Connection, Response, Server};

/// How long an attack lasts, unless `HOSTILE_SECONDS` says otherwise.
const SECONDS: u64 = 2;
/// How long the polite clients are alone before it.
const QUIET_TIME: Duration = Duration::from_millis(700);
/// A polite client is answered within this time, whatever goes on beside it.
pub(crate) const POLITE_P99_MAX: Duration = Duration::from_secs(1);
/// Pause of a polite client that was told that nobody took its request. It is shorter than `Retry-After` asks for.
const REFUSED_PAUSE: Duration = Duration::from_millis(20);
/// Pessoas whose search is a long answer: as many as one search shows.
const LONG_PESSOAS: usize = 50;
/// Items of each one's stack: some 55 KB.
const LONG_ITEMS: usize = 1_550;
/// How long what an attack left may take to go: longer than a request may trickle in and its connection linger.
const SETTLE_TIME_MAX: Duration = Duration::from_secs(30);

/// How long this run's attacks last.
pub(crate) fn seconds() -> Duration {
    let seconds = env::var("HOSTILE_SECONDS").map(|text| text.parse().expect("a number of seconds"));
    Duration::from_secs(seconds.unwrap_or(SECONDS))
}

/// One attack at a time: each takes all that two cores have.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    static LIMIT: Once = Once::new();
    LIMIT.call_once(|| {
        // Ten thousand clients are ten thousand descriptors.
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    });
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How the clients reach the servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// One server, over TCP and over a unix socket.
    Direct,
    /// Two servers behind HAProxy.
    Balanced,
}

/// What is attacked.
pub(crate) struct Ground {
    // Dropped in this order.
    balancer: Option<Balancer>,
    pub(crate) servers: Vec<Server>,
    pub(crate) cluster: Cluster,
    /// Where the sockets are.
    _directory: TempDir,
    pub(crate) way: Way,
    /// The path of the polite clients' pessoa.
    known: String,
    /// What was acknowledged, or may have been stored: all that the table may hold.
    attempts: Mutex<Vec<Attempt>>,
}

impl Ground {
    /// Starts everything; `None` where there is no HAProxy.
    pub(crate) fn start(way: Way) -> Option<Ground> {
        Ground::start_with(way, |directory, name| directory.join(format!("{name}-0.sock")))
    }

    /// Starts everything; `socket` says where a server listens that HAProxy expects at `NAME-0.sock`.
    pub(crate) fn start_with(way: Way, socket: impl Fn(&Path, &str) -> PathBuf) -> Option<Ground> {
        let haproxy = match way {
            Way::Direct => None,
            Way::Balanced => match Child::find("haproxy") {
                Some(program) => Some(program),
                None => {
                    println!("skipped: no HAProxy was found (make local-deps)");
                    return None;
                }
            },
        };
        let cluster = Cluster::start();
        let directory = temporary_directory();
        let instances: &[(&str, &str)] = match way {
            Way::Direct => &[("api1", "1")],
            Way::Balanced => &[("api1", "1"), ("api2", "1@1")],
        };
        let servers = instances
            .iter()
            .map(|(name, cores)| {
                let listen = format!("unix:{}", socket(directory.path(), name).display());
                Server::on(&cluster.config(), &["--cores", cores, "--listen", &listen])
            })
            .collect();
        let balancer = haproxy.map(|program| Balancer::start(&program, directory.path()));
        let mut ground = Ground {
            balancer,
            servers,
            cluster,
            _directory: directory,
            way,
            known: String::new(),
            attempts: Mutex::default(),
        };
        let known = ground.create(Pessoa::named("conhecida"));
        ground.known = format!("/pessoas/{}", known.id());
        Some(ground)
    }

    /// Where clients connect.
    pub(crate) fn addresses(&self) -> Vec<Address> {
        match &self.balancer {
            Some(balancer) => vec![balancer.address.clone()],
            None => self.servers[0].addresses(),
        }
    }

    /// Each of `count` clients' address, in turns.
    pub(crate) fn addresses_of(&self, count: usize) -> impl Iterator<Item = (usize, Address)> {
        let addresses = self.addresses();
        (0..count).map(move |number| (number, addresses[number % addresses.len()].clone()))
    }

    /// The process that clients connect to.
    pub(crate) fn front(&self) -> u32 {
        self.balancer.as_ref().map_or_else(|| self.servers[0].pid(), |balancer| balancer.process.id())
    }

    /// Creates a pessoa, which must be there in the end.
    pub(crate) fn create(&self, pessoa: Pessoa) -> Response {
        let answer = pessoa.post(&mut Connection::open(&self.addresses()[0])).unwrap();
        assert_eq!(answer.status, 201, "{}", answer.text());
        self.note(Attempt::acknowledged(&pessoa, &answer));
        answer
    }

    /// Notes what may be in the table in the end.
    pub(crate) fn note(&self, attempt: Attempt) {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner).push(attempt);
    }

    /// Pessoas that all are in the answer to a search for `longa`, which is 2.7 MB long.
    pub(crate) fn add_long_pessoas(&self) {
        for number in 0..LONG_PESSOAS {
            let mut pessoa = Pessoa::named(&format!("longa{number}"));
            pessoa.stack = Some(vec!["i".repeat(32); LONG_ITEMS]);
            self.create(pessoa);
        }
    }

    /// Two polite clients for each address: they look up a pessoa, and every fourth request creates one. A balancer that is
    /// kept from its checks by a busy machine may say 503: they ask again, and their time goes on. They tell what they created,
    /// and what they were refused.
    fn polite(&self) -> (Polite, Receiver<Attempt>, Receiver<Response>) {
        static POLITE: AtomicUsize = AtomicUsize::new(0);
        let (known, way, address) = (self.known.clone(), self.way, self.addresses().swap_remove(0));
        let ((tell, told), (complain, refused)) = (channel(), channel());
        let polite = Polite::asking(&self.addresses(), move |connection, number| {
            let (expected, pessoa) = match number % 4 {
                0 => (201, Pessoa::named(&format!("educada{}", POLITE.fetch_add(1, Ordering::Relaxed)))),
                _ => (200, Pessoa::named("")),
            };
            loop {
                let answer = match expected {
                    201 => pessoa.post(connection).expect("an answer"),
                    _ => connection.ask("GET", &known, ""),
                };
                if answer.status == expected {
                    if expected == 201 {
                        let _nobody_asks = tell.send(Attempt::acknowledged(&pessoa, &answer)).is_err();
                    }
                    return;
                }
                // Only what says that nothing was stored may be asked again without a doubt.
                let again = way == Way::Balanced && answer.text().contains("nothing was stored");
                assert!(again, "expected {expected}: {} {}", answer.status, answer.text());
                assert_eq!(answer.header("Retry-After"), Some("1"));
                if answer.header("Connection") == Some("close") {
                    *connection = Connection::open(&address);
                }
                let _nobody_asks = complain.send(answer).is_err();
                std::thread::sleep(REFUSED_PAUSE);
            }
        });
        (polite, told, refused)
    }

    /// What each server says of itself, asked past the balancer.
    pub(crate) fn health(&self) -> Vec<Value> {
        let ask = |server: &Server| {
            let answer = server.ask("GET", "/healthz", "");
            assert_eq!(answer.status, 200, "{}", answer.text());
            answer.json()
        };
        self.servers.iter().map(ask).collect()
    }

    /// The balancer's connections that clients hold.
    fn balanced(&self) -> usize {
        self.balancer.as_ref().map_or(0, |balancer| balancer.connections())
    }

    /// Nothing of the attack is left: no connection, no byte; and nobody panicked.
    pub(crate) fn settle(&self) {
        let began = Instant::now();
        loop {
            let health = self.health();
            let held = |account: &str| health.iter().all(|health| health["held"][account] == 0);
            // A balancer keeps connections that it may use again, and its checks come and go.
            let open = |most: u64| {
                health.iter().all(|health| health["connections"]["open"].as_u64().unwrap() <= most)
            };
            let quiet = match self.way {
                Way::Direct => open(2),
                Way::Balanced => self.balanced() <= 2,
            };
            if quiet
                && ["received_bytes", "waiting_bytes", "gathered_bytes"].iter().all(|account| held(account))
            {
                for health in &health {
                    assert_eq!(health["connections"]["panics"], json!(0), "{health}");
                }
                return;
            }
            assert!(
                began.elapsed() < SETTLE_TIME_MAX,
                "left behind: {health:?}, {} clients",
                self.balanced()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What was acknowledged is there, and nothing that nobody sent: the table against the clients.
    pub(crate) fn end(&mut self) {
        let attempts = std::mem::take(&mut *self.attempts.lock().unwrap_or_else(PoisonError::into_inner));
        verify(&attempts, &self.cluster.config(), &self.servers[0].tcp());
    }
}

/// Runs an attack beside polite clients, and prints what they were told alone and beside it. The attack returns what was
/// seen of it.
pub(crate) fn beside(name: &str, ground: &Ground, attack: impl FnOnce(&Ground) -> String) {
    let measure = |during: &mut dyn FnMut()| {
        let (polite, told, refused) = ground.polite();
        during();
        let served = polite.end();
        told.iter().for_each(|attempt| ground.note(attempt));
        let refused: Vec<Response> = refused.iter().collect();
        if let Some(last) = refused.last() {
            println!(
                "   polite clients were refused {} times: {} {}",
                refused.len(),
                last.status,
                last.text()
            );
        }
        served
    };
    let quiet = measure(&mut || std::thread::sleep(QUIET_TIME));
    let (mut attack, mut seen) = (Some(attack), String::new());
    let beside = measure(&mut || seen = attack.take().expect("one attack")(ground));
    println!(
        "{name}, {:?}: {seen}; polite (requests, p50, p99): alone {quiet:.1?}, beside it {beside:.1?}",
        ground.way
    );
    assert!(beside.2 <= POLITE_P99_MAX, "a polite client waited: {beside:?}");
    ground.settle();
}

/// HAProxy with the configuration of this repository.
struct Balancer {
    process: Child,
    address: Address,
    statistics: PathBuf,
}

impl Balancer {
    /// Starts it on a free port, and waits until both servers are up.
    fn start(program: &Path, directory: &Path) -> Balancer {
        let port = Child::free_port();
        let mut command = Command::new(program);
        command.args(["-db", "-f", "haproxy.cfg"]).env_clear();
        command.env("SOCKETS", directory).env("ADDRESS", "127.0.0.1").env("PORT", port.to_string());
        command.env("STATE", "").env("API_CORES", "1").env("METRICS", "");
        let log = File::create(directory.join("haproxy.log")).unwrap();
        command.stdout(log.try_clone().unwrap()).stderr(log);
        let balancer = Balancer {
            process: Child::start(command),
            address: Address::Tcp((Ipv4Addr::LOCALHOST, port).into()),
            statistics: directory.join("haproxy-admin.sock"),
        };
        wait_until("a balancer with two servers", || {
            let up = |line: &&str| line.starts_with("api,api") && line.contains(",UP,");
            balancer.ask("show stat\n").is_some_and(|text| text.lines().filter(up).count() == 2)
        });
        balancer
    }

    fn ask(&self, command: &str) -> Option<String> {
        use std::io::{Read, Write};
        let mut socket = UnixStream::connect(&self.statistics).ok()?;
        socket.write_all(command.as_bytes()).ok()?;
        let mut text = String::new();
        socket.read_to_string(&mut text).ok()?;
        Some(text)
    }

    /// Clients that are connected.
    fn connections(&self) -> usize {
        let text = self.ask("show stat\n").expect("a balancer");
        let frontend = text.lines().find(|line| line.starts_with("rinha,FRONTEND,")).expect("its front");
        frontend.split(',').nth(4).expect("its sessions").parse().unwrap()
    }
}

/// Descriptors that a process has open.
pub(crate) fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).expect("a live process").count()
}

/// Connects from an address of loopback that `random` chooses: one address has ports for some 28,000 connections, those
/// that were closed a moment ago included.
pub(crate) fn connect_from_anywhere(address: &Address, random: &mut StdRng) -> std::io::Result<Connection> {
    connect(
        address,
        Some(Ipv4Addr::new(127, random.random_range(1..=254), random.random_range(0..=255), 1)),
        None,
    )
}

/// Connects to a peer that will see a receive window of about this many bytes.
pub(crate) fn connect_with_window(address: &Address, bytes: usize) -> std::io::Result<Connection> {
    connect(address, None, Some(bytes))
}

fn connect(
    address: &Address,
    source: Option<Ipv4Addr>,
    window: Option<usize>,
) -> std::io::Result<Connection> {
    /// Longer than every answer that the server promises.
    const WAIT_MAX: Duration = Duration::from_secs(20);
    let Address::Tcp(to) = address else { return Connection::try_open(address) };
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    if let Some(source) = source {
        socket.bind(&SocketAddr::from((source, 0)).into())?;
    }
    if let Some(bytes) = window {
        socket.set_recv_buffer_size(bytes)?;
    }
    socket.connect_timeout(&(*to).into(), WAIT_MAX)?;
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(WAIT_MAX))?;
    stream.set_write_timeout(Some(WAIT_MAX))?;
    Ok(Connection::over(stream))
}
