//! A lookup that another core owns: there and back over two rings, between two pinned threads on the server's own
//! driver. Beside it the same lookup on the core that owns it. Neither asks Postgres: the database's address leads
//! nowhere.

use std::rc::Rc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use criterion::Criterion;
use futures_util::future::join_all;
use rinha::core::{Driver, Wanted, topology};
use rinha::ledger::Ledger;
use rinha::limits::LEDGER_BYTES_DEFAULT;
use rinha::people::Share;
use rinha::people::{self, ConnectionState, Mesh, Wiring};
use rinha::people::{Minter, owner_of_apelido, owner_of_id};
use rinha::pessoa::{Record, decode};
use rinha::postgres::{self, Begin, Fed, FeedNotice, Identity, Learnt, Link, Owners, Partitions, Source};
use uuid::Uuid;

/// Cores of the mesh.
const CORES: usize = 2;

/// An order to time `rounds` rounds of `at_once` lookups of `id`, and to send the time they took to `time`.
struct Order {
    rounds: u64,
    at_once: usize,
    id: Uuid,
    time: mpsc::Sender<Duration>,
}

/// `cpus` is the number of CPUs that this process may use, counted before this thread pinned itself to one.
pub(crate) fn bench(criterion: &mut Criterion, cpus: usize) {
    let records: Vec<Record> = (0..CORES).map(record_of).collect();
    let orders = start(&records, cpus);
    let mut group =
        criterion.benchmark_group(format!("mesh/{}", if cpus < CORES { "one CPU" } else { "a CPU each" }));
    for (name, core, at_once) in [("at home", 0, 1), ("hop, 1 at once", 1, 1), ("hop, 64 at once", 1, 64)] {
        let id = records[core].pessoa.id;
        group.throughput(criterion::Throughput::Elements(at_once as u64));
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|rounds| {
                let (time, timed) = mpsc::channel();
                orders.send(Order { rounds, at_once, id, time }).expect("the core waits for orders");
                timed.recv().expect("the core answers every order")
            });
        });
    }
}

/// A pessoa that this core owns.
fn record_of(core: usize) -> Record {
    let mut minter = Minter::new().expect("randomness");
    let apelido =
        (0..).map(|number| format!("a{number}")).find(|apelido| owner_of_apelido(apelido, CORES) == core);
    let body = format!(
        r#"{{"apelido":"{}","nome":"Ana","nascimento":"1990-02-28","stack":["C#","Node"]}}"#,
        apelido.expect("some")
    );
    let candidate = decode(body.as_bytes()).expect("a right body");
    let id = minter.mint(&candidate.apelido);
    assert_eq!(owner_of_id(&id, CORES), core);
    Record::new(candidate.into_pessoa(id))
}

/// Starts two cores, each with its record. The first one takes orders for as long as this process lives.
fn start(records: &[Record], cpus: usize) -> mpsc::Sender<Order> {
    let nowhere = Source::parse("host=/nonexistent user=nobody").expect("a source");
    let owners = |_: &Record| Owners { row: 0, apelido: 0 };
    let feed = postgres::feed::spawn(CORES, vec![nowhere.clone()], owners, |_| {}).expect("a thread");
    let (orders, inbox) = mpsc::channel();
    let mut inbox = Some(inbox);
    for (core, (wiring, notices)) in people::wire(CORES).into_iter().zip(feed.notices).enumerate() {
        let (nowhere, records, inbox) = (nowhere.clone(), records.to_vec(), inbox.take());
        std::thread::spawn(move || serve(core, core % cpus, wiring, notices, nowhere, &records, inbox));
    }
    orders
}

fn serve(
    core: usize,
    cpu: usize,
    wiring: Wiring,
    notices: Vec<FeedNotice>,
    nowhere: Source,
    records: &[Record],
    inbox: Option<mpsc::Receiver<Order>>,
) {
    topology::pin(cpu).expect("a CPU this process may use");
    let (mut runtime, _) = Driver::build(Wanted::Auto, 1).expect("a driver");
    runtime.block_on(async {
        let (links, _thread) = postgres::spawn(core, vec![nowhere], notices, |_| {}).expect("a thread");
        let (databases, _reports): (Vec<_>, Vec<_>) = links.into_iter().map(Link::open).unzip();
        let minter = Minter::new().expect("randomness");
        let share = Share::new(core, CORES, 1 << 20, Partitions::ONE, databases, minter);
        let of = Identity { system: 1, timeline: 1 };
        let begin = Begin { node: 0, of, partitions: Partitions::ONE.all().collect() };
        share.hear(Fed::Begin(begin, Default::default()));
        share.learn(Learnt::Committed(&records[core]), of);
        share.hear(Fed::Loaded(0, Partitions::ONE.all().collect()));
        let no_connections =
            ConnectionState { open: 0, limit: 0, accepted: 0, refused: 0, panics: 0, draining: false };
        let ledger = Ledger::new(LEDGER_BYTES_DEFAULT);
        let mesh = Mesh::join(wiring, Rc::new(share), ledger, Box::new(move || no_connections));
        let Some(inbox) = inbox else { return std::future::pending().await };
        // The wait for an order blocks the whole core, which has nothing else to do: the other core asks it nothing.
        while let Ok(Order { rounds, at_once, id, time }) = inbox.recv() {
            let expected = records.iter().find(|record| record.pessoa.id == id).expect("one of them");
            let began = Instant::now();
            for _ in 0..rounds {
                for body in join_all((0..at_once).map(|_| mesh.fetch(id))).await {
                    let body = body.ok().flatten().expect("its owner has it in memory");
                    let mut written = Vec::with_capacity(body.bytes());
                    body.write(&mut written);
                    assert_eq!(written, *expected.json);
                }
            }
            time.send(began.elapsed()).expect("the bench waits for it");
        }
    });
}
