//! Starts the threads of an instance, hears what happens to them, and ends them in order. It serves nothing itself.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::announcement::Announcement;
use super::database::DatabaseServer;
use super::events::{Event, Events};
use super::signals::Signals;
use super::sockets::Sockets;
use super::supervisor::Supervisor;
use crate::admin::{Board, Watched};
use crate::channel::ring;
use crate::core::{self, CorePlan, Order, Serving, Wanted};
use crate::limits::{ADMIN_QUESTIONS_MAX, HANG_UP_TIME_MAX, STOP_TIME_MAX};
use crate::net::{Accepting, Acceptor};
use crate::people::{self, InstanceNumber, owner_of_apelido, owner_of_id};
use crate::pessoa::Record;
use crate::postgres::{self, Link, Owners, ServerFacts, Source};

/// How often the database threads are looked at while they end.
const HANG_UP_POLL: Duration = Duration::from_millis(2);
/// How often the private Postgres is looked after.
const SUPERVISION_PERIOD: Duration = Duration::from_millis(500);
/// Orders that one core's ring holds: each order is given once.
const ORDERS_MAX: usize = 3;

/// What an instance is to be.
pub(super) struct InstancePlan {
    /// The logical CPU of each core.
    pub(super) cpus: Vec<usize>,
    /// What drives the sockets.
    pub(super) driver: Wanted,
    /// Which of several instances this is, if it was told.
    pub(super) instance: Option<InstanceNumber>,
    /// Bytes for pessoas and their index, on all cores together.
    pub(super) cache_bytes: usize,
    /// How many connections each core may have open at once.
    pub(super) connections_max: usize,
    /// Bytes that each core may hold for its clients.
    pub(super) ledger_bytes: usize,
    /// Gives what the calling thread has freed back to the system.
    pub(super) give_back: fn(),
    /// What the database server of each node said at the start.
    pub(super) servers: Vec<ServerFacts>,
    /// Whether Postgres is this process' own.
    pub(super) private: bool,
    /// Where operators read what the instance is.
    pub(super) board: Arc<Board>,
    /// Who is told when it serves, and when it stops.
    pub(super) supervisor: Supervisor,
}

/// The running threads, and what was heard of them.
pub(super) struct Instance {
    plan: InstancePlan,
    happened: Receiver<Event>,
    addresses: Vec<String>,
    acceptors: Vec<Acceptor>,
    accepting: Vec<Accepting>,
    /// In the order of the cores.
    orders: Vec<ring::Sender<Order>>,
    /// The Postgres thread of each core, and the feed.
    database_threads: Vec<JoinHandle<()>>,
    serving: Vec<Serving>,
    rows: usize,
    load_time: Duration,
}

impl Instance {
    /// Starts all threads; signals are events from now on.
    ///
    /// # Errors
    ///
    /// One line: a thread cannot start.
    pub(super) fn start(
        plan: InstancePlan,
        nodes: &[Source],
        mut sockets: Sockets,
        signals: Signals,
    ) -> Result<Instance, String> {
        let (events, happened) = Events::channel();
        signals.forward(events.clone())?;
        let mut instance = Instance {
            plan,
            happened,
            addresses: sockets.addresses().to_vec(),
            acceptors: sockets.acceptors(),
            accepting: Vec::new(),
            orders: Vec::new(),
            database_threads: Vec::new(),
            serving: Vec::new(),
            rows: 0,
            load_time: Duration::ZERO,
        };
        instance.start_threads(nodes, &mut sockets, &events)?;
        Ok(instance)
    }

    /// Starts the feed, and each core with its Postgres thread.
    fn start_threads(
        &mut self,
        nodes: &[Source],
        sockets: &mut Sockets,
        events: &Events,
    ) -> Result<(), String> {
        let cores = self.plan.cpus.len();
        let died = |what: String| {
            let events = events.clone();
            move |why: &str| events.tell(Event::Died(format!("{what} ended: {why}")))
        };
        let no_thread = |error| format!("cannot start a thread: {error}");
        let owners = move |record: &Record| Owners {
            row: owner_of_id(&record.pessoa.id, cores),
            apelido: owner_of_apelido(&record.pessoa.apelido, cores),
        };
        let feed = postgres::feed::spawn(cores, nodes.to_vec(), owners, died("the feed".to_owned()));
        let feed = feed.map_err(no_thread)?;
        self.database_threads.push(feed.thread);
        let (mut asked, mut counters) = (Vec::new(), feed.counters);
        let parts = feed.rows.into_iter().zip(feed.notices).zip(people::wire(cores));
        for (core, ((rows, notices), wiring)) in parts.enumerate() {
            let died = died(format!("the postgres thread of core {core}"));
            let (links, thread) = postgres::spawn(core, nodes.to_vec(), notices, died).map_err(no_thread)?;
            self.database_threads.push(thread);
            counters.extend(links.iter().map(Link::counters));
            let (ask, questions) = ring::channel(ADMIN_QUESTIONS_MAX);
            asked.push(ask);
            let (order, orders) = ring::channel(ORDERS_MAX);
            self.orders.push(order);
            let (own, handed) = sockets.of_core(core);
            let plan = CorePlan {
                core,
                cpus: self.plan.cpus.clone(),
                driver: self.plan.driver,
                sockets: own,
                handed,
                links,
                partitions: nodes[0].partitions(),
                rows,
                wiring,
                servers: self.plan.servers.clone(),
                instance: self.plan.instance,
                cache_bytes: self.plan.cache_bytes / cores,
                connections_max: self.plan.connections_max,
                ledger_bytes: self.plan.ledger_bytes,
                give_back: self.plan.give_back,
                orders,
                questions,
            };
            start_core(plan, events)?;
        }
        self.plan.board.watch(Watched {
            cores: asked,
            cache_bytes: self.plan.cache_bytes / cores,
            counters,
            queued_bytes: feed.queued_bytes,
            nodes: nodes.to_vec(),
            servers: self.plan.servers.clone(),
        });
        Ok(())
    }

    /// Handles what happens until every core has left, or a second signal ends the wait.
    ///
    /// # Errors
    ///
    /// One line: a thread died.
    pub(super) fn attend(&mut self, database: &mut DatabaseServer) -> Result<(), String> {
        let cores = self.plan.cpus.len();
        let (mut loaded, mut drained, mut left) = (0, 0, 0);
        let mut stopping: Option<Instant> = None;
        while left < cores {
            if stopping.is_some_and(|since| since.elapsed() >= STOP_TIME_MAX) {
                // A core that has drained leaves with the others, as they may still ask it.
                warn!(
                    "of {cores} cores, {drained} drained and {left} left in time: ending without the others"
                );
                return Ok(());
            }
            let left_to_stop = stopping.map(|since| STOP_TIME_MAX.saturating_sub(since.elapsed()));
            match self.happened.recv_timeout(left_to_stop.unwrap_or(SUPERVISION_PERIOD)) {
                Ok(Event::Core(core::CoreEvent::Loaded { rows, time })) => {
                    loaded += 1;
                    self.rows += rows;
                    self.load_time = self.load_time.max(time);
                    if loaded == cores && stopping.is_none() {
                        self.order(|| Order::Listen);
                    }
                }
                Ok(Event::Core(core::CoreEvent::Serving(serving))) => {
                    self.serving.push(serving);
                    if self.serving.len() == cores && stopping.is_none() {
                        self.start_accepting()?;
                        let drivers = self.serving.iter().map(|serving| serving.driver.clone());
                        self.plan.board.serves(drivers.collect());
                        // Whoever reads this line finds the instance ready.
                        self.announce();
                        self.plan.supervisor.ready(&self.what_serves());
                    }
                }
                Ok(Event::Core(core::CoreEvent::Drained)) => {
                    drained += 1;
                    if drained == cores {
                        self.order(|| Order::Leave);
                    }
                }
                Ok(Event::Left) => left += 1,
                Ok(Event::Signal(signal)) => match stopping {
                    None => {
                        info!(signal, "stopping: answering what was received");
                        self.plan.supervisor.stopping("answering what was received");
                        stopping = Some(Instant::now());
                        self.drain();
                    }
                    // At once: whoever stops the database knows it too.
                    Some(_) => return Ok(()),
                },
                Ok(Event::Died(why)) => return Err(why),
                Err(RecvTimeoutError::Timeout) if stopping.is_some() => {}
                Err(RecvTimeoutError::Timeout) => database.look_after(),
                Err(RecvTimeoutError::Disconnected) => unreachable!("the signal thread holds a sender"),
            }
        }
        self.hang_up();
        Ok(())
    }

    /// Waits for the database threads, which end after their cores: a private Postgres must not be stopped while they
    /// are connected, unless a second signal comes.
    fn hang_up(&mut self) {
        let began = Instant::now();
        while began.elapsed() < HANG_UP_TIME_MAX && !self.database_threads.iter().all(JoinHandle::is_finished)
        {
            if let Ok(Event::Signal(_)) = self.happened.recv_timeout(HANG_UP_POLL) {
                return;
            }
        }
    }

    fn order(&mut self, order: impl Fn() -> Order) {
        for core in &mut self.orders {
            assert!(core.push(order()).is_ok(), "each order is given once");
            core.wake();
        }
    }

    /// Starts the acceptors, which accept for all cores. The caller waits until every core serves.
    fn start_accepting(&mut self) -> Result<(), String> {
        for acceptor in self.acceptors.drain(..) {
            self.accepting.push(acceptor.start()?);
        }
        Ok(())
    }

    /// Drains cores and acceptors at the same time. A core waits until the acceptors can hand nothing more to it.
    fn drain(&mut self) {
        self.order(|| Order::Drain);
        // An acceptor that never listened has nothing to hand over.
        self.acceptors.clear();
        for accepting in self.accepting.drain(..) {
            std::thread::spawn(move || accepting.drain());
        }
    }

    /// What a supervisor shows of the running server.
    fn what_serves(&self) -> String {
        let (cores, driver) = (self.serving.len(), self.serving[0].driver.kind.name());
        format!(
            "serving {} on {cores} cores by {driver}; {} rows were loaded",
            self.addresses.join(","),
            self.rows
        )
    }

    fn announce(&mut self) {
        self.serving.sort_by_key(|serving| serving.core);
        Announcement {
            serving: &self.serving,
            addresses: &self.addresses,
            cpus: &self.plan.cpus,
            cache_bytes: self.plan.cache_bytes,
            servers: &self.plan.servers,
            private: self.plan.private,
            rows: self.rows,
            load_time: self.load_time,
        }
        .say();
    }
}

fn start_core(plan: CorePlan, events: &Events) -> Result<(), String> {
    let events = events.clone();
    let number = plan.core;
    let run = move || {
        let happens = events.clone();
        let run = || core::run(plan, move |event| happens.tell(Event::Core(event)));
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
        events.tell(match ended {
            Ok(Ok(())) => Event::Left,
            Ok(Err(why)) => Event::Died(why),
            Err(_) => Event::Died(format!("core {number} panicked")),
        });
    };
    let spawned = std::thread::Builder::new().name(format!("core-{number}")).spawn(run);
    spawned.map(drop).map_err(|error| format!("cannot start a thread: {error}"))
}
