//! Group commit: one batch is committed while the next one gathers, and one of few rows waits a moment for more. It answers
//! tickets with what the database decided, and never guesses.
//!
//! A batch is one autocommit `INSERT .. ON CONFLICT DO NOTHING RETURNING id`, ordered by apelido so that two
//! instances cannot deadlock. What it returns is committed. What it does not return is looked up by apelido in
//! a statement of its own: the same id means an earlier attempt had committed it, another id a duplicate, and
//! no row at all an id collision. When the connection dies mid-batch the rows go again, with the same ids.

use std::cell::Cell;
use std::time::{Duration, Instant};

use ahash::{HashMap, HashSet};
use uuid::Uuid;

use super::feed::FeedNotice;
use super::queue::{Queue, Waits};
use super::session::{Connector, Failure, Session};
use super::thread::Outbox;
use super::{Reply, Ticket, sql};
use crate::limits::{COMMIT_BATCH_ENOUGH, COMMIT_BATCH_MAX, COMMIT_GAP};
use crate::pessoa::Record;

/// Pause before a batch goes again after a deadlock or a serialization failure.
const CONFLICT_PAUSE: Duration = Duration::from_millis(2);

/// A row on its way into the table.
pub(super) struct Pending {
    ticket: Cell<Option<Ticket>>,
    record: Box<Record>,
    deadline: Instant,
}

impl Pending {
    pub(super) fn new(ticket: Ticket, record: Box<Record>, deadline: Instant) -> Pending {
        Pending { ticket: Cell::new(Some(ticket)), record, deadline }
    }

    pub(super) fn record(&self) -> &Record {
        &self.record
    }
}

impl Waits for Pending {
    fn deadline(&self) -> Instant {
        self.deadline
    }

    fn ticket(&self) -> &Cell<Option<Ticket>> {
        &self.ticket
    }
}

/// Commits what arrives in `queue`, for ever.
pub(super) async fn run(mut queue: Queue<Pending>, feed: FeedNotice, connector: Connector) {
    // Rows of a batch whose connection died: they go again before anything else.
    let mut unsettled: Vec<Pending> = Vec::new();
    loop {
        let mut session = queue.until_answered(unsettled.iter(), connector.connect()).await;
        let mut last: Option<Begun> = None;
        let why = loop {
            let mut batch = std::mem::take(&mut unsettled);
            if batch.is_empty() {
                if let Some((until, rows)) = pause(last, queue.len(), Instant::now()) {
                    tokio::select! {
                        () = tokio::time::sleep_until(until.into()) => {}
                        () = queue.holds(rows) => {}
                    }
                }
                tokio::select! {
                    () = queue.holds(1) => {}
                    () = session.closed() => break "closed by the database".to_owned(),
                }
            }
            queue.fill(&mut batch, COMMIT_BATCH_MAX);
            last = Some(Begun { at: Instant::now(), rows: batch.len() });
            match settle(&session, batch, &mut queue, &feed).await {
                Ok(Sent(true)) => connector.worked(),
                Ok(Sent(false)) => {}
                Err((rest, why)) => {
                    unsettled = rest;
                    break why;
                }
            }
        };
        connector.lost(&why);
    }
}

/// A batch that was sent.
#[derive(Clone, Copy)]
struct Begun {
    at: Instant,
    rows: usize,
}

/// Until when rows that came during the last batch wait for company, and for how much of it at most: few clients, each of which waits
/// for its answer, are complete when those who were just answered are back. A row that finds nobody waiting goes at once.
fn pause(last: Option<Begun>, waiting: usize, now: Instant) -> Option<(Instant, usize)> {
    let last = last?;
    let (until, rows) = (last.at + COMMIT_GAP, COMMIT_BATCH_ENOUGH.min(last.rows + waiting));
    (until > now && (1..rows).contains(&waiting)).then_some((until, rows))
}

/// Whether the database was asked at all: of rows that are late it is not.
struct Sent(bool);

/// Brings every row of `batch` to its answer, or gives back those whose fate is unknown.
async fn settle(
    session: &Session,
    batch: Vec<Pending>,
    queue: &mut Queue<Pending>,
    feed: &FeedNotice,
) -> Result<Sent, (Vec<Pending>, String)> {
    let mut sent = Sent(false);
    // Parts of the batch, the next one last. More than one only after a row at fault split it.
    let mut parts = vec![batch];
    while let Some(mut rows) = parts.pop() {
        queue.drop_late(&mut rows);
        if rows.is_empty() {
            continue;
        }
        sent = Sent(true);
        let Err((mut rows, failure)) = attempt(session, rows, &parts, queue, feed).await else { continue };
        match failure {
            Failure::Row(sqlstate) if rows.len() == 1 => refuse(rows, &sqlstate, queue.outbox()),
            Failure::Row(_) => {
                let second = rows.split_off(rows.len() / 2);
                parts.push(second);
                parts.push(rows);
            }
            Failure::Conflict => {
                queue.until_answered(waiting(&rows, &parts), tokio::time::sleep(CONFLICT_PAUSE)).await;
                parts.push(rows);
            }
            Failure::Lost(why) => {
                rows.extend(parts.into_iter().flatten());
                return Err((rows, why));
            }
        }
    }
    Ok(sent)
}

/// What a client may wait for: rows, and the parts after them.
fn waiting<'a>(rows: &'a [Pending], parts: &'a [Vec<Pending>]) -> impl Iterator<Item = &'a Pending> + Clone {
    rows.iter().chain(parts.iter().flatten())
}

/// Inserts `rows` and answers them; gives back those that a failure left without an answer. `parts` come after them.
async fn attempt(
    session: &Session,
    mut rows: Vec<Pending>,
    parts: &[Vec<Pending>],
    queue: &mut Queue<Pending>,
    feed: &FeedNotice,
) -> Result<(), (Vec<Pending>, Failure)> {
    // Bytewise, as the unique index compares; the sort is stable, so of equals the first to come goes first.
    rows.sort_by(|a, b| a.record.pessoa.apelido.as_bytes().cmp(b.record.pessoa.apelido.as_bytes()));
    let inserted = match queue.until_answered(waiting(&rows, parts), sql::insert(session, &rows)).await {
        Ok(inserted) => inserted,
        Err(failure) => return Err((rows, failure)),
    };
    let rest = answer_inserted(rows, &inserted.ids, queue.outbox());
    // Only now: whoever hears of this transaction need not read its rows again, since they are on their way.
    if let Some(tx) = inserted.tx {
        feed.committed(tx);
    }
    if rest.is_empty() {
        return Ok(());
    }
    match queue.until_answered(waiting(&rest, parts), sql::owners(session, &rest)).await {
        Ok(owners) => {
            answer_conflicting(rest, &owners, queue.outbox());
            Ok(())
        }
        // A lookup has no row at fault: whatever this is, another connection may do better.
        Err(Failure::Row(sqlstate)) => {
            Err((rest, Failure::Lost(format!("the lookup failed with {sqlstate}"))))
        }
        Err(failure) => Err((rest, failure)),
    }
}

/// Answers the rows that this statement inserted; returns the others.
fn answer_inserted(rows: Vec<Pending>, inserted: &HashSet<Uuid>, outbox: &Outbox) -> Vec<Pending> {
    if inserted.is_empty() {
        return rows;
    }
    let mut rest = Vec::new();
    for row in rows {
        if inserted.contains(&row.record.pessoa.id) {
            outbox.push(Reply::Committed { ticket: row.ticket.take(), record: row.record });
        } else {
            rest.push(row);
        }
    }
    outbox.wake();
    rest
}

/// Answers the rows that met a committed one, by the id that owns their apelido.
fn answer_conflicting(rows: Vec<Pending>, owners: &HashMap<Box<str>, Uuid>, outbox: &Outbox) {
    for row in rows {
        let owner = owners.get(&row.record.pessoa.apelido);
        if owner == Some(&row.record.pessoa.id) {
            outbox.push(Reply::Committed { ticket: row.ticket.take(), record: row.record });
        } else if let Some(ticket) = row.ticket.take() {
            let record = row.record;
            outbox.push(match owner {
                Some(_) => Reply::Duplicate { ticket, record },
                None => Reply::Collision { ticket, record },
            });
        }
    }
    outbox.wake();
}

fn refuse(rows: Vec<Pending>, sqlstate: &str, outbox: &Outbox) {
    for row in rows {
        tracing::error!(sqlstate, id = %row.record.pessoa.id, "the database refused a row that passed validation");
        if let Some(ticket) = row.ticket.take() {
            outbox.push(Reply::Refused { ticket, sqlstate: sqlstate.into() });
        }
    }
    outbox.wake();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_keep_apart_while_rows_wait() {
        let at = Instant::now();
        let until = at + COMMIT_GAP;
        let soon = at + COMMIT_GAP / 2;
        let after = |rows| Some(Begun { at, rows });
        assert_eq!(pause(after(1), 1, soon), Some((until, 2)), "the one who was answered may come back");
        assert_eq!(pause(after(100), 1, soon), Some((until, COMMIT_BATCH_ENOUGH)));
        assert_eq!(pause(after(1), 0, soon), None, "the row to come shall not wait");
        assert_eq!(pause(after(1), COMMIT_BATCH_ENOUGH, soon), None, "they are many already");
        assert_eq!(pause(after(1), 1, until), None, "the batch took longer than the gap");
        assert_eq!(pause(None, 1, at), None, "the first batch of a connection");
    }
}
