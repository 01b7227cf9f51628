//! Group commit: one batch is committed while the next one gathers, and a batch of few rows waits a moment for more.
//! This module answers tickets with what the database decided, and never guesses.
//!
//! A batch is one autocommit `INSERT .. ON CONFLICT DO NOTHING RETURNING id, tx`, ordered by apelido so that two
//! instances cannot deadlock. The rows that it returns are committed. The others are looked up by apelido in a
//! statement of their own: the same id means that an earlier attempt committed the row, another id a duplicate, and no
//! row at all an id collision. When the connection dies mid-batch, the rows go again with the same ids.

use std::time::{Duration, Instant};

use ahash::{HashMap, HashSet};
use tokio_postgres::error::{Severity, SqlState};
use uuid::Uuid;

use super::connector::Connector;
use super::failure::Failure;
use super::feed::FeedNotice;
use super::job::Insert;
use super::outbox::Outbox;
use super::queue::Queue;
use super::report::Report;
use super::session::Session;
use super::sql;
use crate::limits::{COMMIT_BATCH_BYTES_MAX, COMMIT_BATCH_ENOUGH, COMMIT_BATCH_MAX, COMMIT_GAP};
use crate::pessoa::Record;

/// Pause before a batch goes again after a deadlock or a serialization failure.
const CONFLICT_PAUSE: Duration = Duration::from_millis(2);

/// Commits what arrives in `queue`, for ever.
pub(super) async fn run(mut queue: Queue<Box<Record>>, feed: FeedNotice, connector: Connector<sql::Commit>) {
    // Rows of a batch whose connection died: they go again before anything else.
    let mut unsettled: Vec<Insert> = Vec::new();
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
            queue.fill(&mut batch, COMMIT_BATCH_MAX, COMMIT_BATCH_BYTES_MAX, |record| record.bytes());
            last = Some(Begun { at: Instant::now(), rows: batch.len() });
            match settle(&session, batch, &mut queue, &feed).await {
                Ok(Settled::BySession) => connector.worked(),
                Ok(Settled::ByDeadlines) => {}
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

/// How long the next batch waits for company: until `COMMIT_GAP` after the last one began, or until enough rows wait.
/// Enough is `COMMIT_BATCH_ENOUGH`, or fewer when there are few clients: the rows that wait plus the rows just answered,
/// whose clients may come back. `None`: the batch goes as soon as there is a row. The rule was measured
/// (perf/results/2026-11-26.md).
fn pause(last: Option<Begun>, waiting: usize, now: Instant) -> Option<(Instant, usize)> {
    let last = last?;
    let (until, rows) = (last.at + COMMIT_GAP, COMMIT_BATCH_ENOUGH.min(last.rows + waiting));
    (until > now && (1..rows).contains(&waiting)).then_some((until, rows))
}

/// What brought a batch to its answers.
enum Settled {
    /// The database was asked.
    BySession,
    /// All rows were past their deadlines, so the database was not asked.
    ByDeadlines,
}

/// What a refused or lost statement means for the rows that it was about.
enum Fault {
    /// One of the rows is at fault (SQLSTATE class 22 or 23): the same rows will fail again.
    Row(Box<str>),
    /// A deadlock or a serialization failure: the same rows may pass at once.
    Conflict,
    /// Anything else: the fate of the rows is unknown, and the session is not used again.
    Session(String),
}

impl Fault {
    fn of(failure: &Failure) -> Fault {
        if let Failure::Refused { sqlstate, severity: None | Some(Severity::Error), .. } = failure {
            if [SqlState::T_R_DEADLOCK_DETECTED, SqlState::T_R_SERIALIZATION_FAILURE].contains(sqlstate) {
                return Fault::Conflict;
            }
            if matches!(sqlstate.code().get(..2), Some("22" | "23")) {
                return Fault::Row(sqlstate.code().into());
            }
        }
        Fault::Session(failure.to_string())
    }

    /// The fault of a lookup. No row can be at fault in it, so another session may do better.
    fn of_lookup(failure: &Failure) -> Fault {
        match Fault::of(failure) {
            Fault::Row(_) => Fault::Session(format!("the lookup failed: {failure}")),
            fault => fault,
        }
    }
}

/// Brings every row of `batch` to its answer, or gives back those whose fate is unknown.
async fn settle(
    session: &Session<sql::Commit>,
    batch: Vec<Insert>,
    queue: &mut Queue<Box<Record>>,
    feed: &FeedNotice,
) -> Result<Settled, (Vec<Insert>, String)> {
    let mut settled = Settled::ByDeadlines;
    // Parts of the batch, the next one last. There are more than one only after a row at fault split the batch.
    let mut parts = vec![batch];
    while let Some(mut rows) = parts.pop() {
        queue.drop_late(&mut rows);
        if rows.is_empty() {
            continue;
        }
        settled = Settled::BySession;
        let Err((mut rows, fault)) = attempt(session, rows, &parts, queue, feed).await else { continue };
        match fault {
            Fault::Row(sqlstate) if rows.len() == 1 => refuse(rows, &sqlstate, queue.outbox()),
            Fault::Row(_) => {
                let second = rows.split_off(rows.len() / 2);
                parts.push(second);
                parts.push(rows);
            }
            Fault::Conflict => {
                queue.until_answered(waiting(&rows, &parts), tokio::time::sleep(CONFLICT_PAUSE)).await;
                parts.push(rows);
            }
            Fault::Session(why) => {
                rows.extend(parts.into_iter().flatten());
                return Err((rows, why));
            }
        }
    }
    Ok(settled)
}

/// All jobs for which a client may wait: `rows`, and the parts after them.
fn waiting<'a>(rows: &'a [Insert], parts: &'a [Vec<Insert>]) -> impl Iterator<Item = &'a Insert> + Clone {
    rows.iter().chain(parts.iter().flatten())
}

/// Inserts `rows` and answers them; gives back those that a failure left without an answer. `parts` are the jobs that
/// come after them, whose deadlines are watched meanwhile.
async fn attempt(
    session: &Session<sql::Commit>,
    mut rows: Vec<Insert>,
    parts: &[Vec<Insert>],
    queue: &mut Queue<Box<Record>>,
    feed: &FeedNotice,
) -> Result<(), (Vec<Insert>, Fault)> {
    // Bytewise, as the unique index compares. The sort is stable: of equal apelidos the first to come goes first.
    rows.sort_by(|a, b| a.asked.pessoa.apelido.as_bytes().cmp(b.asked.pessoa.apelido.as_bytes()));
    let inserted = match queue.until_answered(waiting(&rows, parts), session.insert(&rows)).await {
        Ok(inserted) => inserted,
        Err(failure) => return Err((rows, Fault::of(&failure))),
    };
    let rest = answer_inserted(rows, &inserted.ids, queue.outbox());
    // Only after the reports were pushed: a feed that hears of the transaction leaves out its rows, as they are already
    // on their way to the core.
    if let Some(tx) = inserted.tx {
        feed.committed(tx);
    }
    if rest.is_empty() {
        return Ok(());
    }
    match queue.until_answered(waiting(&rest, parts), session.holders(&rest)).await {
        Ok(holders) => {
            answer_conflicting(rest, &holders, queue.outbox());
            Ok(())
        }
        Err(failure) => Err((rest, Fault::of_lookup(&failure))),
    }
}

/// Answers the rows that this statement inserted; returns the others.
fn answer_inserted(rows: Vec<Insert>, inserted: &HashSet<Uuid>, outbox: &Outbox) -> Vec<Insert> {
    if inserted.is_empty() {
        return rows;
    }
    let mut rest = Vec::new();
    for row in rows {
        if inserted.contains(&row.asked.pessoa.id) {
            outbox.push(Report::Committed { ticket: row.ticket.take(), record: row.asked });
        } else {
            rest.push(row);
        }
    }
    outbox.wake();
    rest
}

/// Answers the rows that were not inserted, by the id that owns their apelido.
fn answer_conflicting(rows: Vec<Insert>, holders: &HashMap<Box<str>, Uuid>, outbox: &Outbox) {
    for row in rows {
        let holder = holders.get(&row.asked.pessoa.apelido);
        if holder == Some(&row.asked.pessoa.id) {
            outbox.push(Report::Committed { ticket: row.ticket.take(), record: row.asked });
        } else if let Some(ticket) = row.ticket.take() {
            let record = row.asked;
            outbox.push(match holder {
                Some(_) => Report::Duplicate { ticket, record },
                None => Report::Collision { ticket, record },
            });
        }
    }
    outbox.wake();
}

fn refuse(rows: Vec<Insert>, sqlstate: &str, outbox: &Outbox) {
    for row in rows {
        tracing::error!(sqlstate, id = %row.asked.pessoa.id, "the database refused a row that passed validation");
        if let Some(ticket) = row.ticket.take() {
            outbox.push(Report::Refused { ticket, sqlstate: sqlstate.into() });
        }
    }
    outbox.wake();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_told_by_sqlstate_and_severity() {
        let fault = |sqlstate: &str, severity| {
            let failure =
                Failure::Refused { sqlstate: SqlState::from_code(sqlstate), severity, message: "no".into() };
            match Fault::of(&failure) {
                Fault::Row(sqlstate) => format!("row {sqlstate}"),
                Fault::Conflict => "conflict".to_owned(),
                Fault::Session(why) => format!("session: {why}"),
            }
        };
        for (sqlstate, expected) in [
            ("40001", "conflict"),
            ("40P01", "conflict"),
            ("22P05", "row 22P05"),
            ("23514", "row 23514"),
            ("53100", "session: no (SQLSTATE 53100)"),
            ("57P01", "session: no (SQLSTATE 57P01)"),
        ] {
            for severity in [None, Some(Severity::Error)] {
                assert_eq!(fault(sqlstate, severity), expected);
            }
            // The session is over: a standby says 40001 when it ends one.
            for severity in [Severity::Fatal, Severity::Panic] {
                assert_eq!(fault(sqlstate, Some(severity)), format!("session: no (SQLSTATE {sqlstate})"));
            }
        }
        let lost = Fault::of_lookup(&Failure::Refused {
            sqlstate: SqlState::from_code("22P05"),
            severity: Some(Severity::Error),
            message: "no".into(),
        });
        assert!(matches!(lost, Fault::Session(_)), "a lookup has no row at fault");
    }

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
