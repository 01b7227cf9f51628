//! The core's end of its Postgres thread, for one node: futures that resolve when the database has answered. It never
//! names a socket, SQL or the shard; what was learnt about committed rows goes to a callback.

use std::cell::Cell;
use std::convert::Infallible;
use std::ops::AddAssign;
use std::time::{Duration, Instant};

use futures_util::future::join4;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::history::Identity;
use super::job::{Count, Insert, Job, Jobs};
use super::pace::{Entered, Pace, weight};
use super::placement::Placement;
use super::report::Report;
use super::role::Role;
use crate::channel::ring::{self, SharedSender};
use crate::channel::{Awaited, Tickets};
use crate::limits::{
    COMMIT_QUEUE_MAX, COUNT_QUEUE_MAX, READ_QUEUE_MAX, READ_TIME_MAX, SEARCH_QUEUE_MAX, SEARCH_TIME_MAX,
};
use crate::pessoa::Record;

/// What the database decided about a create.
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
pub enum Unanswered {
    /// The queue of the connection is full, or a create would wait in it for too long; nothing was sent.
    QueueFull,
    /// The database takes no rows at the moment; nothing was stored.
    NotStored,
    /// The deadline passed; a create may have been committed all the same.
    TimedOut,
    /// There is such a row, and it is no pessoa.
    Unfit,
}

/// Something the database said about its rows, whoever asked.
#[derive(Clone, Copy)]
pub enum Learnt<'a> {
    /// This row is committed, and durable.
    Committed(&'a Record),
    /// This row is committed; whether it is durable is not said.
    Seen(&'a Record),
    /// A row with this apelido is committed and durable; its id was not told.
    Taken(&'a str),
}

/// A core's handle on its Postgres thread, for one node.
pub struct Database {
    inserts: Line<Insert>,
    reads: Line<Job<Uuid>>,
    counts: Line<Job<Count>>,
    searches: Line<Job<Box<[u8]>>>,
    tickets: Tickets<Asked, Report>,
    /// Of the creates.
    pace: Pace,
    /// What the creates weigh that wait.
    commit_weight: Cell<usize>,
    /// Creates that the database took not.
    not_stored: Cell<u64>,
    /// The history of the server at the end of each connection; `None` while there is none.
    commits_to: Cell<Option<Identity>>,
    reads_from: Cell<Option<Identity>>,
    /// Since when one of these is missing.
    away_since: Cell<Option<Instant>>,
    open: Cell<Option<oneshot::Sender<Infallible>>>,
}

/// What is remembered of who waits.
#[derive(Clone, Copy)]
enum Asked {
    /// For a commit: how much its row weighs, and when it came.
    Commit { weight: usize, entered: Entered },
    /// For the answer of another connection.
    Other(Role),
}

/// The way to one connection: the ring of its jobs, and how many are not answered yet.
struct Line<T> {
    jobs: SharedSender<T>,
    tally: LineTally,
}

/// What is counted of one line.
#[derive(Default)]
struct LineTally {
    waiting: Cell<usize>,
    refused: Cell<u64>,
    timed_out: Cell<u64>,
}

/// How many wait for one connection, and how many got no answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Those who wait now.
    pub now: usize,
    /// Those for whom there was no room.
    pub refused: u64,
    /// Those who were told nothing in time.
    pub timed_out: u64,
}

/// The ways to the connections of one core.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lines {
    /// Creates.
    pub commit: Waiting,
    /// Point reads.
    pub read: Waiting,
    /// Counts.
    pub count: Waiting,
    /// Searches that memory cannot answer.
    pub search: Waiting,
    /// Creates that the database took not, at the moment.
    pub not_stored: u64,
}

impl AddAssign for Waiting {
    fn add_assign(&mut self, other: Waiting) {
        let Waiting { now, refused, timed_out } = other;
        self.now += now;
        self.refused += refused;
        self.timed_out += timed_out;
    }
}

impl AddAssign for Lines {
    fn add_assign(&mut self, other: Lines) {
        let Lines { commit, read, count, search, not_stored } = other;
        self.commit += commit;
        self.read += read;
        self.count += count;
        self.search += search;
        self.not_stored += not_stored;
    }
}

impl<T> Line<T> {
    fn new(jobs: ring::Sender<T>) -> Line<T> {
        Line { jobs: SharedSender::new(jobs), tally: LineTally::default() }
    }

    fn push(&self, request: T) {
        let pushed = self.jobs.push(request);
        assert!(
            pushed.is_ok(),
            "the ring holds as many jobs as there are tickets, and nothing is asked after the close"
        );
    }
}

impl Database {
    pub(super) fn new(jobs: Jobs) -> Database {
        Database {
            inserts: Line::new(jobs.inserts),
            reads: Line::new(jobs.reads),
            counts: Line::new(jobs.counts),
            searches: Line::new(jobs.searches),
            tickets: Tickets::with_capacity(1024),
            pace: Pace::default(),
            commit_weight: Cell::new(0),
            not_stored: Cell::new(0),
            commits_to: Cell::new(None),
            reads_from: Cell::new(None),
            away_since: Cell::new(Some(Instant::now())),
            open: Cell::new(Some(jobs.open)),
        }
    }

    /// Inserts one pessoa; `Created` means committed.
    pub async fn create(&self, record: Box<Record>, deadline: Instant) -> Result<Create, Unanswered> {
        let awaited = self.wait_to_commit(weight(record.bytes()))?;
        self.inserts.push(Job::new(awaited.ticket(), deadline, record));
        match awaited.await {
            Report::Committed { record, .. } => Ok(Create::Created(record)),
            Report::Duplicate { .. } => Ok(Create::Duplicate),
            Report::Collision { record, .. } => Ok(Create::Collision(record)),
            Report::Refused { sqlstate, .. } => Ok(Create::Refused(sqlstate)),
            Report::NotStored { .. } => Err(Unanswered::NotStored),
            Report::Unavailable { .. } => Err(Unanswered::TimedOut),
            _ => unreachable!("a create is answered as a create"),
        }
    }

    /// The committed row with this id, asked of Postgres.
    pub async fn fetch(&self, id: Uuid) -> Result<Option<Box<Record>>, Unanswered> {
        let deadline = Instant::now() + READ_TIME_MAX;
        let awaited = self.wait_as(Role::Read)?;
        self.reads.push(Job::new(awaited.ticket(), deadline, id));
        match awaited.await {
            Report::Fetched { found, .. } => Ok(found),
            Report::Unfit { .. } => Err(Unanswered::Unfit),
            Report::Unavailable { .. } => Err(Unanswered::TimedOut),
            _ => unreachable!("a fetch is answered as a fetch"),
        }
    }

    /// The number of committed rows at this node, counted after this call began, and the partitions that they are of.
    pub async fn count(&self) -> Result<(u64, Placement), Unanswered> {
        let deadline = Instant::now() + READ_TIME_MAX;
        let awaited = self.wait_as(Role::Count)?;
        self.counts.push(Job::new(awaited.ticket(), deadline, Count));
        match awaited.await {
            Report::Counted { rows, here, .. } => Ok((rows, here)),
            Report::Unavailable { .. } => Err(Unanswered::TimedOut),
            _ => unreachable!("a count is answered as a count"),
        }
    }

    /// At most 50 committed pessoas at this node whose search text contains `term`, ascending by id, and the partitions that
    /// were searched: Postgres reads the whole table for it, so this is for what memory cannot answer.
    pub async fn search(&self, term: &[u8]) -> Result<(Vec<Record>, Placement), Unanswered> {
        let deadline = Instant::now() + SEARCH_TIME_MAX;
        let awaited = self.wait_as(Role::Search)?;
        self.searches.push(Job::new(awaited.ticket(), deadline, term.into()));
        match awaited.await {
            Report::Searched { found, here, .. } => Ok((found, here)),
            Report::Unavailable { .. } => Err(Unanswered::TimedOut),
            _ => unreachable!("a search is answered as a search"),
        }
    }

    /// Whether the connections for commits and for reads both stand.
    pub fn reachable(&self) -> bool {
        self.commits_to.get().is_some() && self.reads_from.get().is_some()
    }

    /// For how long it has not been [reachable](Self::reachable).
    pub fn away_for(&self) -> Duration {
        self.away_since.get().map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// The history that creates are committed in, while there is a connection for them.
    pub fn commits_to(&self) -> Option<Identity> {
        self.commits_to.get()
    }

    /// Who waits for which connection.
    pub fn lines(&self) -> Lines {
        let of = |tally: &LineTally| Waiting {
            now: tally.waiting.get(),
            refused: tally.refused.get(),
            timed_out: tally.timed_out.get(),
        };
        Lines {
            commit: of(&self.inserts.tally),
            read: of(&self.reads.tally),
            count: of(&self.counts.tally),
            search: of(&self.searches.tally),
            not_stored: self.not_stored.get(),
        }
    }

    /// Ends the Postgres thread. The core must not ask anything afterwards.
    pub fn close(&self) {
        self.inserts.jobs.close();
        self.reads.jobs.close();
        self.counts.jobs.close();
        self.searches.jobs.close();
        drop(self.open.take());
    }

    /// Runs for ever. At the end of a turn in which this core asked something, it wakes each task of the Postgres thread
    /// that now has as many jobs as it waits for.
    pub async fn flush(&self) {
        join4(
            self.inserts.jobs.flush(),
            self.reads.jobs.flush(),
            self.counts.jobs.flush(),
            self.searches.jobs.flush(),
        )
        .await;
    }

    /// Hands each report to whoever waits for it. Before that waiter runs, `learn` hears what the report says about
    /// committed rows, and of which history it says so; the rows of a search are left out. Returns when the thread is
    /// gone.
    pub(super) async fn run(
        &self,
        reports: &mut ring::Receiver<Report>,
        mut learn: impl FnMut(Learnt<'_>, Identity),
    ) {
        let (mut committed_to, mut read_from) = (None, None);
        let of = |server: Option<Identity>| server.expect("a connection is reported before what it says");
        while let Some(report) = reports.pop().await {
            let ticket = match &report {
                Report::Committed { ticket, record } => {
                    learn(Learnt::Committed(record), of(committed_to));
                    match ticket {
                        Some(ticket) => *ticket,
                        None => continue,
                    }
                }
                Report::Duplicate { ticket, record } => {
                    learn(Learnt::Taken(&record.pessoa.apelido), of(committed_to));
                    *ticket
                }
                Report::Fetched { ticket, found } => {
                    if let Some(record) = found {
                        learn(Learnt::Seen(record), of(read_from));
                    }
                    *ticket
                }
                Report::Collision { ticket, .. }
                | Report::Refused { ticket, .. }
                | Report::NotStored { ticket }
                | Report::Unfit { ticket }
                | Report::Unavailable { ticket }
                | Report::Searched { ticket, .. }
                | Report::Counted { ticket, .. } => *ticket,
                Report::Reachable { role, of } => {
                    match role {
                        Role::Commit => {
                            self.commits_to.set(*of);
                            committed_to = of.or(committed_to);
                        }
                        Role::Read => {
                            self.reads_from.set(*of);
                            read_from = of.or(read_from);
                        }
                        // Creates and lookups do without these; that for searches is made when it is needed.
                        Role::Count | Role::Search | Role::Feed | Role::Bulk => {}
                    }
                    self.away_since.set(match self.reachable() {
                        true => None,
                        false => self.away_since.get().or_else(|| Some(Instant::now())),
                    });
                    continue;
                }
            };
            let (late, not_stored) = match &report {
                Report::Unavailable { .. } => (true, false),
                Report::NotStored { .. } => (false, true),
                _ => (false, false),
            };
            let role = match self.tickets.answer(ticket, report) {
                Asked::Other(role) => role,
                Asked::Commit { weight, entered } => {
                    self.commit_weight.set(self.commit_weight.get() - weight);
                    // What is refused is refused at once, and says nothing of how long a commit takes.
                    if !not_stored {
                        self.pace.answered(entered, Instant::now());
                    }
                    Role::Commit
                }
            };
            let line = self.line(role);
            line.waiting.set(line.waiting.get() - 1);
            line.timed_out.set(line.timed_out.get() + u64::from(late));
            self.not_stored.set(self.not_stored.get() + u64::from(not_stored));
        }
    }

    fn wait_to_commit(&self, weight: usize) -> Result<Awaited<'_, Asked, Report>, Unanswered> {
        let ahead = self.commit_weight.get();
        self.take_place(Role::Commit, COMMIT_QUEUE_MAX, self.pace.has_room(ahead))?;
        self.commit_weight.set(ahead + weight);
        Ok(self.tickets.take(Asked::Commit { weight, entered: Entered { at: Instant::now(), ahead } }))
    }

    fn wait_as(&self, role: Role) -> Result<Awaited<'_, Asked, Report>, Unanswered> {
        let places = match role {
            Role::Read => READ_QUEUE_MAX,
            Role::Count => COUNT_QUEUE_MAX,
            Role::Search => SEARCH_QUEUE_MAX,
            Role::Commit | Role::Feed | Role::Bulk => {
                unreachable!("creates wait by their weight, and no core asks the feed")
            }
        };
        self.take_place(role, places, true)?;
        Ok(self.tickets.take(Asked::Other(role)))
    }

    /// One of so many places in a line, unless all are taken or there is no `room`.
    fn take_place(&self, role: Role, places: usize, room: bool) -> Result<(), Unanswered> {
        let line = self.line(role);
        if !room || line.waiting.get() >= places {
            line.refused.set(line.refused.get() + 1);
            return Err(Unanswered::QueueFull);
        }
        line.waiting.set(line.waiting.get() + 1);
        Ok(())
    }

    fn line(&self, role: Role) -> &LineTally {
        match role {
            Role::Commit => &self.inserts.tally,
            Role::Read => &self.reads.tally,
            Role::Count => &self.counts.tally,
            Role::Search => &self.searches.tally,
            Role::Feed | Role::Bulk => unreachable!("no core asks the feed"),
        }
    }
}
