//! One core's Postgres thread: a tokio runtime with a task and a queue for each connection to each node. It never sees a
//! client, only tickets.

use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;

use futures_util::future::join_all;
use tokio::sync::oneshot;
use tokio::task::{LocalSet, spawn_local};
use uuid::Uuid;

use super::connector::Connector;
use super::count::COUNTING_CORE;
use super::counters::Counters;
use super::handle::{Database, Learnt};
use super::history::Identity;
use super::job::{Count, Insert, Job, Jobs};
use super::outbox::Outbox;
use super::own::FeedNotice;
use super::proof::Proofs;
use super::queue::Queue;
use super::report::Report;
use super::role::Role;
use super::source::Source;
use super::{commit, lookup, search, sql};
use crate::channel::ring;
use crate::limits::{COMMIT_BATCH_MAX, COMMIT_QUEUE_MAX, COUNT_QUEUE_MAX, READ_QUEUE_MAX, SEARCH_QUEUE_MAX};

/// Jobs of one core that can be under way.
const JOBS_MAX: usize = COMMIT_QUEUE_MAX + READ_QUEUE_MAX + COUNT_QUEUE_MAX + SEARCH_QUEUE_MAX;
/// Reports to one core that can be under way: the answer to each job, the commits of rows whose clients gave up, and
/// the states of the connections.
pub(super) const REPORTS_MAX: usize = JOBS_MAX + COMMIT_QUEUE_MAX + COMMIT_BATCH_MAX + 64;

/// The core's ends of the rings, on their way to the core.
pub struct Link {
    jobs: Jobs,
    reports: ring::Receiver<Report>,
    counters: Arc<Counters>,
}

impl Link {
    pub(super) fn new(jobs: Jobs, reports: ring::Receiver<Report>, counters: Arc<Counters>) -> Link {
        Link { jobs, reports, counters }
    }

    /// What the thread counts.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// The handle, and the reports that `Reports::run` hands to it.
    pub fn open(self) -> (Rc<Database>, Reports) {
        let database = Rc::new(Database::new(self.jobs));
        (Rc::clone(&database), Reports { database, reports: self.reports })
    }
}

/// The reports of one node, seen from the core.
pub struct Reports {
    database: Rc<Database>,
    reports: ring::Receiver<Report>,
}

impl Reports {
    /// Delivers reports until the thread is gone. `learn` hears of every row that was created or fetched, and of every
    /// apelido that was found taken, and of which history that holds, before the client does.
    pub async fn run(mut self, learn: impl FnMut(Learnt<'_>, Identity)) {
        self.database.run(&mut self.reports, learn).await;
    }
}

/// Starts the Postgres thread of `core`, with a link for each of `nodes`; `feed` hears of what the thread commits at each.
/// The thread ends when the core closes its handles, or by a fault, which `died` reports.
pub fn spawn(
    core: usize,
    nodes: Vec<Source>,
    feed: Vec<FeedNotice>,
    died: impl FnOnce(&str) + Send + 'static,
) -> std::io::Result<(Vec<Link>, JoinHandle<()>)> {
    let (links, lanes): (Vec<Link>, Vec<Lane>) =
        nodes.into_iter().zip(feed).map(|(source, feed)| lane(source, feed)).unzip();
    let thread = std::thread::Builder::new().name(format!("postgres-{core}")).spawn(move || {
        let run = || serve(core, lanes);
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
        match ended {
            // The core closed its end: it is leaving.
            Ok(Ok(())) => {}
            Ok(Err(error)) => died(&format!("its runtime could not be built: {error}")),
            Err(_) => died("it panicked"),
        }
    })?;
    Ok((links, thread))
}

/// The ways to one node and back.
struct Lane {
    source: Source,
    inbox: Inbox,
    outbox: ring::Sender<Report>,
    feed: FeedNotice,
    counters: Arc<Counters>,
}

fn lane(source: Source, feed: FeedNotice) -> (Link, Lane) {
    let (inserts, inserts_inbox) = ring::channel(COMMIT_QUEUE_MAX);
    let (reads, reads_inbox) = ring::channel(READ_QUEUE_MAX);
    let (counts, counts_inbox) = ring::channel(COUNT_QUEUE_MAX);
    let (searches, searches_inbox) = ring::channel(SEARCH_QUEUE_MAX);
    let (open, closed) = oneshot::channel();
    let (outbox, reports) = ring::channel(REPORTS_MAX);
    let counters = Arc::<Counters>::default();
    let link = Link::new(Jobs { inserts, reads, counts, searches, open }, reports, Arc::clone(&counters));
    let inbox = Inbox {
        inserts: inserts_inbox,
        reads: reads_inbox,
        counts: counts_inbox,
        searches: searches_inbox,
        closed,
    };
    (link, Lane { source, inbox, outbox, feed, counters })
}

/// The thread's ends of [`Jobs`].
struct Inbox {
    inserts: ring::Receiver<Insert>,
    reads: ring::Receiver<Job<Uuid>>,
    counts: ring::Receiver<Job<Count>>,
    searches: ring::Receiver<Job<Box<[u8]>>>,
    closed: oneshot::Receiver<Infallible>,
}

fn serve(core: usize, lanes: Vec<Lane>) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let tasks = LocalSet::new();
    let lanes = lanes.into_iter().map(|lane| attend(core, lane));
    tasks.block_on(&runtime, join_all(lanes));
    Ok(())
}

/// Answers what one node is asked, until the core closes its handle.
async fn attend(core: usize, Lane { source, inbox, outbox, feed, counters }: Lane) {
    let outbox = Rc::new(Outbox::new(outbox));
    let reachable = |role| {
        let outbox = Rc::clone(&outbox);
        move |of| {
            outbox.push(Report::Reachable { role, of });
            outbox.wake();
        }
    };
    let inserts = Queue::new(inbox.inserts, Rc::clone(&outbox));
    let reads = Queue::new(inbox.reads, Rc::clone(&outbox));
    let counts = Queue::new(inbox.counts, Rc::clone(&outbox));
    let searches = Queue::new(inbox.searches, Rc::clone(&outbox));
    let commits = Connector::new(source.clone(), &counters, reachable(Role::Commit));
    let reads_from = Connector::new(source.clone(), &counters, reachable(Role::Read));
    let counts_in = Connector::new(source.clone(), &counters, reachable(Role::Count));
    let searches_in = Connector::new(source, &counters, reachable(Role::Search));
    let proofs = Rc::new(Proofs::default());
    let committer = spawn_local(commit::run(inserts, feed, Rc::clone(&proofs), commits));
    let reader = lookup::run::<sql::Read>(reads, Rc::clone(&outbox), Rc::clone(&proofs), reads_from, true);
    let reader = spawn_local(reader);
    // Nobody asks the others.
    let counts_here = core == COUNTING_CORE;
    let counter =
        lookup::run::<sql::Count>(counts, Rc::clone(&outbox), Rc::clone(&proofs), counts_in, counts_here);
    let counter = spawn_local(counter);
    let searcher = spawn_local(search::run(searches, proofs, searches_in));
    tokio::select! {
        Err(_) = inbox.closed => {}
        ended = committer => ended.expect("the committer does not panic"),
        ended = reader => ended.expect("the reader does not panic"),
        ended = counter => ended.expect("the counter does not panic"),
        ended = searcher => ended.expect("the searcher does not panic"),
    }
}
