//! Every statement, and how rows travel to and from them. It knows the table and nothing of tickets.

use std::error::Error;

use ahash::{HashMap, HashSet};
use bytes::{Buf, BufMut, BytesMut};
use futures_util::TryStreamExt;
use memchr::memmem;
use tokio_postgres::binary_copy::BinaryCopyOutStream;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked};
use tokio_postgres::{Client, Row, SimpleQueryMessage, Statement};
use uuid::Uuid;

use super::Role;
use super::commit::Pending;
use super::session::{Failure, Session};
use crate::limits::{
    FEED_TIME_MAX, SCHEMA_LOCK_TIME_MAX, SEARCH_RESULTS_MAX, SEARCH_TIME_MAX, STATEMENT_TIME_MAX,
};
use crate::pessoa::{Pessoa, Record, SEPARATOR, Stack};

const SCHEMA: &str = include_str!("../../schema.sql");

/// Serialises concurrent starts on one database: "rinha" in ASCII.
const SCHEMA_LOCK: i64 = 0x72_69_6e_68_61;

// `unnest` of parallel arrays makes one row of each position. A ragged array of arrays cannot travel that way,
// so each stack goes as the text of an array.
const INSERT: &str = "\
    INSERT INTO pessoas (id, apelido, nome, nascimento, stack, search) \
    SELECT id, apelido, nome, nascimento, stack::text[], search \
    FROM unnest($1::uuid[], $2::text[], $3::text[], $4::date[], $5::text[], $6::bytea[]) \
        AS batch (id, apelido, nome, nascimento, stack, search) \
    ON CONFLICT DO NOTHING RETURNING id, tx";

const OWNERS: &str = "SELECT apelido, id FROM pessoas WHERE apelido = ANY ($1::text[])";

const FETCH: &str = "SELECT id, apelido, nome, nascimento, stack FROM pessoas WHERE id = ANY ($1::uuid[])";

const LOAD: &str =
    "COPY (SELECT id, apelido, nome, nascimento, stack FROM pessoas) TO STDOUT (FORMAT binary)";

// A snapshot does not show what began at its xmax or later, and what was under way then: the two parts of the
// union, each read by the index on `tx`. Without a row there is still the snapshot that this statement sees by.
const CHANGES: &str = "\
    SELECT now.snapshot, id, apelido, nome, nascimento, stack \
    FROM (SELECT pg_current_snapshot() AS snapshot) AS now LEFT JOIN ( \
        SELECT id, apelido, nome, nascimento, stack, tx FROM pessoas WHERE tx >= $1::xid8 \
        UNION ALL \
        SELECT id, apelido, nome, nascimento, stack, tx FROM pessoas WHERE tx = ANY ($2::xid8[]) \
    ) AS unseen ON unseen.tx <> ALL ($3::xid8[])";

// `history` changes with the cluster or its timeline: then rows that were seen may be gone. `incarnation` changes
// with every start and every crash of the server, which throws its statistics away: then transaction ids that were
// given out and never reached the disk are given out again.
const IDENTITY: &str = "\
    SELECT system_identifier || '/' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) AS history, \
           pg_postmaster_start_time() || '/' || coalesce(stats_reset::text, '') AS incarnation, \
           pg_backend_pid() \
    FROM pg_control_system(), pg_stat_bgwriter";

const NOTIFY: &str = "NOTIFY rinha";

// Any 50 will do; they are put in order afterwards.
const SEARCH: &str = "\
    SELECT id, apelido, nome, nascimento, stack FROM pessoas \
    WHERE position($1::bytea IN search) > 0 LIMIT $2";

// Rows that were put in by hand. Postgres' own lower() is another one than the search text's.
const UNLOWERED: &str = "SELECT id, apelido, nome, nascimento, stack FROM pessoas WHERE search IS NULL";

const COUNT: &str = "SELECT count(*) FROM pessoas";

/// What a session says of itself first. `synchronous_commit` is what a 201 promises, whatever the server's
/// default; a commit is never cut short by a timeout, a read is.
pub(super) fn session_settings(role: Role) -> String {
    let limits = match role {
        Role::Commit => {
            // Postgres would plan each batch anew: it thinks the generic plan dearer. That plan outlives the size of the table
            // that it was made for, so it must not read all of it, nor be compiled because it looks as if it did.
            // A backend whose client gave it up while it waits for a lock would keep its connection (Postgres 14).
            "SET synchronous_commit = on; SET statement_timeout = 0; SET lock_timeout = 0; \
             SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET jit = off; \
             SELECT set_config(name, '2000', false) FROM pg_settings \
             WHERE name = 'client_connection_check_interval'"
                .to_owned()
        }
        Role::Read => format!("SET statement_timeout = {}", STATEMENT_TIME_MAX.as_millis()),
        // Loading takes as long as it takes; a row that never comes is noticed by the reader. A nudge need not be
        // durable. Without statistics the planner takes a third of the table for new: it must use the index.
        Role::Feed => "SET statement_timeout = 0; SET synchronous_commit = off; SET enable_seqscan = off; \
                       LISTEN rinha"
            .to_owned(),
        Role::Search => format!("SET statement_timeout = {}", SEARCH_TIME_MAX.as_millis()),
    };
    format!("{limits}; SET application_name = 'rinha {}'", role.name())
}

/// The statements of one session, prepared: those of its role and no other, as preparing an insert waits for who
/// holds the table against inserts, and reads must not.
pub(super) enum Statements {
    Commit { insert: Statement, owners: Statement },
    Read { fetch: Statement, count: Statement },
    Search { search: Statement, unlowered: Statement },
    Feed { changes: Statement },
}

impl Statements {
    pub(super) async fn prepare(client: &Client, role: Role) -> Result<Statements, tokio_postgres::Error> {
        Ok(match role {
            Role::Commit => Statements::Commit {
                insert: client.prepare(INSERT).await?,
                owners: client.prepare(OWNERS).await?,
            },
            Role::Read => {
                Statements::Read { fetch: client.prepare(FETCH).await?, count: client.prepare(COUNT).await? }
            }
            Role::Search => Statements::Search {
                search: client.prepare(SEARCH).await?,
                unlowered: client.prepare(UNLOWERED).await?,
            },
            Role::Feed => Statements::Feed { changes: client.prepare(CHANGES).await? },
        })
    }
}

/// The prepared statement of a session that has the role for it.
macro_rules! prepared {
    ($session:expr, $role:ident::$name:ident) => {
        match $session.statements() {
            Statements::$role { $name, .. } => $name,
            _ => unreachable!("asked of a session of another role"),
        }
    };
}

/// What `prepare_database` asks.
pub(super) struct Facts {
    pub(super) version: String,
    pub(super) encoding: String,
    pub(super) durable: bool,
}

/// Applies `schema.sql`, one start at a time, and asks what the server is.
pub(super) async fn apply_schema(client: &Client) -> Result<Facts, tokio_postgres::Error> {
    client
        .batch_execute(&format!(
            "SET lock_timeout = {}; SET client_min_messages = warning; SELECT pg_advisory_lock({SCHEMA_LOCK})",
            SCHEMA_LOCK_TIME_MAX.as_millis()
        ))
        .await?;
    let applied = client.batch_execute(SCHEMA).await;
    client.batch_execute(&format!("SELECT pg_advisory_unlock({SCHEMA_LOCK})")).await?;
    applied?;
    let fsync = show(client, "fsync").await?;
    let full_page_writes = show(client, "full_page_writes").await?;
    Ok(Facts {
        version: show(client, "server_version").await?,
        encoding: show(client, "server_encoding").await?,
        durable: fsync == "on" && full_page_writes == "on",
    })
}

async fn show(client: &Client, setting: &str) -> Result<String, tokio_postgres::Error> {
    let messages = client.simple_query(&format!("SHOW {setting}")).await?;
    Ok(messages
        .iter()
        .find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        })
        .unwrap_or_default())
}

/// What one insert committed.
pub(super) struct Inserted {
    pub(super) ids: HashSet<Uuid>,
    /// Its transaction; none when it inserted nothing.
    pub(super) tx: Option<Xid8>,
}

/// Inserts the rows; those whose ids are returned are now committed.
pub(super) async fn insert(session: &Session, rows: &[Pending]) -> Result<Inserted, Failure> {
    let pessoas = || rows.iter().map(|row| &row.record().pessoa);
    let ids: Vec<Uuid> = pessoas().map(|pessoa| pessoa.id).collect();
    let apelidos: Vec<&str> = pessoas().map(|pessoa| &*pessoa.apelido).collect();
    let nomes: Vec<&str> = pessoas().map(|pessoa| &*pessoa.nome).collect();
    let nascimentos: Vec<Days> = pessoas().map(|pessoa| Days(pessoa.nascimento.days_since_2000())).collect();
    let stacks: Vec<StackText<'_>> = pessoas().map(|pessoa| StackText(pessoa.stack.as_ref())).collect();
    let searches: Vec<&[u8]> = rows.iter().map(|row| &*row.record().search_text).collect();
    let columns: [&(dyn ToSql + Sync); 6] = [&ids, &apelidos, &nomes, &nascimentos, &stacks, &searches];
    let inserted =
        session.bounded(session.client().query(prepared!(session, Commit::insert), &columns)).await?;
    Ok(Inserted {
        ids: inserted.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?,
        tx: inserted.first().map(|row| row.try_get(1)).transpose()?,
    })
}

/// Which id owns each of the rows' apelidos.
pub(super) async fn owners(session: &Session, rows: &[Pending]) -> Result<HashMap<Box<str>, Uuid>, Failure> {
    let apelidos: Vec<&str> = rows.iter().map(|row| &*row.record().pessoa.apelido).collect();
    let owners =
        session.bounded(session.client().query(prepared!(session, Commit::owners), &[&apelidos])).await?;
    owners.iter().map(|row| Ok((row.try_get::<_, &str>(0)?.into(), row.try_get(1)?))).collect()
}

/// The committed rows with these ids.
pub(super) async fn fetch(session: &Session, ids: &[Uuid]) -> Result<HashMap<Uuid, Box<Record>>, Failure> {
    let rows = session.bounded(session.client().query(prepared!(session, Read::fetch), &[&ids])).await?;
    rows.iter()
        .map(|row| {
            let record = record_at(row, 0)?;
            Ok((record.pessoa.id, Box::new(record)))
        })
        .collect()
}

/// Who the server is: what of an earlier session still holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    /// The cluster and its timeline: changes when rows that were seen may be gone.
    pub(super) history: String,
    /// Changes when the server was started or crashed: ids of transactions that left no trace are used again.
    pub(super) incarnation: String,
    /// The session's process.
    pub(super) pid: i32,
}

/// Asks who the server is.
pub(super) async fn identity(session: &Session) -> Result<Identity, Failure> {
    let row = session.bounded(session.client().query_one(IDENTITY, &[])).await?;
    Ok(Identity { history: row.try_get(0)?, incarnation: row.try_get(1)?, pid: row.try_get(2)? })
}

/// Gives every committed row to `each`, and the snapshot that they were seen by.
pub(super) async fn load(session: &Session, mut each: impl AsyncFnMut(Record)) -> Result<Snapshot, Failure> {
    let client = session.client();
    // One snapshot for both statements.
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL enable_seqscan = on";
    session.bounded(client.batch_execute(begin)).await?;
    let row = session.bounded(client.query_one("SELECT pg_current_snapshot()", &[])).await?;
    let snapshot = row.try_get(0)?;
    let copy = session.bounded(client.copy_out(LOAD)).await?;
    let types = [Type::UUID, Type::VARCHAR, Type::VARCHAR, Type::DATE, Type::TEXT_ARRAY];
    let mut rows = std::pin::pin!(BinaryCopyOutStream::new(copy, &types));
    while let Some(row) = session.bounded(rows.try_next()).await? {
        let id = row.try_get(0)?;
        let Days(days) = row.try_get(3)?;
        each(record(id, row.try_get(1)?, row.try_get(2)?, days, row.try_get(4)?)?).await;
    }
    session.bounded(client.batch_execute("COMMIT")).await?;
    Ok(snapshot)
}

/// Gives every row to `each` that is committed and that `since` did not show, but for those of the transactions
/// `known`; the snapshot that they were seen by, for the next call.
pub(super) async fn changes(
    session: &Session,
    since: &Snapshot,
    known: &[Xid8],
    mut each: impl AsyncFnMut(Record),
) -> Result<Snapshot, Failure> {
    let parameters: [&(dyn ToSql + Sync); 3] = [&since.xmax, &since.under_way, &known];
    let rows = session.client().query_raw(prepared!(session, Feed::changes), parameters);
    let mut rows = std::pin::pin!(session.within(FEED_TIME_MAX, rows).await?);
    let mut snapshot = None;
    while let Some(row) = session.within(FEED_TIME_MAX, rows.try_next()).await? {
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
pub(super) async fn notify(session: &Session) -> Result<(), Failure> {
    session.within(FEED_TIME_MAX, session.client().batch_execute(NOTIFY)).await
}

/// At most 50 committed rows whose search text contains `term`, ascending by id.
pub(super) async fn search(session: &Session, term: &[u8]) -> Result<Vec<Record>, Failure> {
    if term.contains(&SEPARATOR) {
        // It stands between two fields and in none.
        return Ok(Vec::new());
    }
    let most = i64::try_from(SEARCH_RESULTS_MAX).expect("a small number");
    let parameters: [&(dyn ToSql + Sync); 2] = [&term, &most];
    let rows =
        session.bounded(session.client().query(prepared!(session, Search::search), &parameters)).await?;
    let mut found: Vec<Record> = rows.iter().map(|row| record_at(row, 0)).collect::<Result<_, _>>()?;

    let no_parameters: [&(dyn ToSql + Sync); 0] = [];
    let rows = session.client().query_raw(prepared!(session, Search::unlowered), no_parameters);
    let mut rows = std::pin::pin!(session.bounded(rows).await?);
    let term = memmem::Finder::new(term);
    while found.len() < SEARCH_RESULTS_MAX
        && let Some(row) = session.bounded(rows.try_next()).await?
    {
        found.extend(Some(record_at(&row, 0)?).filter(|record| term.find(&record.search_text).is_some()));
    }
    found.sort_unstable_by_key(|record| record.pessoa.id);
    Ok(found)
}

/// The number of committed rows.
pub(super) async fn count(session: &Session) -> Result<u64, Failure> {
    let row = session.bounded(session.client().query_one(prepared!(session, Read::count), &[])).await?;
    let rows: i64 = row.try_get(0)?;
    Ok(u64::try_from(rows).expect("a count is not negative"))
}

/// The columns id, apelido, nome, nascimento and stack, from `first` on.
fn record_at(row: &Row, first: usize) -> Result<Record, Failure> {
    let Days(days) = row.try_get(first + 3)?;
    record(
        row.try_get(first)?,
        row.try_get(first + 1)?,
        row.try_get(first + 2)?,
        days,
        row.try_get(first + 4)?,
    )
}

/// A row as the API shows it. The table's checks keep out what could not be shown; a table that lost them is a
/// fault, not a reason to hide a row.
fn record(
    id: Uuid,
    apelido: &str,
    nome: &str,
    days: i32,
    stack: Option<Vec<&str>>,
) -> Result<Record, Failure> {
    let pessoa = Pessoa::from_columns(id, apelido, nome, days, stack)
        .map_err(|unfit| Failure::Lost(format!("the row {id} is no pessoa: {unfit}")))?;
    Ok(Record::new(pessoa))
}

/// A transaction's id, never used again in the life of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Xid8(pub(super) u64);

impl ToSql for Xid8 {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.put_u64(self.0);
        Ok(IsNull::No)
    }

    accepts!(XID8);
    to_sql_checked!();
}

impl<'a> FromSql<'a> for Xid8 {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Xid8(u64::from_be_bytes(raw.try_into()?)))
    }

    accepts!(XID8);
}

/// Which transactions a statement saw (`pg_snapshot`): those before `xmax` that were not under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Snapshot {
    xmax: Xid8,
    under_way: Vec<Xid8>,
}

/// On the wire: how many were under way, the oldest of them, `xmax`, and all of them.
impl<'a> FromSql<'a> for Snapshot {
    fn from_sql(_: &Type, mut raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        let under_way = usize::try_from(raw.try_get_i32()?)?;
        let _xmin = raw.try_get_u64()?;
        let xmax = Xid8(raw.try_get_u64()?);
        let under_way = (0..under_way).map(|_| raw.try_get_u64().map(Xid8)).collect::<Result<_, _>>()?;
        Ok(Snapshot { xmax, under_way })
    }

    accepts!(PG_SNAPSHOT);
}

/// A `date` on the wire: days since 2000-01-01 in four bytes.
#[derive(Debug)]
struct Days(i32);

impl ToSql for Days {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.put_i32(self.0);
        Ok(IsNull::No)
    }

    accepts!(DATE);
    to_sql_checked!();
}

impl<'a> FromSql<'a> for Days {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Days(i32::from_be_bytes(raw.try_into()?)))
    }

    accepts!(DATE);
}

/// A stack as the text of an array: `{"C#","a \"quoted\" one"}`.
#[derive(Debug)]
struct StackText<'a>(Option<&'a Stack>);

impl ToSql for StackText<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        let Some(stack) = self.0 else { return Ok(IsNull::Yes) };
        out.put_u8(b'{');
        for (position, item) in stack.items().enumerate() {
            if position > 0 {
                out.put_u8(b',');
            }
            // Quoted always: an unquoted NULL would be a null.
            out.put_u8(b'"');
            for part in item.as_bytes().split_inclusive(|byte| matches!(byte, b'"' | b'\\')) {
                match part {
                    [plain @ .., special @ (b'"' | b'\\')] => {
                        out.put_slice(plain);
                        out.put_slice(&[b'\\', *special]);
                    }
                    plain => out.put_slice(plain),
                }
            }
            out.put_u8(b'"');
        }
        out.put_u8(b'}');
        Ok(IsNull::No)
    }

    accepts!(TEXT);
    to_sql_checked!();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_read_from_the_wire() {
        let mut raw = BytesMut::new();
        raw.put_i32(2);
        for id in [7_u64, 12, 7, 9] {
            raw.put_u64(id);
        }
        let snapshot = Snapshot::from_sql(&Type::PG_SNAPSHOT, &raw).unwrap();
        assert_eq!(snapshot, Snapshot { xmax: Xid8(12), under_way: vec![Xid8(7), Xid8(9)] });
        assert!(Snapshot::from_sql(&Type::PG_SNAPSHOT, &raw[..raw.len() - 1]).is_err());
    }

    #[test]
    fn a_stack_is_quoted_as_array_text() {
        let text = |stack: Option<Vec<&str>>| {
            let mut out = BytesMut::new();
            let stack = stack.map(|items| Stack::from_items(items).unwrap());
            StackText(stack.as_ref()).to_sql(&Type::TEXT, &mut out).unwrap();
            String::from_utf8(out.to_vec()).unwrap()
        };
        assert_eq!(text(None), "");
        assert_eq!(text(Some(vec![])), "{}");
        assert_eq!(text(Some(vec!["C#", "NULL", "a,b {c}"])), r#"{"C#","NULL","a,b {c}"}"#);
        assert_eq!(text(Some(vec!["\"", "\\", "a\"b\\c"])), r#"{"\"","\\","a\"b\\c"}"#);
    }
}
