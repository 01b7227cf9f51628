//! One core: a pinned thread with its ring, listeners, share and database handle. It starts and stops them; it
//! answers nothing itself.

use std::rc::Rc;
use std::time::{Duration, Instant};

use monoio::time::sleep;
use tokio::sync::oneshot;

use super::begin::{Begun, begin};
use super::driver::{Chosen, Wanted};
use crate::api::{Api, DriverState, Health, Requests, Series};
use crate::channel::ring;
use crate::ledger::Ledger;
use crate::limits::{FEED_PAUSE, FEED_TURN_MAX};
use crate::metrics::Tally;
use crate::net::{Accepted, Bound, Intake, Shared, clock};
use crate::people::{ConnectionState, CoreState, InstanceNumber, Mesh, Minter, Share, Wiring};
use crate::postgres::{Fed, Link, Partitions, ServerFacts};

/// All that one core is made of.
pub struct CorePlan {
    /// The core's number in this instance.
    pub core: usize,
    /// The logical CPU of every core of the instance.
    pub cpus: Vec<usize>,
    /// What drives its sockets.
    pub driver: Wanted,
    /// The core's own sockets, which are bound and do not listen yet.
    pub sockets: Vec<Bound>,
    /// Connections that acceptors hand to this core.
    pub handed: Vec<ring::Receiver<Accepted>>,
    /// Its Postgres thread: a link for each node.
    pub links: Vec<Link>,
    /// In how many partitions the people are.
    pub partitions: Partitions,
    /// What the feed sends it.
    pub rows: ring::Receiver<Fed>,
    /// Its rings to the other cores.
    pub wiring: Wiring,
    /// What the database server of each node said at the start.
    pub servers: Vec<ServerFacts>,
    /// Which of several instances this is, if it was told.
    pub instance: Option<InstanceNumber>,
    /// Bytes for its pessoas and index.
    pub cache_bytes: usize,
    /// How many connections may be open at once.
    pub connections_max: usize,
    /// Bytes that it may hold for its clients.
    pub ledger_bytes: usize,
    /// Gives what the calling thread has freed back to the system.
    pub give_back: fn(),
    /// What the core is told to do.
    pub orders: ring::Receiver<Order>,
    /// Where it is asked what it counted.
    pub questions: ring::Receiver<Question>,
}

/// Asks a core what it counted.
pub struct Question(pub oneshot::Sender<Counted>);

/// What a core counted, and what it is at the moment.
pub struct Counted {
    /// What it says in `/healthz` too.
    pub state: CoreState,
    /// What it answered.
    pub requests: Vec<(Series, Tally)>,
}

/// What a core is told, in this order.
#[derive(Debug)]
pub enum Order {
    /// All cores are loaded: take requests.
    Listen,
    /// Take no new connections, and answer what was received.
    Drain,
    /// All cores have drained, so that no other core will ask this one: end.
    Leave,
}

/// What a core says of itself.
pub enum CoreEvent {
    /// Its share of the table is in memory.
    Loaded {
        /// Rows that were loaded.
        rows: usize,
        /// How long that took.
        time: Duration,
    },
    /// It takes requests.
    Serving(Serving),
    /// Its clients are gone, or ran out of time; it still answers the other cores.
    Drained,
}

/// A core that takes requests.
pub struct Serving {
    /// The core's number.
    pub core: usize,
    /// The driver that runs it.
    pub driver: Chosen,
    /// Whether the kernel pinned it, or why not.
    pub pinned: Result<(), String>,
}

/// Runs one core until it is told to leave.
///
/// # Errors
///
/// One line: the driver was refused or a socket cannot listen.
pub fn run(plan: CorePlan, tell: impl Fn(CoreEvent) + 'static) -> Result<(), String> {
    let Begun { mut driver, chosen, pinned } =
        begin(plan.cpus[plan.core], plan.driver, plan.connections_max)?;
    let nonblocking = driver.needs_nonblocking();
    let result = driver.block_on(core(plan, chosen, nonblocking, pinned, Rc::new(tell)));
    // Tasks may still wait on this driver, so it is not dropped: the process is about to exit, and the kernel cleans
    // up.
    std::mem::forget(driver);
    result
}

async fn core(
    plan: CorePlan,
    driver: Chosen,
    nonblocking: bool,
    pinned: Result<(), String>,
    tell: Rc<impl Fn(CoreEvent) + 'static>,
) -> Result<(), String> {
    let minter = Minter::of(plan.instance).map_err(|error| format!("no randomness for ids: {error}"))?;
    let (databases, reports): (Vec<_>, Vec<_>) = plan.links.into_iter().map(Link::open).unzip();
    let share =
        Share::new(plan.core, plan.cpus.len(), plan.cache_bytes, plan.partitions, databases.clone(), minter);
    let share = Rc::new(share);
    for (database, reports) in databases.into_iter().zip(reports) {
        let learner = Rc::clone(&share);
        monoio::spawn(reports.run(move |learnt, of| learner.learn(learnt, of)));
        monoio::spawn(async move { database.flush().await });
    }
    monoio::spawn(hear(plan.rows, Rc::clone(&share), Rc::clone(&tell)));

    let ledger = Ledger::new(plan.ledger_bytes);
    let shared = Shared::new(plan.connections_max, Rc::clone(&ledger));
    let connections = connection_state(Rc::clone(&shared));
    let api = Rc::new(Api {
        mesh: Mesh::join(plan.wiring, Rc::clone(&share), ledger, connections),
        health: Health {
            started: Instant::now(),
            driver: DriverState { name: driver.kind.name(), reason: driver.reason.clone() },
            cpus: plan.cpus,
            cache_bytes: plan.cache_bytes,
            partitions: plan.partitions.count(),
            databases: plan.servers.into_iter().map(|server| (server.version, server.durable)).collect(),
        },
        requests: Requests::default(),
    });
    monoio::spawn(tell_what_was_counted(plan.questions, Rc::clone(&api)));
    let (time, give_back) = (Rc::clone(&shared), plan.give_back);
    monoio::spawn(clock::every_second(move || {
        time.tick();
        if time.ledger.has_fallen() {
            give_back();
        }
    }));

    let mut intake = Intake::new(shared, api, nonblocking);
    let (mut sockets, mut handed) = (plan.sockets, plan.handed);
    let mut orders = plan.orders;
    while let Some(order) = orders.pop().await {
        match order {
            Order::Listen => {
                for bound in sockets.drain(..) {
                    intake.listen(bound)?;
                }
                for receiver in handed.drain(..) {
                    intake.take_over(receiver);
                }
                let pinned = pinned.clone();
                tell(CoreEvent::Serving(Serving { core: plan.core, driver: driver.clone(), pinned }));
            }
            Order::Drain => {
                // These rings are still here if the core was never told to listen; no acceptor listens then.
                handed.clear();
                intake.drain().await;
                tell(CoreEvent::Drained);
            }
            Order::Leave => break,
        }
    }
    share.close();
    Ok(())
}

/// What `/healthz` says of the core's connections.
fn connection_state(shared: Rc<Shared>) -> Box<dyn Fn() -> ConnectionState> {
    Box::new(move || ConnectionState {
        open: shared.connections.count(),
        limit: shared.connections.max(),
        accepted: shared.counters.accepted(),
        refused: shared.counters.refused(),
        panics: shared.counters.panicked(),
        draining: shared.drain.has_begun(),
    })
}

/// Answers whoever asks what was counted, for ever.
async fn tell_what_was_counted(mut questions: ring::Receiver<Question>, api: Rc<Api>) {
    while let Some(Question(answer)) = questions.pop().await {
        let counted = Counted { state: api.mesh.state(), requests: api.requests.tallies() };
        // Whoever asked may have given up.
        let _gone = answer.send(counted).is_err();
    }
}

/// Takes in what the feed sends, for ever.
async fn hear(mut rows: ring::Receiver<Fed>, share: Rc<Share>, tell: Rc<impl Fn(CoreEvent) + 'static>) {
    let began = Instant::now();
    let mut told = false;
    let mut turn = 0;
    while let Some(fed) = rows.pop().await {
        // While this ring is not empty the core's other tasks wait. A sleep, unlike a yield, also lets the driver work.
        turn += 1;
        if turn == FEED_TURN_MAX {
            turn = 0;
            sleep(FEED_PAUSE).await;
        }
        // Only the first load is told: when the feed loads another history, this core goes on answering meanwhile.
        if share.hear(fed) && !told {
            told = true;
            tell(CoreEvent::Loaded { rows: share.state().memory.pessoas, time: began.elapsed() });
        }
    }
}
