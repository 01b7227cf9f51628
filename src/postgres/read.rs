//! Point reads and counts, on a connection of their own so that no flood of them delays a commit. One batch
//! is in flight at a time; it answers tickets and knows nothing of commits.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Instant;

use uuid::Uuid;

use super::queue::{Queue, Waits};
use super::session::{Connector, Failure, Session};
use super::thread::Outbox;
use super::{Reply, Ticket, sql};
use crate::limits::READ_BATCH_MAX;

/// What one ticket wants to know.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ReadKind {
    Fetch(Uuid),
    Count,
}

/// A read that waits for its answer.
pub(super) struct Read {
    ticket: Cell<Option<Ticket>>,
    deadline: Instant,
    kind: ReadKind,
}

impl Read {
    pub(super) fn new(ticket: Ticket, deadline: Instant, kind: ReadKind) -> Read {
        Read { ticket: Cell::new(Some(ticket)), deadline, kind }
    }
}

impl Waits for Read {
    fn deadline(&self) -> Instant {
        self.deadline
    }

    fn ticket(&self) -> &Cell<Option<Ticket>> {
        &self.ticket
    }
}

/// Answers what arrives in `queue`, for ever. `outbox` is the queue's own, which is borrowed while reads are answered.
pub(super) async fn run(mut queue: Queue<Read>, outbox: Rc<Outbox>, connector: Connector) {
    // Reads whose connection died: they change nothing, so they simply go again.
    let mut unanswered: Vec<Read> = Vec::new();
    loop {
        let mut session = queue.until_answered(unanswered.iter(), connector.connect()).await;
        let why = loop {
            let mut batch = std::mem::take(&mut unanswered);
            if batch.is_empty() {
                tokio::select! {
                    () = queue.holds(1) => {}
                    () = session.closed() => break "closed by the database".to_owned(),
                }
            }
            queue.fill(&mut batch, READ_BATCH_MAX);
            queue.drop_late(&mut batch);
            if batch.is_empty() {
                continue;
            }
            if let Err(failure) = queue.until_answered(batch.iter(), answer(&session, &batch, &outbox)).await
            {
                unanswered = batch;
                break failure.to_string();
            }
            connector.worked();
        };
        connector.lost(&why);
    }
}

/// Asks once for all ids and once for the count, and answers.
async fn answer(session: &Session, batch: &[Read], outbox: &Outbox) -> Result<(), Failure> {
    let ids: Vec<Uuid> = batch
        .iter()
        .filter_map(|read| match read.kind {
            ReadKind::Fetch(id) => Some(id),
            ReadKind::Count => None,
        })
        .collect();
    if !ids.is_empty() {
        let found = sql::fetch(session, &ids).await?;
        for read in batch {
            if let ReadKind::Fetch(id) = read.kind
                && let Some(ticket) = read.ticket.take()
            {
                outbox.push(Reply::Fetched { ticket, found: found.get(&id).cloned() });
            }
        }
        outbox.wake();
    }
    // Every count of the batch was asked for before this statement begins, so one serves them all.
    if batch.iter().any(|read| read.kind == ReadKind::Count && read.ticket.get().is_some()) {
        let rows = sql::count(session).await?;
        for read in batch.iter().filter(|read| read.kind == ReadKind::Count) {
            if let Some(ticket) = read.ticket.take() {
                outbox.push(Reply::Counted { ticket, rows });
            }
        }
        outbox.wake();
    }
    Ok(())
}
