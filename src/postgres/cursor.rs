//! How far the feed has read the table, and which transactions it has to ask for next. It knows no SQL and no session.
//!
//! Every row names its transaction, and the database sees to that it is the one that inserted the row (`schema.sql`). A
//! snapshot `S` says of each transaction whether its rows were shown: those with an id below `S.xmax`, except those that
//! were under way. Rows of subtransactions name their top transaction, and so does the snapshot.
//!
//! **While one server process answers**, a row that is visible now and was not shown by `S` names a transaction that
//! was under way in `S` or has an id from `S.xmax` on. The next question asks for exactly these, so no row is missed,
//! whatever the order of commits.
//!
//! **After a restart or a crash** ids are used anew: those of transactions that left no trace in the log on disk. The old
//! ones may have been shown as ended, so `S` says nothing of the new ones. But this is the bound:
//!
//! 1. A transaction that has an id ends by a record in the log that carries its id and those of its subtransactions,
//!    whether it commits or aborts, and only then do snapshots show it as ended.
//! 2. So when `S` was taken, the record of the transaction `S.xmax - 1` was in the log, before the place where the
//!    next record was to be inserted. [`Seen::log_end`] was read there or later.
//! 3. Recovery replays all that is on disk, and gives out ids only above every id that it met.
//! 4. So when the same server has flushed its log beyond `log_end`, no id below `S.xmax` is ever given out again in
//!    this history. That is the cursor's *floor*; what is under way in `S` is below it, and stays asked for.
//!
//! A new session therefore asks from the floor on, or from `S.xmax` on if that is less. A row that it finds with an id
//! below the floor is of the very transaction of which `S` spoke; all others are asked for. The floor follows by one
//! question, so that this is what came within the last second and not the whole table. Before it is known it is zero, and
//! everything is asked for.
//!
//! A session that is answered by another process than before is a new session, since a crash ends every process. And a
//! server that is behind the floor has lost what was on its disk (somebody restored an old copy): it has another
//! history, though it bears the same name.

use tokio_postgres::types::PgLsn;

use super::sql::{Snapshot, Xid8};

/// What one question showed.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// The transactions whose rows it showed.
    pub(super) snapshot: Snapshot,
    /// Where the log ended, read after the snapshot was taken.
    pub(super) log_end: PgLsn,
    /// How much of the log was on disk.
    pub(super) log_flushed: PgLsn,
    /// Transactions that the snapshot shows, whose rows were too many to be part of the answer.
    pub(super) owed: Vec<Xid8>,
}

/// How far the table was read.
#[derive(Debug)]
pub(super) struct Cursor {
    seen: Seen,
    /// No id below this one is given out again.
    floor: Xid8,
    /// The rows of these transactions are still to be read.
    owed: Vec<Xid8>,
}

/// The transactions whose rows the cursor has not shown.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unseen {
    /// Those with this id or a higher one.
    pub(super) from: Xid8,
    /// Of the others, these.
    pub(super) among: Vec<Xid8>,
}

/// The server has lost what was on its disk.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct GoneBack;

impl Cursor {
    /// After the whole table was read.
    pub(super) fn new(seen: Seen) -> Cursor {
        let owed = seen.owed.clone();
        Cursor { seen, floor: Xid8::FIRST, owed }
    }

    /// What to ask for; `same_session`: of the server process that gave the last answer.
    pub(super) fn unseen(&self, same_session: bool) -> Unseen {
        let Snapshot { xmax, under_way } = &self.seen.snapshot;
        let from = if same_session { *xmax } else { self.floor.min(*xmax) };
        Unseen { from, among: under_way.iter().copied().filter(|&tx| tx < from).collect() }
    }

    /// Takes in the answer to what was [`unseen`](Self::unseen). Returns whether no transaction began or ended since the
    /// last one.
    pub(super) fn advance(&mut self, seen: Seen, same_session: bool) -> Result<bool, GoneBack> {
        if seen.snapshot.xmax < self.floor {
            return Err(GoneBack);
        }
        if same_session && self.seen.log_end <= seen.log_flushed {
            self.floor = self.floor.max(self.seen.snapshot.xmax);
        }
        for &tx in &seen.owed {
            if !self.owed.contains(&tx) {
                self.owed.push(tx);
            }
        }
        let quiet = self.seen.snapshot == seen.snapshot;
        self.seen = seen;
        Ok(quiet)
    }

    /// The transactions whose rows are to be read by themselves.
    pub(super) fn owed(&self) -> &[Xid8] {
        &self.owed
    }

    /// The rows of these transactions were read.
    pub(super) fn paid(&mut self, transactions: &[Xid8]) {
        self.owed.retain(|tx| !transactions.contains(tx));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(xmax: u64, under_way: &[u64], log_end: u64, log_flushed: u64) -> Seen {
        let under_way = under_way.iter().copied().map(Xid8::from).collect();
        let snapshot = Snapshot { xmax: xmax.into(), under_way };
        Seen { snapshot, log_end: log_end.into(), log_flushed: log_flushed.into(), owed: Vec::new() }
    }

    #[track_caller]
    fn asks(cursor: &Cursor, same_session: bool, from: u64, among: &[u64]) {
        let among = among.iter().copied().map(Xid8::from).collect();
        assert_eq!(cursor.unseen(same_session), Unseen { from: from.into(), among });
    }

    #[test]
    fn a_session_goes_on_from_its_last_snapshot() {
        let mut cursor = Cursor::new(seen(100, &[97], 1000, 900));
        asks(&cursor, true, 100, &[97]);
        assert_eq!(cursor.advance(seen(100, &[97], 1000, 900), true), Ok(true));
        assert_eq!(cursor.advance(seen(101, &[97], 1010, 1010), true), Ok(false));
        asks(&cursor, true, 101, &[97]);
    }

    #[test]
    fn a_new_session_asks_from_what_was_known_to_be_on_disk() {
        let mut cursor = Cursor::new(seen(100, &[90], 1000, 900));
        asks(&cursor, false, 0, &[]);
        // What is flushed does not reach the end of the log at the first snapshot.
        cursor.advance(seen(110, &[90, 105], 1100, 999), true).unwrap();
        asks(&cursor, false, 0, &[]);
        cursor.advance(seen(120, &[90, 115], 1200, 1100), true).unwrap();
        asks(&cursor, false, 110, &[90]);
        cursor.advance(seen(130, &[90], 1300, 1200), true).unwrap();
        asks(&cursor, false, 120, &[90]);
    }

    /// After a crash other records may be where the lost ones were.
    #[test]
    fn another_sessions_log_proves_nothing() {
        let mut cursor = Cursor::new(seen(100, &[], 1000, 1000));
        cursor.advance(seen(200, &[], 2000, 1000), true).unwrap();
        asks(&cursor, false, 100, &[]);
        // Ids from 150 on are used anew, and the log has grown over its old end with other records.
        cursor.advance(seen(160, &[], 2500, 2500), false).unwrap();
        asks(&cursor, false, 100, &[]);
        cursor.advance(seen(170, &[], 2600, 2600), true).unwrap();
        asks(&cursor, false, 160, &[]);
    }

    #[test]
    fn a_server_that_lost_its_disk_is_told() {
        let mut cursor = Cursor::new(seen(100, &[], 1000, 1000));
        cursor.advance(seen(200, &[], 2000, 1000), true).unwrap();
        assert_eq!(cursor.advance(seen(99, &[], 900, 900), false), Err(GoneBack));
        assert_eq!(cursor.advance(seen(100, &[], 1000, 1000), false), Ok(false));
    }

    #[test]
    fn what_is_owed_stays_owed_until_it_is_paid() {
        let owing = |transactions: &[u64]| Seen {
            owed: transactions.iter().copied().map(Xid8::from).collect(),
            ..seen(100, &[], 1000, 1000)
        };
        let mut cursor = Cursor::new(owing(&[]));
        cursor.advance(owing(&[7]), true).unwrap();
        cursor.advance(owing(&[8]), false).unwrap();
        cursor.advance(owing(&[8]), true).unwrap();
        assert_eq!(cursor.owed(), [Xid8::from(7), Xid8::from(8)]);
        cursor.paid(&[Xid8::from(7)]);
        assert_eq!(cursor.owed(), [Xid8::from(8)]);
    }
}
