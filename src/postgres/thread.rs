//! One core's Postgres thread: a tokio runtime that sorts requests into a queue for each connection. It
//! never sees a client, only tickets.

use std::cell::RefCell;
use std::rc::Rc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::task::LocalSet;
use tokio_postgres::Config;

use super::commit::{self, Pending};
use super::feed::FeedNotice;
use super::handle::{Database, Learnt};
use super::queue::Queue;
use super::read::{self, Read, ReadKind};
use super::search::{self, Search};
use super::session::Connector;
use super::{Reply, Request, Role};
use crate::limits::{COMMIT_QUEUE_MAX, READ_QUEUE_MAX, SEARCH_QUEUE_MAX};
use crate::ring;

/// Requests of one core that can be under way.
const REQUESTS_MAX: usize = COMMIT_QUEUE_MAX + READ_QUEUE_MAX + SEARCH_QUEUE_MAX;
/// Replies to them, the rows that outlived their clients, and the states of the connections.
const REPLIES_MAX: usize = REQUESTS_MAX + COMMIT_QUEUE_MAX + 64;
/// How often the queues are searched for requests past their deadline, while they hold any.
const EXPIRY_PERIOD: Duration = Duration::from_millis(50);

/// The core's ends of the two rings, on their way to the core.
pub struct Link {
    requests: ring::Sender<Request>,
    replies: ring::Receiver<Reply>,
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
    let (requests, inbox) = ring::channel(REQUESTS_MAX);
    let (outbox, replies) = ring::channel(REPLIES_MAX);
    let thread = std::thread::Builder::new().name(format!("postgres-{core}")).spawn(move || {
        let ended =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| serve(config, inbox, outbox, feed)));
        match ended {
            // The core closed its end: it is leaving.
            Ok(Ok(())) => {}
            Ok(Err(error)) => died(&format!("its runtime could not be built: {error}")),
            Err(_) => died("it panicked"),
        }
    })?;
    Ok((Link { requests, replies }, thread))
}

fn serve(
    config: Config,
    inbox: ring::Receiver<Request>,
    outbox: ring::Sender<Reply>,
    feed: FeedNotice,
) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outbox = Rc::new(Outbox { replies: RefCell::new(outbox) });
    let creates = Rc::new(Queue::default());
    let reads = Rc::new(Queue::default());
    let searches = Rc::new(Queue::default());
    let connector = |role| {
        let outbox = Rc::clone(&outbox);
        Connector::new(config.clone(), role, move |reachable| {
            outbox.push(Reply::Reachable { role, reachable });
            outbox.wake();
        })
    };
    let tasks = LocalSet::new();
    let committer = tasks.spawn_local(commit::run(
        Rc::clone(&creates),
        Rc::clone(&outbox),
        feed,
        connector(Role::Commit),
    ));
    let reader = tasks.spawn_local(read::run(Rc::clone(&reads), Rc::clone(&outbox), connector(Role::Read)));
    let searcher =
        tasks.spawn_local(search::run(Rc::clone(&searches), Rc::clone(&outbox), connector(Role::Search)));
    tasks.block_on(&runtime, async move {
        tokio::select! {
            () = dispatch(inbox, &creates, &reads, &searches, &outbox) => {}
            ended = committer => ended.expect("the committer does not panic"),
            ended = reader => ended.expect("the reader does not panic"),
            ended = searcher => ended.expect("the searcher does not panic"),
        }
    });
    Ok(())
}

/// Sorts requests into their queues and answers those whose deadline passes there.
async fn dispatch(
    mut inbox: ring::Receiver<Request>,
    creates: &Queue<Pending>,
    reads: &Queue<Read>,
    searches: &Queue<Search>,
    outbox: &Outbox,
) {
    let mut expire_at = Instant::now() + EXPIRY_PERIOD;
    loop {
        let waiting = !(creates.is_empty() && reads.is_empty() && searches.is_empty());
        // Not only while nothing arrives: under a steady load there is no such moment.
        if waiting && Instant::now() >= expire_at {
            let now = Instant::now();
            creates.expire(now, outbox);
            reads.expire(now, outbox);
            searches.expire(now, outbox);
            expire_at = now + EXPIRY_PERIOD;
        }
        let request = tokio::select! {
            biased;
            request = inbox.pop() => request,
            () = tokio::time::sleep_until(expire_at.into()), if waiting => continue,
        };
        let Some(mut request) = request else { return };
        loop {
            match request {
                Request::Create { ticket, record, deadline } => {
                    creates.push(Pending::new(ticket, record, deadline));
                }
                Request::Fetch { ticket, id, deadline } => {
                    reads.push(Read::new(ticket, deadline, ReadKind::Fetch(id)));
                }
                Request::Search { ticket, term, deadline } => {
                    searches.push(Search::new(ticket, deadline, term));
                }
                Request::Count { ticket, deadline } => {
                    reads.push(Read::new(ticket, deadline, ReadKind::Count));
                }
            }
            match inbox.try_pop() {
                Some(next) => request = next,
                None => break,
            }
        }
    }
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
