//! One core's Postgres thread: a tokio runtime with a task and a queue for each connection. It never sees a client,
//! only tickets.

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;
use std::thread::JoinHandle;

use tokio::sync::oneshot;
use tokio::task::LocalSet;
use tokio_postgres::Config;

use super::commit::{self, Pending};
use super::feed::FeedNotice;
use super::handle::{Database, Learnt};
use super::queue::Queue;
use super::read::{self, Read};
use super::search::{self, Search};
use super::session::Connector;
use super::{Reply, Role};
use crate::channel::ring;
use crate::limits::{COMMIT_BATCH_MAX, COMMIT_QUEUE_MAX, READ_QUEUE_MAX, SEARCH_QUEUE_MAX};

/// Requests of one core that can be under way.
const REQUESTS_MAX: usize = COMMIT_QUEUE_MAX + READ_QUEUE_MAX + SEARCH_QUEUE_MAX;
/// Replies to them, the rows that outlived their clients, and the states of the connections.
const REPLIES_MAX: usize = REQUESTS_MAX + COMMIT_QUEUE_MAX + COMMIT_BATCH_MAX + 64;

/// The core's ends of the rings, on their way to the core.
pub struct Link {
    requests: Requests,
    replies: ring::Receiver<Reply>,
}

/// Where a core asks, by connection.
pub(super) struct Requests {
    pub(super) creates: ring::Sender<Pending>,
    pub(super) reads: ring::Sender<Read>,
    pub(super) searches: ring::Sender<Search>,
    /// Dropped when the core asks nothing any more.
    pub(super) open: oneshot::Sender<Infallible>,
}

impl Link {
    /// The handle, and the replies that `Replies::run` hands to it.
    pub fn open(self) -> (Rc<Database>, Replies) {
        let database = Rc::new(Database::new(self.requests));
        (Rc::clone(&database), Replies { database, replies: self.replies })
    }
}

/// The replies of one Postgres thread, seen from the core.
pub struct Replies {
    database: Rc<Database>,
    replies: ring::Receiver<Reply>,
}

impl Replies {
    /// Delivers replies until the thread is gone; `learn` hears of every committed row before its client does.
    pub async fn run(mut self, learn: impl FnMut(Learnt<'_>)) {
        self.database.run(&mut self.replies, learn).await;
    }
}

/// Starts the Postgres thread of `core`; `feed` hears of what it commits. It ends when the core closes its
/// handle, or by a fault, which `died` reports.
pub fn spawn(
    core: usize,
    config: Config,
    feed: FeedNotice,
    died: impl FnOnce(&str) + Send + 'static,
) -> std::io::Result<(Link, JoinHandle<()>)> {
    let (creates, creates_inbox) = ring::channel(COMMIT_QUEUE_MAX);
    let (reads, reads_inbox) = ring::channel(READ_QUEUE_MAX);
    let (searches, searches_inbox) = ring::channel(SEARCH_QUEUE_MAX);
    let (open, closed) = oneshot::channel();
    let (outbox, replies) = ring::channel(REPLIES_MAX);
    let thread = std::thread::Builder::new().name(format!("postgres-{core}")).spawn(move || {
        let inbox = Inbox { creates: creates_inbox, reads: reads_inbox, searches: searches_inbox, closed };
        let ended =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| serve(config, inbox, outbox, feed)));
        match ended {
            // The core closed its end: it is leaving.
            Ok(Ok(())) => {}
            Ok(Err(error)) => died(&format!("its runtime could not be built: {error}")),
            Err(_) => died("it panicked"),
        }
    })?;
    Ok((Link { requests: Requests { creates, reads, searches, open }, replies }, thread))
}

/// The thread's ends of [`Requests`].
struct Inbox {
    creates: ring::Receiver<Pending>,
    reads: ring::Receiver<Read>,
    searches: ring::Receiver<Search>,
    closed: oneshot::Receiver<Infallible>,
}

fn serve(config: Config, inbox: Inbox, outbox: ring::Sender<Reply>, feed: FeedNotice) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outbox = Rc::new(Outbox { replies: RefCell::new(outbox) });
    let connector = |role| {
        let outbox = Rc::clone(&outbox);
        Connector::new(config.clone(), role, move |reachable| {
            outbox.push(Reply::Reachable { role, reachable });
            outbox.wake();
        })
    };
    let creates = Queue::new(inbox.creates, Rc::clone(&outbox));
    let reads = Queue::new(inbox.reads, Rc::clone(&outbox));
    let searches = Queue::new(inbox.searches, Rc::clone(&outbox));
    let tasks = LocalSet::new();
    let committer = tasks.spawn_local(commit::run(creates, feed, connector(Role::Commit)));
    let reader = tasks.spawn_local(read::run(reads, Rc::clone(&outbox), connector(Role::Read)));
    let searcher = tasks.spawn_local(search::run(searches, connector(Role::Search)));
    tasks.block_on(&runtime, async move {
        tokio::select! {
            Err(_) = inbox.closed => {}
            ended = committer => ended.expect("the committer does not panic"),
            ended = reader => ended.expect("the reader does not panic"),
            ended = searcher => ended.expect("the searcher does not panic"),
        }
    });
    Ok(())
}

/// The thread's end of the reply ring.
pub(super) struct Outbox {
    replies: RefCell<ring::Sender<Reply>>,
}

impl Outbox {
    /// Queues a reply; [`wake`](Self::wake) follows once a batch.
    pub(super) fn push(&self, reply: Reply) {
        let pushed = self.replies.borrow_mut().push(reply);
        assert!(pushed.is_ok(), "the ring holds a reply for every ticket");
    }

    pub(super) fn wake(&self) {
        self.replies.borrow().wake();
    }
}
