//! Brings every row of a batch to its answer: what the database decided, never a guess.
//!
//! A batch is one autocommit `INSERT .. ON CONFLICT DO NOTHING RETURNING id, tx`, ordered by apelido so that two
//! instances cannot deadlock. The rows that it returns are committed. The others are looked up by apelido in a
//! statement of their own: the same id means that an earlier attempt committed the row, another id a duplicate, and no
//! row at all an id collision. When the connection dies mid-batch, the rows go again with the same ids.
//!
//! Committed is not yet durable where a standby has to confirm. A commit waits for that; but when its wait is cut short, the
//! server says so in a warning and shows the row all the same. So after a warning, and before a row that was only looked
//! up decides an answer, the session itself commits something and waits.

use std::collections::VecDeque;
use std::time::Duration;

use ahash::{HashMap, HashSet};
use uuid::Uuid;

use super::aside::Aside;
use super::counters::{Counters, Operation};
use super::failure::Failure;
use super::fault::{Fault, is_about_the_row};
use super::job::Insert;
use super::layout::Partitions;
use super::outbox::Outbox;
use super::own::FeedNotice;
use super::queue::Queue;
use super::report::Report;
use super::table::Table;
use crate::limits::{ASIDE_LOCK_TIME_MAX, COMMIT_BATCH_BYTES_MAX, COMMIT_BATCH_MAX, COMMIT_LOCK_TIME_MAX};
use crate::metrics::Count;
use crate::pessoa::Record;

#[cfg(test)]
mod tests;

/// Pause before a batch goes again after a deadlock or a serialization failure.
const CONFLICT_PAUSE: Duration = Duration::from_millis(2);

/// Pause before a batch goes again while somebody holds the table.
const TABLE_PAUSE: Duration = Duration::from_millis(50);

/// What brought a batch to its answers.
#[derive(Clone, Copy, Default)]
pub(super) struct Settled {
    /// The database was asked; else all rows were past their deadlines.
    pub(super) asked: bool,
    /// A commit was confirmed.
    pub(super) committed: bool,
}

/// Rows that go in one statement.
struct Part {
    rows: Vec<Insert>,
    /// Whether it is looked for who meets a lock.
    searching: bool,
}

/// A batch on its way.
pub(super) struct Settling<'a, T> {
    session: &'a T,
    queue: &'a mut Queue<Box<Record>>,
    feed: &'a FeedNotice,
    aside: &'a mut Aside,
    counters: &'a Counters,
    /// What is still to be sent, the next part last. There is more than one only after a fault split the batch, and for
    /// rows that were set aside.
    parts: Vec<Part>,
    /// Whether the session waits for locks only as long as a search does.
    searching: bool,
    settled: Settled,
}

impl<'a, T: Table> Settling<'a, T> {
    pub(super) fn new(
        session: &'a T,
        queue: &'a mut Queue<Box<Record>>,
        feed: &'a FeedNotice,
        aside: &'a mut Aside,
        counters: &'a Counters,
    ) -> Settling<'a, T> {
        Settling {
            session,
            queue,
            feed,
            aside,
            counters,
            parts: Vec::new(),
            searching: false,
            settled: Settled::default(),
        }
    }

    /// Brings every row of `batch`, and of those aside whose turn it is, to its answer, or gives back those whose fate is
    /// unknown.
    pub(super) async fn settle(mut self, mut batch: Vec<Insert>) -> Result<Settled, (Vec<Insert>, String)> {
        self.queue.drop_late(self.aside.rows_mut());
        let partitions = self.session.partitions();
        self.aside.take_kin(&mut batch, partitions);
        for row in self.aside.take_due(partitions) {
            self.parts.push(Part { rows: vec![row], searching: true });
        }
        // The index of one partition is the judge of its rows alone.
        for (_, rows) in partitions.group(batch, |row| &row.asked.pessoa.id) {
            self.parts.push(Part { rows, searching: false });
        }
        while let Some(mut part) = self.parts.pop() {
            self.queue.drop_late(&mut part.rows);
            if part.rows.is_empty() {
                continue;
            }
            self.settled.asked = true;
            let searching = part.searching;
            let partition = partitions.of_id(&part.rows[0].asked.pessoa.id);
            match self.attempt(part).await {
                Ok(()) => {
                    let freed = batches(self.aside.release(partition));
                    self.parts.extend(freed.map(|rows| Part { rows, searching: false }));
                }
                Err((rows, fault)) => self.meet(rows, searching, fault).await?,
            }
        }
        if self.searching
            && let Err(failure) = self.session.wait_for_locks(COMMIT_LOCK_TIME_MAX).await
        {
            return Err((Vec::new(), failure.to_string()));
        }
        Ok(self.settled)
    }

    /// Decides what is done with rows that met a fault.
    async fn meet(
        &mut self,
        rows: Vec<Insert>,
        searching: bool,
        fault: Fault,
    ) -> Result<(), (Vec<Insert>, String)> {
        match fault {
            Fault::Row(sqlstate) if rows.len() == 1 => {
                // An attempt whose outcome was not learnt may have stored it all the same.
                let holders = match rows[0].in_doubt.get() {
                    true => self.look_up(&rows).await,
                    false => Ok(HashMap::default()),
                };
                match holders {
                    Ok(holders) if holders.is_empty() => refuse(rows, &sqlstate, self.queue.outbox()),
                    Ok(holders) => answer_conflicting(rows, &holders, self.queue.outbox()),
                    Err(failure) => return Err(self.give_back(rows, failure.to_string())),
                }
            }
            Fault::Row(_) => self.split(rows, searching),
            Fault::Conflict => {
                let pause = tokio::time::sleep(CONFLICT_PAUSE);
                self.queue.until_answered(in_hand(&rows, &self.parts, self.aside), pause).await;
                self.parts.push(Part { rows, searching });
            }
            Fault::Locked if searching && rows.len() == 1 => self.aside.set(rows),
            Fault::Locked if searching => self.split(rows, true),
            Fault::Locked => match self.session.table_is_free(&rows).await {
                Ok(true) if rows.len() == 1 => self.aside.set(rows),
                Ok(true) => self.split(rows, true),
                // The tables of other partitions may be free.
                Ok(false) if self.session.partitions() != Partitions::ONE => {
                    let partition = self.session.partitions().of_id(&rows[0].asked.pessoa.id);
                    self.aside.hold(partition, rows);
                }
                Ok(false) => {
                    let pause = tokio::time::sleep(TABLE_PAUSE);
                    self.queue.until_answered(in_hand(&rows, &self.parts, self.aside), pause).await;
                    self.parts.push(Part { rows, searching });
                }
                Err(failure) => return Err(self.give_back(rows, failure.to_string())),
            },
            Fault::Elsewhere(why) => self.leave(rows, &why).await?,
            Fault::Session(why) => {
                rows.iter().for_each(|row| row.in_doubt.set(true));
                return Err(self.give_back(rows, why));
            }
        }
        Ok(())
    }

    /// Tells rows whose partition is elsewhere that nothing was stored, unless an attempt before did.
    async fn leave(&mut self, mut rows: Vec<Insert>, why: &str) -> Result<(), (Vec<Insert>, String)> {
        tracing::warn!(
            why,
            rows = rows.len(),
            "the table of these creates is elsewhere, or takes no rows at the moment"
        );
        let in_doubt: Vec<Insert> = rows.extract_if(.., |row| row.in_doubt.get()).collect();
        not_stored(rows, self.queue.outbox());
        if in_doubt.is_empty() {
            return Ok(());
        }
        match self.look_up(&in_doubt).await {
            Ok(holders) => {
                let known = |row: &mut Insert| holders.contains_key(&row.asked.pessoa.apelido);
                let mut unknown = in_doubt;
                let known: Vec<Insert> = unknown.extract_if(.., known).collect();
                answer_conflicting(known, &holders, self.queue.outbox());
                not_stored(unknown, self.queue.outbox());
            }
            Err(failure) => match Fault::of(&failure) {
                // What became of them is known where their table went.
                Fault::Elsewhere(_) => self.queue.outbox().unavailable(in_doubt.iter()),
                Fault::Locked => self.aside.set(in_doubt),
                _ => return Err(self.give_back(in_doubt, failure.to_string())),
            },
        }
        Ok(())
    }

    fn split(&mut self, mut rows: Vec<Insert>, searching: bool) {
        let second = rows.split_off(rows.len() / 2);
        self.parts.push(Part { rows: second, searching });
        self.parts.push(Part { rows, searching });
    }

    fn give_back(&mut self, mut rows: Vec<Insert>, why: String) -> (Vec<Insert>, String) {
        rows.extend(self.parts.drain(..).flat_map(|part| part.rows));
        (rows, why)
    }

    /// Inserts rows and answers them; gives back those that a failure left without an answer.
    async fn attempt(&mut self, part: Part) -> Result<(), (Vec<Insert>, Fault)> {
        let Part { mut rows, searching } = part;
        if searching != self.searching {
            let time_max = if searching { ASIDE_LOCK_TIME_MAX } else { COMMIT_LOCK_TIME_MAX };
            if let Err(failure) = self.session.wait_for_locks(time_max).await {
                return Err((rows, Fault::Session(failure.to_string())));
            }
            self.searching = searching;
        }
        // Bytewise, as the unique index compares. The sort is stable: of equal apelidos the first to come goes first.
        rows.sort_by(|a, b| a.asked.pessoa.apelido.as_bytes().cmp(b.asked.pessoa.apelido.as_bytes()));
        let insert = self.counters.time(Operation::Insert, self.session.insert(&rows));
        let inserted = match self.queue.until_answered(in_hand(&rows, &self.parts, self.aside), insert).await
        {
            Ok(inserted) => inserted,
            Err(failure) => return Err((rows, Fault::of(&failure))),
        };
        if let Some(warning) = self.session.take_warning() {
            tracing::warn!(warning, "the database warned while it committed: waiting until that is durable");
            self.counters.warnings.add(1);
            let barrier = self.session.barrier();
            let passed = self.queue.until_answered(in_hand(&rows, &self.parts, self.aside), barrier).await;
            if let Err(failure) = passed {
                return Err((rows, Fault::Session(failure.to_string())));
            }
        }
        let stored = u32::try_from(inserted.ids.len()).unwrap_or(u32::MAX);
        let rest = answer_inserted(rows, &inserted.ids, self.queue.outbox());
        // Only after the reports were pushed: a feed that hears of the transaction leaves out its rows, as they are
        // already on their way to the core.
        if let Some(tx) = inserted.tx {
            self.settled.committed = true;
            self.feed.committed(self.session.identity(), tx, stored);
        }
        if rest.is_empty() {
            return Ok(());
        }
        match self.look_up(&rest).await {
            Ok(holders) => {
                answer_conflicting(rest, &holders, self.queue.outbox());
                Ok(())
            }
            Err(failure) => Err((rest, Fault::of_lookup(&failure))),
        }
    }

    /// Which id owns each of the rows' apelidos, by durable rows.
    async fn look_up(&mut self, rows: &[Insert]) -> Result<HashMap<Box<str>, Uuid>, Failure> {
        let holders = self.session.holders(rows);
        let holders = self.queue.until_answered(in_hand(rows, &self.parts, self.aside), holders).await?;
        self.settled.committed = true;
        Ok(holders)
    }
}

/// All jobs for which a client may wait: `rows`, the parts after them, and those aside.
fn in_hand<'a>(
    rows: &'a [Insert],
    parts: &'a [Part],
    aside: &'a Aside,
) -> impl Iterator<Item = &'a Insert> + Clone {
    rows.iter().chain(parts.iter().flat_map(|part| &part.rows)).chain(aside.rows())
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

/// Rows in batches of no more than a batch holds.
fn batches(rows: Vec<Insert>) -> impl Iterator<Item = Vec<Insert>> {
    let mut rows = VecDeque::from(rows);
    std::iter::from_fn(move || {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < COMMIT_BATCH_MAX && bytes < COMMIT_BATCH_BYTES_MAX {
            let Some(row) = rows.pop_front() else { break };
            bytes += row.asked.bytes();
            batch.push(row);
        }
        (!batch.is_empty()).then_some(batch)
    })
}

/// Tells those who wait that nothing was stored.
fn not_stored(rows: Vec<Insert>, outbox: &Outbox) {
    for ticket in rows.iter().filter_map(|row| row.ticket.take()) {
        outbox.push(Report::NotStored { ticket });
    }
    outbox.wake();
}

/// Answers rows that the database does not take.
fn refuse(rows: Vec<Insert>, sqlstate: &str, outbox: &Outbox) {
    for row in rows {
        tracing::error!(sqlstate, id = %row.asked.pessoa.id, "the database refused a row that passed validation");
        if let Some(ticket) = row.ticket.take() {
            outbox.push(match is_about_the_row(sqlstate) {
                true => Report::Refused { ticket, sqlstate: sqlstate.into() },
                false => Report::NotStored { ticket },
            });
        }
    }
    outbox.wake();
}
