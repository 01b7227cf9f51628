//! The bookkeeping of three cores and their Postgres threads, in orders that a seed decides. The cores run in turns on one
//! thread, and the test plays the Postgres threads and the clients: it asks, gives up, answers late or never.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

use monoio::{LegacyDriver, RuntimeBuilder};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::limits::LEDGER_BYTES_DEFAULT;
use crate::people::home::Minter;
use crate::pessoa::decode;
use crate::postgres::played::{Decision, Played, played};
use crate::postgres::{Begin, Fed, Identity, Partitions};

const CORES: usize = 3;

/// What a client was told.
#[derive(Debug)]
enum Told {
    Created(String, Uuid),
    Duplicate,
    Refused,
    Unavailable(Unavailable),
    Body(Option<Vec<u8>>),
    Counted,
    Found(Vec<Vec<u8>>),
    States(usize),
}

/// What a client asked.
#[derive(Clone, Debug)]
enum Asks {
    Create(String),
    Fetch(Uuid),
    Count,
    Search(String),
    States,
}

struct Client {
    asks: Asks,
    future: Pin<Box<dyn Future<Output = Told>>>,
    bell: Arc<Bell>,
}

/// Says that the client's task was woken.
struct Bell(AtomicBool);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Core {
    mesh: Rc<Mesh>,
    share: Rc<Share>,
    ledger: Rc<Ledger>,
    /// `None`: its thread is gone.
    database: Option<Played>,
}

struct World {
    cores: Vec<Core>,
    clients: Vec<Client>,
    committed: Vec<Record>,
    decided: HashMap<String, Decision>,
    told: HashMap<&'static str, usize>,
}

fn cores() -> Vec<Core> {
    let connections =
        || ConnectionState { open: 0, limit: 0, accepted: 0, refused: 0, panics: 0, draining: false };
    let start = |(core, wiring)| {
        let (link, played) = played();
        let (database, reports) = link.open();
        let minter = Minter::new().unwrap();
        let share =
            Rc::new(Share::new(core, CORES, 1 << 24, Partitions::ONE, vec![Rc::clone(&database)], minter));
        let of = Identity { system: 7, timeline: 1 };
        let begin = Begin { node: 0, of, partitions: Partitions::ONE.all().collect() };
        share.hear(Fed::Begin(begin, Default::default()));
        let learner = Rc::clone(&share);
        monoio::spawn(reports.run(move |learnt, of| learner.learn(learnt, of)));
        monoio::spawn(async move { database.flush().await });
        let ledger = Ledger::new(LEDGER_BYTES_DEFAULT);
        let mesh = Mesh::join(wiring, Rc::clone(&share), Rc::clone(&ledger), Box::new(connections));
        Core { mesh, share, ledger, database: Some(played) }
    };
    wire(CORES).into_iter().enumerate().map(start).collect()
}

/// Lets the tasks of all cores run once: this one's turn comes behind theirs.
async fn turn() {
    monoio::spawn(async {}).await;
}

impl World {
    fn new() -> World {
        World {
            cores: cores(),
            clients: Vec::new(),
            committed: Vec::new(),
            decided: HashMap::new(),
            told: HashMap::new(),
        }
    }

    /// A client that has asked, at this core.
    fn ask(&mut self, core: usize, asks: Asks) {
        let mesh = Rc::clone(&self.cores[core].mesh);
        let (bell, asked) = (Arc::new(Bell(AtomicBool::new(true))), asks.clone());
        let future = Box::pin(async move {
            let told = match asked {
                Asks::Create(apelido) => {
                    let json = format!(r#"{{"apelido":"{apelido}","nome":"Ana","nascimento":"2000-01-01"}}"#);
                    Ok(match mesh.create(decode(json.as_bytes()).unwrap()).await {
                        Creation::Created(record) => {
                            Told::Created(record.pessoa.apelido.into(), record.pessoa.id)
                        }
                        Creation::Duplicate => Told::Duplicate,
                        Creation::Refused(_) => Told::Refused,
                        Creation::Unavailable(why) => Told::Unavailable(why),
                    })
                }
                Asks::Fetch(id) => {
                    mesh.fetch(id).await.map(|body| Told::Body(body.map(|body| written(&body))))
                }
                Asks::Count => mesh.count().await.map(|_| Told::Counted),
                Asks::Search(term) => mesh
                    .search(term.as_bytes())
                    .await
                    .map(|results| Told::Found(results.bodies().into_iter().map(<[u8]>::to_vec).collect())),
                Asks::States => Ok(Told::States(mesh.states().await.len())),
            };
            told.unwrap_or_else(Told::Unavailable)
        });
        self.clients.push(Client { asks, future, bell });
        self.poll(self.clients.len() - 1);
    }

    /// Polls a client, if it was woken. Whether it was answered.
    fn poll(&mut self, number: usize) -> bool {
        let client = &mut self.clients[number];
        if !client.bell.0.swap(false, Ordering::Relaxed) {
            return false;
        }
        let waker = Waker::from(Arc::clone(&client.bell));
        let Poll::Ready(told) = client.future.as_mut().poll(&mut Context::from_waker(&waker)) else {
            return false;
        };
        let asks = self.clients.swap_remove(number).asks;
        self.hold(&asks, told);
        true
    }

    fn poll_all(&mut self) {
        (0..self.clients.len()).rev().for_each(|number| {
            self.poll(number);
        });
    }

    /// Holds what a client was told against what was decided.
    fn hold(&mut self, asks: &Asks, told: Told) {
        let contains = |body: &[u8], text: &str| memchr::memmem::find(body, text.as_bytes()).is_some();
        let decided = match asks {
            Asks::Create(apelido) => self.decided.get(apelido).copied(),
            _ => None,
        };
        let kind = match (asks, &told) {
            (Asks::Create(asked), Told::Created(apelido, id)) => {
                assert_eq!((asked, decided), (apelido, Some(Decision::Committed)), "its own answer");
                assert!(self.committed.iter().any(|row| row.pessoa.id == *id));
                "created"
            }
            (Asks::Create(_), Told::Duplicate) => {
                assert_eq!(decided, Some(Decision::Duplicate));
                "duplicate"
            }
            (Asks::Create(_), Told::Refused) => {
                assert_eq!(decided, Some(Decision::Refused));
                "refused"
            }
            (Asks::Create(_), Told::Unavailable(why)) => {
                let expected = match why {
                    Unavailable::NoRoom => None,
                    Unavailable::NotStored => Some(Decision::NotStored),
                    Unavailable::TimedOut => Some(Decision::Unavailable),
                    Unavailable::Moves(_) => panic!("a create concerns one partition"),
                    Unavailable::Unfit => panic!("a create asks for no row that is there"),
                };
                assert_eq!(decided, expected, "{why:?}");
                "create unavailable"
            }
            (Asks::Fetch(id), Told::Body(Some(body))) => {
                assert!(contains(body, &id.to_string()), "the body of another pessoa");
                "body"
            }
            (Asks::Fetch(_), Told::Body(None)) => "no body",
            (Asks::Search(term), Told::Found(found)) => {
                assert!(found.iter().all(|body| contains(body, term)), "the answer to another search");
                "found"
            }
            (Asks::Count, Told::Counted) => "counted",
            (Asks::States, Told::States(cores)) => {
                assert_eq!(*cores, CORES, "each core says what it is");
                "states"
            }
            (Asks::Fetch(_) | Asks::Search(_) | Asks::Count, Told::Unavailable(_)) => "unavailable",
            _ => panic!("{asks:?} was answered by {told:?}"),
        };
        *self.told.entry(kind).or_default() += 1;
    }

    /// A core's database answers one of its jobs, if it has any. Whether it had.
    fn play(&mut self, core: usize, random: &mut StdRng) -> bool {
        let Some(database) = &mut self.cores[core].database else { return false };
        let jobs = database.take();
        if jobs > 0 {
            let decision = Decision::ALL[random.random_range(0..Decision::ALL.len())];
            let (which, late) = (random.random_range(0..jobs), random.random_range(0..8) == 0);
            database.answer(which, late, &mut self.committed, |record| {
                self.decided.insert(record.pessoa.apelido.to_string(), decision);
                decision
            });
        }
        if random.random_range(0..8) == 0 {
            database.report_late(&mut self.committed);
        }
        // What is answered together costs one wake.
        if random.random_range(0..2) == 0 || jobs <= 1 {
            database.wake();
        }
        jobs > 0
    }

    fn load(&self) {
        for core in &self.cores {
            core.share.hear(Fed::Loaded(0, Partitions::ONE.all().collect()));
            core.share.hear(Fed::Fresh(0, Instant::now()));
        }
    }

    /// What the books of each core say is what is open.
    fn check_books(&self) {
        for core in &self.cores {
            let open: usize = core.mesh.peers.iter().flatten().map(|peer| peer.open.get()).sum();
            let taken = core.mesh.tickets.taken();
            assert!(open <= taken, "{open} questions are open, and {taken} tickets are taken");
            assert!(core.mesh.mesh_state().open_max <= MESH_QUESTIONS_MAX + MESH_STATES_MAX);
        }
    }

    /// Answers all there is until nothing moves.
    async fn settle(&mut self, random: &mut StdRng) {
        let mut quiet = 0;
        while quiet < 20 {
            let mut moved = false;
            for core in 0..CORES {
                while self.play(core, random) {
                    moved = true;
                }
            }
            turn().await;
            let before = self.clients.len();
            self.poll_all();
            moved |= before != self.clients.len();
            quiet = if moved { 0 } else { quiet + 1 };
        }
    }

    fn check_nothing_is_open(&self) {
        for core in &self.cores {
            let lines = core.share.state().lines;
            for (line, waiting) in [
                ("commit", lines.commit),
                ("read", lines.read),
                ("count", lines.count),
                ("search", lines.search),
            ] {
                assert_eq!(waiting.now, 0, "{line}: somebody waits");
            }
            let ledger = core.ledger.state();
            assert_eq!((ledger.waiting, ledger.gathered), (0, 0), "bytes are held for nobody");
            assert_eq!(core.mesh.mesh_state().open_max, 0, "a question is open");
            assert_eq!(core.mesh.tickets.taken(), 0, "a ticket is taken");
        }
    }
}

/// One case. Returns what the clients were told, counted.
async fn case(seed: u64) -> HashMap<&'static str, usize> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut world = World::new();
    let loses_a_database = random.random_range(0..4) == 0;
    let mut ids: Vec<Uuid> = vec![Uuid::from_u128(1)];
    for step in 0..random.random_range(20..300) {
        let core = random.random_range(0..CORES);
        match random.random_range(0..20) {
            0..5 => world.ask(core, Asks::Create(format!("p{step}q"))),
            5..7 => {
                ids.extend(world.committed.last().map(|row| row.pessoa.id));
                world.ask(core, Asks::Fetch(ids[random.random_range(0..ids.len())]));
            }
            7 => world.ask(core, Asks::Count),
            8 => world.ask(core, Asks::Search(format!("p{}q", random.random_range(0..=step)))),
            9 if !loses_a_database => world.ask(core, Asks::States),
            10 if !world.clients.is_empty() => {
                drop(world.clients.swap_remove(random.random_range(0..world.clients.len())));
            }
            11 if random.random_range(0..4) == 0 => world.load(),
            12 if loses_a_database => {
                world.cores[0].database = None;
            }
            10..16 => {
                world.play(core, &mut random);
            }
            _ => {
                for _ in 0..random.random_range(1..4) {
                    turn().await;
                }
                world.poll_all();
            }
        }
        world.check_books();
    }
    world.settle(&mut random).await;
    if world.cores[0].database.is_some() {
        assert!(world.clients.is_empty(), "{} clients have no answer", world.clients.len());
        world.check_nothing_is_open();
    }
    // Who gives up on a database that is gone leaves the books as they are.
    world.clients.clear();
    world.check_books();
    world.told
}

fn run<T>(case: impl Future<Output = T>) -> T {
    RuntimeBuilder::<LegacyDriver>::new().enable_timer().build().unwrap().block_on(case)
}

fn written(body: &Body<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    body.write(&mut out);
    assert_eq!(out.len(), body.bytes());
    out
}

#[test]
fn in_any_order_each_client_gets_its_own_answer_and_the_books_return_to_zero() {
    const CASES: u64 = 300;
    let first = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
    let base: u64 = first.unwrap_or_else(rand::random::<u32>).into();
    println!("SEED={base}");
    let mut told: HashMap<&str, usize> = HashMap::new();
    for seed in base..base + CASES {
        let one = std::panic::catch_unwind(|| run(case(seed)));
        for (kind, times) in one.unwrap_or_else(|_| panic!("the case of seed {seed} failed")) {
            *told.entry(kind).or_default() += times;
        }
    }
    println!("{told:?}");
    assert_eq!(told.len(), 10, "every kind of answer was given: {told:?}");
}

/// A core asks more than another one may owe it: the rest has no room, states still pass, and all of it comes back.
#[test]
fn a_full_mesh_refuses_and_recovers() {
    run(async {
        let mut random = StdRng::seed_from_u64(1);
        let mut world = World::new();
        // Byte 9 of the id is its home.
        let of_core_1 = |number: u128| Uuid::from_u128(number << 64 | 1 << 48);
        assert_eq!(owner_of_id(&of_core_1(9), CORES), 1);
        for number in 0..=MESH_QUESTIONS_MAX as u128 {
            world.ask(0, Asks::Fetch(of_core_1(number)));
        }
        assert_eq!(world.told, HashMap::from([("unavailable", 1)]), "one too many");
        let state = world.cores[0].mesh.mesh_state();
        assert_eq!((state.open_max, state.refused), (MESH_QUESTIONS_MAX, 1));
        world.ask(0, Asks::States);
        turn().await;
        // Half of the clients give up; their questions are on their way all the same.
        world.clients.truncate(MESH_QUESTIONS_MAX / 2);
        world.ask(0, Asks::States);
        world.check_books();
        world.settle(&mut random).await;
        assert_eq!(world.told["states"], 1);
        world.check_nothing_is_open();
        let state = world.cores[1].share.state();
        assert_eq!(state.lines.read.refused, (MESH_QUESTIONS_MAX - crate::limits::READ_QUEUE_MAX) as u64);
        world.ask(0, Asks::Fetch(of_core_1(1)));
        world.settle(&mut random).await;
        assert!(world.clients.is_empty());
    });
}
