//! A Postgres thread that a test plays: it takes the jobs of a core and answers each when and as the test says.

use std::sync::Arc;

use tokio::sync::oneshot;
use uuid::Uuid;

use super::history::Identity;
use super::job::{Count, Insert, Job, Jobs};
use super::placement::Placement;
use super::report::Report;
use super::role::Role;
use super::thread::{Link, REPORTS_MAX};
use crate::channel::ring;
use crate::limits::{COMMIT_QUEUE_MAX, COUNT_QUEUE_MAX, READ_QUEUE_MAX, SEARCH_QUEUE_MAX};
use crate::pessoa::Record;

/// The thread's ends of the rings, and what it has taken.
pub(crate) struct Played {
    inserts: ring::Receiver<Insert>,
    reads: ring::Receiver<Job<Uuid>>,
    counts: ring::Receiver<Job<Count>>,
    searches: ring::Receiver<Job<Box<[u8]>>>,
    reports: ring::Sender<Report>,
    _closed: oneshot::Receiver<std::convert::Infallible>,
    hand: Vec<Taken>,
    /// Rows whose clients were told that the outcome is unknown.
    late: Vec<Record>,
}

enum Taken {
    Create(Insert),
    Read(Job<Uuid>),
    Count(Job<Count>),
    Search(Job<Box<[u8]>>),
}

/// What became of a create.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    Committed,
    Duplicate,
    Refused,
    NotStored,
    Unavailable,
}

impl Decision {
    pub(crate) const ALL: [Decision; 5] = [
        Decision::Committed,
        Decision::Duplicate,
        Decision::Refused,
        Decision::NotStored,
        Decision::Unavailable,
    ];
}

/// The core's end, and the thread's.
pub(crate) fn played() -> (Link, Played) {
    let (inserts, inserts_inbox) = ring::channel(COMMIT_QUEUE_MAX);
    let (reads, reads_inbox) = ring::channel(READ_QUEUE_MAX);
    let (counts, counts_inbox) = ring::channel(COUNT_QUEUE_MAX);
    let (searches, searches_inbox) = ring::channel(SEARCH_QUEUE_MAX);
    let (open, closed) = oneshot::channel();
    let (mut outbox, reports) = ring::channel(REPORTS_MAX);
    for role in [Role::Commit, Role::Read] {
        let of = Some(Identity { system: 7, timeline: 1 });
        assert!(outbox.push(Report::Reachable { role, of }).is_ok());
    }
    let link = Link::new(Jobs { inserts, reads, counts, searches, open }, reports, Arc::default());
    let played = Played {
        inserts: inserts_inbox,
        reads: reads_inbox,
        counts: counts_inbox,
        searches: searches_inbox,
        reports: outbox,
        _closed: closed,
        hand: Vec::new(),
        late: Vec::new(),
    };
    (link, played)
}

impl Played {
    /// Takes what was asked; returns how much it has to answer.
    pub(crate) fn take(&mut self) -> usize {
        self.hand.extend(std::iter::from_fn(|| self.inserts.try_pop().map(Taken::Create)));
        self.hand.extend(std::iter::from_fn(|| self.reads.try_pop().map(Taken::Read)));
        self.hand.extend(std::iter::from_fn(|| self.counts.try_pop().map(Taken::Count)));
        self.hand.extend(std::iter::from_fn(|| self.searches.try_pop().map(Taken::Search)));
        self.hand.len()
    }

    /// Answers one of what it took: a create as `decide` says, the others from `committed`, unless they are late.
    pub(crate) fn answer(
        &mut self,
        which: usize,
        late: bool,
        committed: &mut Vec<Record>,
        decide: impl FnOnce(&Record) -> Decision,
    ) {
        let taken = self.hand.swap_remove(which);
        let (Taken::Create(Job { ticket, .. })
        | Taken::Read(Job { ticket, .. })
        | Taken::Count(Job { ticket, .. })
        | Taken::Search(Job { ticket, .. })) = &taken;
        let ticket = ticket.take().expect("nobody else answers");
        let row = |id: Uuid| committed.iter().find(|row| row.pessoa.id == id).cloned();
        let report = match taken {
            Taken::Create(Job { asked: record, .. }) => match decide(&record) {
                Decision::Committed => {
                    committed.push((*record).clone());
                    Report::Committed { ticket: Some(ticket), record }
                }
                Decision::Duplicate => Report::Duplicate { ticket, record },
                Decision::Refused => Report::Refused { ticket, sqlstate: "23514".into() },
                Decision::NotStored => Report::NotStored { ticket },
                Decision::Unavailable => {
                    self.late.push(*record);
                    Report::Unavailable { ticket }
                }
            },
            _ if late => Report::Unavailable { ticket },
            Taken::Read(Job { asked: id, .. }) => Report::Fetched { ticket, found: row(id).map(Box::new) },
            Taken::Count(_) => {
                Report::Counted { ticket, rows: committed.len() as u64, here: Placement::only() }
            }
            Taken::Search(Job { asked: term, .. }) => {
                let found = committed.iter().filter(|row| *row.pessoa.apelido.as_bytes() == *term);
                Report::Searched { ticket, found: found.cloned().collect(), here: Placement::only() }
            }
        };
        assert!(self.reports.push(report).is_ok(), "there is room");
    }

    /// Reports a row that was committed after its client was told nothing, if there is one.
    pub(crate) fn report_late(&mut self, committed: &mut Vec<Record>) {
        if let Some(record) = self.late.pop() {
            committed.push(record.clone());
            let report = Report::Committed { ticket: None, record: Box::new(record) };
            assert!(self.reports.push(report).is_ok(), "there is room");
        }
    }

    pub(crate) fn wake(&self) {
        self.reports.wake();
    }
}
