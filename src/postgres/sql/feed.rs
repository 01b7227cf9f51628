//! The feed's statements: who the server is, all rows, the rows that came since, and the nudge to other instances.

use futures_util::TryStreamExt;
use tokio_postgres::binary_copy::BinaryCopyOutStream;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error, Statement};
use uuid::Uuid;

use super::row::{record, record_at};
use super::types::{Days, Snapshot, Xid8};
use crate::limits::FEED_TIME_MAX;
use crate::pessoa::Record;
use crate::postgres::failure::Failure;
use crate::postgres::role::Role;
use crate::postgres::session::{Session, Statements};

const LOAD: &str =
    "COPY (SELECT id, apelido, nome, nascimento, stack FROM pessoas) TO STDOUT (FORMAT binary)";

// A snapshot does not show the transactions from its xmax on, nor those that were under way when it was taken. Each
// kind is one part of the union, read by the index on `tx`. The left join gives this statement's own snapshot even when
// no row is new.
const CHANGES: &str = "\
    SELECT now.snapshot, id, apelido, nome, nascimento, stack \
    FROM (SELECT pg_current_snapshot() AS snapshot) AS now LEFT JOIN ( \
        SELECT id, apelido, nome, nascimento, stack, tx FROM pessoas WHERE tx >= $1::xid8 \
        UNION ALL \
        SELECT id, apelido, nome, nascimento, stack, tx FROM pessoas WHERE tx = ANY ($2::xid8[]) \
    ) AS unseen ON unseen.tx <> ALL ($3::xid8[])";

// `history` changes with the cluster or its timeline: rows that were seen may then be gone. `incarnation` changes with
// every start of the server, and with every crash, because a crash resets the server's statistics: transaction ids that
// never reached the disk are then given out again.
const IDENTITY: &str = "\
    SELECT system_identifier || '/' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) AS history, \
           pg_postmaster_start_time() || '/' || coalesce(stats_reset::text, '') AS incarnation, \
           pg_backend_pid() \
    FROM pg_control_system(), pg_stat_bgwriter";

const NOTIFY: &str = "NOTIFY rinha";

/// The statements of the feed's connection.
pub(in crate::postgres) struct Feed {
    changes: Statement,
}

impl Statements for Feed {
    const ROLE: Role = Role::Feed;

    /// No statement timeout: a load takes as long as it takes, and the reader notices when no row comes. No synchronous
    /// commit: a nudge need not be durable. No sequential scan: without statistics the planner expects a third of the
    /// table to be new, and it must use the index all the same.
    fn settings() -> String {
        "SET statement_timeout = 0; SET synchronous_commit = off; SET enable_seqscan = off; LISTEN rinha"
            .to_owned()
    }

    async fn prepare(client: &Client) -> Result<Feed, Error> {
        Ok(Feed { changes: client.prepare(CHANGES).await? })
    }
}

/// Who the server is, which decides what of an earlier session still holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::postgres) struct ServerIdentity {
    /// The cluster and its timeline: changes when rows that were seen may be gone.
    pub(in crate::postgres) history: String,
    /// Changes when the server was started or crashed: transaction ids that left no trace on disk are given out again.
    pub(in crate::postgres) incarnation: String,
    /// The process id of the session's backend.
    pub(in crate::postgres) pid: i32,
}

impl Session<Feed> {
    /// Asks who the server is.
    pub(in crate::postgres) async fn identity(&self) -> Result<ServerIdentity, Failure> {
        let row = self.bounded(self.client().query_one(IDENTITY, &[])).await?;
        Ok(ServerIdentity { history: row.try_get(0)?, incarnation: row.try_get(1)?, pid: row.try_get(2)? })
    }

    /// Gives every committed row to `each`. Returns the snapshot that showed them.
    pub(in crate::postgres) async fn load(
        &self,
        mut each: impl AsyncFnMut(Record),
    ) -> Result<Snapshot, Failure> {
        let client = self.client();
        // One snapshot for both statements.
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL enable_seqscan = on";
        self.bounded(client.batch_execute(begin)).await?;
        let row = self.bounded(client.query_one("SELECT pg_current_snapshot()", &[])).await?;
        let snapshot = row.try_get(0)?;
        let copy = self.bounded(client.copy_out(LOAD)).await?;
        let types = [Type::UUID, Type::VARCHAR, Type::VARCHAR, Type::DATE, Type::TEXT_ARRAY];
        let mut rows = std::pin::pin!(BinaryCopyOutStream::new(copy, &types));
        while let Some(row) = self.bounded(rows.try_next()).await? {
            let id = row.try_get(0)?;
            let Days(days) = row.try_get(3)?;
            each(record(id, row.try_get(1)?, row.try_get(2)?, days, row.try_get(4)?)?).await;
        }
        self.bounded(client.batch_execute("COMMIT")).await?;
        Ok(snapshot)
    }

    /// Gives `each` the committed rows that `since` did not show, except those of the transactions `known`. Returns the
    /// snapshot that showed them, for the next call.
    pub(in crate::postgres) async fn changes(
        &self,
        since: &Snapshot,
        known: &[Xid8],
        mut each: impl AsyncFnMut(Record),
    ) -> Result<Snapshot, Failure> {
        let parameters: [&(dyn ToSql + Sync); 3] = [&since.xmax, &since.under_way, &known];
        let rows = self.client().query_raw(&self.statements().changes, parameters);
        let mut rows = std::pin::pin!(self.within(FEED_TIME_MAX, rows).await?);
        let mut snapshot = None;
        while let Some(row) = self.within(FEED_TIME_MAX, rows.try_next()).await? {
            if snapshot.is_none() {
                snapshot = Some(row.try_get(0)?);
            }
            if row.try_get::<_, Option<Uuid>>(1)?.is_some() {
                each(record_at(&row, 1)?).await;
            }
        }
        snapshot.ok_or_else(|| Failure::Lost("expected a snapshot, got no row".to_owned()))
    }

    /// Tells the feeds of all instances that there is something new.
    pub(in crate::postgres) async fn notify(&self) -> Result<(), Failure> {
        self.within(FEED_TIME_MAX, self.client().batch_execute(NOTIFY)).await
    }
}
