//! The core's end of its Postgres thread: futures that resolve when the database has answered. It never
//! names a socket, SQL or the shard; what was learnt about committed rows goes to a callback.

use std::cell::Cell;
use std::convert::Infallible;
use std::time::Instant;

use futures_util::future::join3;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::commit::Pending;
use super::read::{Read, ReadKind};
use super::search::Search;
use super::thread::Requests;
use super::{Reply, Role};
use crate::channel::ring::{self, SharedSender};
use crate::channel::tickets::{Slot, Tickets};
use crate::limits::{
    COMMIT_QUEUE_MAX, COMMIT_TIME_MAX, READ_QUEUE_MAX, READ_TIME_MAX, SEARCH_QUEUE_MAX, SEARCH_TIME_MAX,
};
use crate::pessoa::Record;

/// The outcome of a create that the database decided.
pub enum Create {
    /// Committed to durable storage.
    Created(Box<Record>),
    /// Its apelido belongs to another committed pessoa.
    Duplicate,
    /// Its id belongs to another pessoa: mint again.
    Collision(Box<Record>),
    /// The database refuses the row itself; the SQLSTATE.
    Refused(Box<str>),
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unavailable {
    /// The queue to the database is full; nothing was sent.
    QueueFull,
    /// The deadline passed; a create may have been committed all the same.
    TimedOut,
}

/// Something the database said about its rows, whoever asked.
pub enum Learnt<'a> {
    /// This row is committed.
    Committed(&'a Record),
    /// A row with this apelido is committed, under an id that was not told.
    Taken(&'a str),
}

/// A core's handle on its Postgres thread.
pub struct Database {
    creates: Line<Pending>,
    reads: Line<Read>,
    searches: Line<Search>,
    tickets: Tickets<Role, Reply>,
    commit_reachable: Cell<bool>,
    read_reachable: Cell<bool>,
    open: Cell<Option<oneshot::Sender<Infallible>>>,
}

/// What was asked of one connection.
struct Line<T> {
    requests: SharedSender<T>,
    waiting: Cell<usize>,
}

impl<T> Line<T> {
    fn new(requests: ring::Sender<T>) -> Line<T> {
        Line { requests: SharedSender::new(requests), waiting: Cell::new(0) }
    }

    fn push(&self, request: T) {
        let pushed = self.requests.push(request);
        assert!(
            pushed.is_ok(),
            "the ring holds as many requests as there are tickets, and nothing is asked after the close"
        );
    }
}

impl Database {
    pub(super) fn new(requests: Requests) -> Database {
        Database {
            creates: Line::new(requests.creates),
            reads: Line::new(requests.reads),
            searches: Line::new(requests.searches),
            tickets: Tickets::with_capacity(1024),
            commit_reachable: Cell::new(false),
            read_reachable: Cell::new(false),
            open: Cell::new(Some(requests.open)),
        }
    }

    /// Inserts one pessoa; `Created` means committed.
    pub async fn create(&self, record: Box<Record>) -> Result<Create, Unavailable> {
        let deadline = Instant::now() + COMMIT_TIME_MAX;
        let slot = self.wait_as(Role::Commit)?;
        self.creates.push(Pending::new(slot.ticket(), record, deadline));
        match slot.await {
            Reply::Committed { record, .. } => Ok(Create::Created(record)),
            Reply::Duplicate { .. } => Ok(Create::Duplicate),
            Reply::Collision { record, .. } => Ok(Create::Collision(record)),
            Reply::Refused { sqlstate, .. } => Ok(Create::Refused(sqlstate)),
            Reply::Unavailable { .. } => Err(Unavailable::TimedOut),
            _ => unreachable!("a create is answered as a create"),
        }
    }

    /// The committed row with this id, asked of Postgres.
    pub async fn fetch(&self, id: Uuid) -> Result<Option<Box<Record>>, Unavailable> {
        let deadline = Instant::now() + READ_TIME_MAX;
        let slot = self.wait_as(Role::Read)?;
        self.reads.push(Read::new(slot.ticket(), deadline, ReadKind::Fetch(id)));
        match slot.await {
            Reply::Fetched { found, .. } => Ok(found),
            Reply::Unavailable { .. } => Err(Unavailable::TimedOut),
            _ => unreachable!("a fetch is answered as a fetch"),
        }
    }

    /// The number of committed rows, counted by Postgres after this call began.
    pub async fn count(&self) -> Result<u64, Unavailable> {
        let deadline = Instant::now() + READ_TIME_MAX;
        let slot = self.wait_as(Role::Read)?;
        self.reads.push(Read::new(slot.ticket(), deadline, ReadKind::Count));
        match slot.await {
            Reply::Counted { rows, .. } => Ok(rows),
            Reply::Unavailable { .. } => Err(Unavailable::TimedOut),
            _ => unreachable!("a count is answered as a count"),
        }
    }

    /// At most 50 committed pessoas whose search text contains `term`, ascending by id: Postgres reads the whole
    /// table for it, so this is for what memory cannot answer.
    pub async fn search(&self, term: &[u8]) -> Result<Vec<Record>, Unavailable> {
        let deadline = Instant::now() + SEARCH_TIME_MAX;
        let slot = self.wait_as(Role::Search)?;
        self.searches.push(Search::new(slot.ticket(), deadline, term.into()));
        match slot.await {
            Reply::Searched { found, .. } => Ok(found),
            Reply::Unavailable { .. } => Err(Unavailable::TimedOut),
            _ => unreachable!("a search is answered as a search"),
        }
    }

    /// Whether both connections stand.
    pub fn reachable(&self) -> bool {
        self.commit_reachable.get() && self.read_reachable.get()
    }

    /// Creates that wait for their commit.
    pub fn creates_waiting(&self) -> usize {
        self.creates.waiting.get()
    }

    /// Point reads and counts that wait.
    pub fn reads_waiting(&self) -> usize {
        self.reads.waiting.get()
    }

    /// Ends the Postgres thread. The core asks nothing any more.
    pub fn close(&self) {
        self.creates.requests.close();
        self.reads.requests.close();
        self.searches.requests.close();
        drop(self.open.take());
    }

    /// For ever: wakes the thread for what was asked in one turn of the core, once a connection that waits for so much.
    pub async fn flush(&self) {
        join3(self.creates.requests.flush(), self.reads.requests.flush(), self.searches.requests.flush())
            .await;
    }

    /// Hands replies to those who wait, and to `learn` what they say about rows, before any waiter runs.
    /// Returns when the thread is gone, which is a fault.
    pub(super) async fn run(&self, replies: &mut ring::Receiver<Reply>, mut learn: impl FnMut(Learnt<'_>)) {
        while let Some(reply) = replies.pop().await {
            let ticket = match &reply {
                Reply::Committed { ticket, record } => {
                    learn(Learnt::Committed(record));
                    match ticket {
                        Some(ticket) => *ticket,
                        None => continue,
                    }
                }
                Reply::Duplicate { ticket, record } => {
                    learn(Learnt::Taken(&record.pessoa.apelido));
                    *ticket
                }
                Reply::Fetched { ticket, found } => {
                    if let Some(record) = found {
                        learn(Learnt::Committed(record));
                    }
                    *ticket
                }
                Reply::Collision { ticket, .. }
                | Reply::Refused { ticket, .. }
                | Reply::Unavailable { ticket }
                | Reply::Searched { ticket, .. }
                | Reply::Counted { ticket, .. } => *ticket,
                Reply::Reachable { role, reachable } => {
                    match role {
                        Role::Commit => self.commit_reachable.set(*reachable),
                        Role::Read => self.read_reachable.set(*reachable),
                        // Made when it is needed: its absence says nothing.
                        Role::Search | Role::Feed => {}
                    }
                    continue;
                }
            };
            let role = self.tickets.answer(ticket, reply);
            let (waiting, _) = self.bound(role);
            waiting.set(waiting.get() - 1);
        }
    }

    fn wait_as(&self, role: Role) -> Result<Slot<'_, Role, Reply>, Unavailable> {
        let (waiting, max) = self.bound(role);
        if waiting.get() >= max {
            return Err(Unavailable::QueueFull);
        }
        waiting.set(waiting.get() + 1);
        Ok(self.tickets.take(role))
    }

    fn bound(&self, role: Role) -> (&Cell<usize>, usize) {
        match role {
            Role::Commit => (&self.creates.waiting, COMMIT_QUEUE_MAX),
            Role::Read => (&self.reads.waiting, READ_QUEUE_MAX),
            Role::Search => (&self.searches.waiting, SEARCH_QUEUE_MAX),
            Role::Feed => unreachable!("no core asks the feed"),
        }
    }
}
