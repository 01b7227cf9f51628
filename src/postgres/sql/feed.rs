//! The feed's statements: who the server is, all rows, the rows that came since, those of large transactions, and the
//! nudge to other instances.

use futures_util::TryStreamExt;
use tokio_postgres::binary_copy::BinaryCopyOutStream;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error, Row, Statement};

use super::row::{LeftOut, record};
use super::types::Xid8;
use crate::limits::{FEED_BULK_MIN, FEED_TIME_MAX};
use crate::pessoa::Record;
use crate::postgres::cursor::{Seen, Unseen};
use crate::postgres::failure::Failure;
use crate::postgres::history::Identity;
use crate::postgres::layout::Partition;
use crate::postgres::placement::Placement;
use crate::postgres::role::Role;
use crate::postgres::session::{Session, Statements};

const LOAD: &str = "COPY (SELECT id, apelido, nome, nascimento, stack FROM {rows}) TO STDOUT (FORMAT binary)";

/// Who answers, as the first columns of a reply: the system's identifier, the timeline, and a mark that only this session
/// has. They are part of the reply because something between may change servers from one statement to the next. The
/// timeline is NULL on a server in recovery, whose snapshots do not name what is under way.
macro_rules! who {
    () => {
        "(SELECT system_identifier FROM pg_control_system()) AS system, \
         CASE WHEN NOT pg_is_in_recovery() \
              THEN ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int END AS timeline, \
         current_setting('rinha.session', true) AS mark"
    };
}

/// What a reply shows, as its next columns. The end of the log is read after the snapshot was taken, as functions are
/// called after that.
macro_rules! seen {
    () => {
        "pg_current_snapshot() AS snapshot, \
         CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_insert_lsn() END AS log_end, \
         CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_flush_lsn() END AS log_flushed"
    };
}

/// About how many rows there are: as dense as they were when the table was last looked through, on the pages that it has
/// now, which is how the planner guesses. NULL when nobody has looked yet.
const EXPECTED: &str = "\
    SELECT sum(CASE WHEN reltuples > 0 AND relpages > 0 \
           THEN (reltuples::float8 / relpages * pg_relation_size(oid) / current_setting('block_size')::int8) END)::int8 \
    FROM pg_class WHERE oid IN (SELECT to_regclass(name) FROM unnest($1::text[]) AS name)";

const BEGIN_LOAD: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL enable_seqscan = on";

const WHO: &str = concat!("SELECT ", who!());

const LOADED: &str = concat!("SELECT ", who!(), ", ", seen!(), ", '{}'::xid8[], {here}");

// A snapshot does not show the transactions from its xmax on, nor those that were under way when it was taken. The first
// are walked through by the index on `tx`, one step a transaction; of the others those count that have ended since. A row
// that names a transaction to come (its trigger was disabled) waits until that transaction would be asked for, else it
// would be read at every question.
//
// However many rows a transaction has, no more of them are read than tell that it is large: its rows would delay the
// others, so only its id is part of the answer. And those of a transaction under way are not read at all, at question
// after question. The first row says who answers and what it shows; it comes first, because a union of parts that are not
// sorted keeps their order.
const CHANGES: &str = concat!(
    "WITH RECURSIVE walk (tx) AS ( \
         (SELECT tx FROM {rows} \
          WHERE tx >= $1::xid8 AND tx < pg_snapshot_xmax(pg_current_snapshot()) ORDER BY tx LIMIT 1) \
         UNION ALL \
         SELECT (SELECT tx FROM {rows} \
                 WHERE tx > walk.tx AND tx < pg_snapshot_xmax(pg_current_snapshot()) ORDER BY tx LIMIT 1) \
         FROM walk WHERE walk.tx IS NOT NULL \
     ), unseen AS ( \
         SELECT tx FROM walk WHERE tx <> ALL ($3::xid8[]) \
         UNION ALL \
         SELECT tx FROM unnest($2::xid8[]) AS tx \
         WHERE pg_visible_in_snapshot(tx, pg_current_snapshot()) AND tx <> ALL ($3::xid8[]) \
     ), measured AS MATERIALIZED ( \
         SELECT tx, (SELECT count(*) FROM (SELECT FROM {rows} WHERE pessoas.tx = unseen.tx LIMIT $4) AS its) >= $4 \
             AS large \
         FROM unseen \
     ) \
     SELECT ",
    who!(),
    ", ",
    seen!(),
    ", ARRAY (SELECT tx FROM measured WHERE large) AS owed, {here} AS here, \
         NULL::uuid AS id, NULL AS apelido, NULL AS nome, NULL::date AS nascimento, NULL::text[] AS stack \
     UNION ALL \
     SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, its.* \
     FROM measured CROSS JOIN LATERAL ( \
         SELECT id, apelido, nome, nascimento, stack FROM {rows} WHERE pessoas.tx = measured.tx LIMIT $4 \
     ) AS its WHERE NOT large"
);

/// The column of the partitions in a reply to `CHANGES`.
const HERE: usize = 7;

/// The first column of a row in a reply to `CHANGES`.
const CHANGED: usize = 8;

const ROWS: &str = concat!(
    "SELECT ",
    who!(),
    ", NULL::uuid AS id, NULL AS apelido, NULL AS nome, NULL::date AS nascimento, NULL::text[] AS stack \
     UNION ALL \
     SELECT NULL, NULL, NULL, id, apelido, nome, nascimento, stack FROM {rows} WHERE tx = ANY ($1::xid8[])"
);

/// The first column of a row in a reply to `ROWS`.
const OF_BULK: usize = 3;

// One statement and one transaction, which waits neither for the disk nor for a standby. The setting ends with the
// transaction, so nothing can carry it into another one.
const NOTIFY: &str = "SELECT set_config('synchronous_commit', 'off', true), pg_notify('rinha', '')";

/// The statements of the feed's connection.
pub(in crate::postgres) struct Feed {
    changes: Statement,
    notify: Statement,
}

impl Statements for Feed {
    const ROLE: Role = Role::Feed;

    /// No statement timeout: a load takes as long as it takes, and the reader notices when no row comes. No sequential
    /// scan: without statistics the planner expects a third of the table to be new, and it must use the index all the
    /// same; for that reason one plan does for all questions, and none is worth compiling.
    fn settings() -> String {
        "SET statement_timeout = 0; SET enable_seqscan = off; SET plan_cache_mode = force_generic_plan; \
         SET max_parallel_workers_per_gather = 0; SET jit = off; LISTEN rinha"
            .to_owned()
    }

    async fn prepare(client: &Client, here: &Placement) -> Result<Feed, Error> {
        let changes = CHANGES.replace("{rows}", &here.rows()).replace("{here}", &here.question());
        Ok(Feed { changes: client.prepare(&changes).await?, notify: client.prepare(NOTIFY).await? })
    }
}

/// The statement of the connection that reads the rows of large transactions.
pub(in crate::postgres) struct Bulk {
    rows: Statement,
}

impl Statements for Bulk {
    const ROLE: Role = Role::Bulk;

    fn settings() -> String {
        "SET statement_timeout = 0; SET enable_seqscan = off; SET plan_cache_mode = force_generic_plan; \
         SET max_parallel_workers_per_gather = 0; SET jit = off"
            .to_owned()
    }

    async fn prepare(client: &Client, here: &Placement) -> Result<Bulk, Error> {
        Ok(Bulk { rows: client.prepare(&ROWS.replace("{rows}", &here.rows())).await? })
    }
}

/// Who answers: a reply of anybody else is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::postgres) struct Server {
    /// The history that it writes.
    pub(in crate::postgres) identity: Identity,
    /// The token of the session; `None` where none was set.
    mark: Option<String>,
}

/// Who answered, in the first columns of `row`.
fn server(row: &Row) -> Result<Server, Failure> {
    let system = row.try_get(0)?;
    let timeline: Option<i32> = row.try_get(1)?;
    let timeline =
        timeline.ok_or_else(|| Failure::Lost("the server is in recovery: it is a standby".to_owned()))?;
    let identity = Identity { system, timeline: timeline.cast_unsigned() };
    Ok(Server { identity, mark: row.try_get(2)? })
}

/// Who answers, and what it showed, in the columns of a reply that come before its rows.
fn seen(row: &Row, asked: &Server) -> Result<Seen, Failure> {
    if server(row)? != *asked {
        return Err(another_server());
    }
    Ok(Seen {
        snapshot: row.try_get(3)?,
        log_end: row.try_get(4)?,
        log_flushed: row.try_get(5)?,
        owed: row.try_get(6)?,
    })
}

fn another_server() -> Failure {
    Failure::Lost("another server answered than the one that was asked".to_owned())
}

fn headless() -> Failure {
    Failure::Lost("expected the row that says who answers, got none".to_owned())
}

impl Session<Feed> {
    /// Who answers this session, and nobody else.
    pub(in crate::postgres) fn server(&self) -> Server {
        Server { identity: self.identity(), mark: Some(self.token().to_owned()) }
    }

    /// About how many rows a load of these partitions will have, if the tables' statistics tell.
    pub(in crate::postgres) async fn expected_rows(
        &self,
        partitions: &[Partition],
    ) -> Result<Option<u64>, Failure> {
        let tables = self.here().tables(partitions);
        let row = self.bounded(self.client().query_opt(EXPECTED, &[&tables])).await?;
        let rows: Option<i64> = row.map(|row| row.try_get(0)).transpose()?.flatten();
        Ok(rows.and_then(|rows| u64::try_from(rows).ok()))
    }

    /// Gives every committed row of these partitions to `each`, but those that are no pessoas. Returns what showed them.
    pub(in crate::postgres) async fn load(
        &self,
        asked: &Server,
        partitions: &[Partition],
        each: impl AsyncFnMut(Record),
    ) -> Result<Seen, Failure> {
        let client = self.client();
        // One snapshot for both statements.
        self.bounded(client.batch_execute(BEGIN_LOAD)).await?;
        let loaded = LOADED.replace("{here}", &self.here().question());
        let seen = seen(&self.bounded(client.query_one(&loaded, &[])).await?, asked)?;
        self.copy(partitions, each).await?;
        self.bounded(client.batch_execute("COMMIT")).await?;
        Ok(seen)
    }

    /// Gives `each` the committed rows of the transactions `unseen`, except those of the transactions `known` and of
    /// those that are then [`owed`](Seen::owed), and those that are no pessoas. Returns what showed them, for the next call,
    /// and the partitions that were at the server then.
    pub(in crate::postgres) async fn changes(
        &self,
        asked: &Server,
        unseen: &Unseen,
        known: &[Xid8],
        mut each: impl AsyncFnMut(Record),
    ) -> Result<(Seen, Placement), Failure> {
        let bulk_min = i64::try_from(FEED_BULK_MIN).expect("a small number");
        let parameters: [&(dyn ToSql + Sync); 4] = [&unseen.from, &unseen.among, &known, &bulk_min];
        let rows = self.client().query_raw(&self.statements().changes, parameters);
        let mut rows = std::pin::pin!(self.within(FEED_TIME_MAX, rows).await?);
        let first = self.within(FEED_TIME_MAX, rows.try_next()).await?.ok_or_else(headless)?;
        let seen = seen(&first, asked)?;
        let here =
            Placement::read(&first.try_get::<_, Vec<&str>>(HERE)?, self.partitions(), self.here().engine());
        let mut left_out = LeftOut::default();
        while let Some(row) = self.within(FEED_TIME_MAX, rows.try_next()).await? {
            match record(&row, CHANGED)? {
                Ok(record) => each(record).await,
                Err(unfit) => left_out.add(&unfit),
            }
        }
        Ok((seen, here))
    }

    /// Tells the feeds of all instances that there is something new.
    pub(in crate::postgres) async fn notify(&self) -> Result<(), Failure> {
        self.within(FEED_TIME_MAX, self.client().query_one(&self.statements().notify, &[])).await?;
        Ok(())
    }
}

impl<S: Statements> Session<S> {
    /// Gives `each` the rows of these partitions, but those that are no pessoas, within a transaction that was begun.
    async fn copy(&self, partitions: &[Partition], mut each: impl AsyncFnMut(Record)) -> Result<(), Failure> {
        let client = self.client();
        let copy =
            self.bounded(client.copy_out(&LOAD.replace("{rows}", &self.here().rows_of(partitions)))).await?;
        let types = [Type::UUID, Type::VARCHAR, Type::VARCHAR, Type::DATE, Type::TEXT_ARRAY];
        let mut rows = std::pin::pin!(BinaryCopyOutStream::new(copy, &types));
        let mut left_out = LeftOut::default();
        while let Some(row) = self.bounded(rows.try_next()).await? {
            match record(&row, 0)? {
                Ok(record) => each(record).await,
                Err(unfit) => left_out.add(&unfit),
            }
        }
        Ok(())
    }
}

impl Session<Bulk> {
    /// Gives `each` every committed row of these partitions, if the server writes this history, but those that are no pessoas.
    pub(in crate::postgres) async fn load(
        &self,
        of: Identity,
        partitions: &[Partition],
        each: impl AsyncFnMut(Record),
    ) -> Result<(), Failure> {
        let client = self.client();
        self.bounded(client.batch_execute(BEGIN_LOAD)).await?;
        let first = self.bounded(client.query_one(WHO, &[])).await?;
        if server(&first)?.identity != of {
            return Err(another_server());
        }
        self.copy(partitions, each).await?;
        self.bounded(client.batch_execute("COMMIT")).await?;
        self.is_still_placed().await
    }

    /// Gives `each` the rows of these transactions, if the server writes this history.
    pub(in crate::postgres) async fn rows(
        &self,
        of: Identity,
        transactions: &[Xid8],
        mut each: impl AsyncFnMut(Record),
    ) -> Result<(), Failure> {
        let parameters: [&(dyn ToSql + Sync); 1] = [&transactions];
        let rows = self.client().query_raw(&self.statements().rows, parameters);
        let mut rows = std::pin::pin!(self.bounded(rows).await?);
        let first = self.bounded(rows.try_next()).await?.ok_or_else(headless)?;
        if server(&first)?.identity != of {
            return Err(another_server());
        }
        let mut left_out = LeftOut::default();
        while let Some(row) = self.bounded(rows.try_next()).await? {
            match record(&row, OF_BULK)? {
                Ok(record) => each(record).await,
                Err(unfit) => left_out.add(&unfit),
            }
        }
        Ok(())
    }
}
