//! Every statement, and how rows travel to and from them. It knows the table and nothing of tickets.

use std::error::Error;

use ahash::{HashMap, HashSet};
use bytes::{BufMut, BytesMut};
use futures_util::{TryStreamExt, pin_mut};
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked};
use tokio_postgres::{Client, Row, SimpleQueryMessage, Statement};
use uuid::Uuid;

use super::commit::Pending;
use super::session::{Failure, Session};
use super::thread::Outbox;
use super::{Reply, Role};
use crate::limits::{SEARCH_RESULTS_MAX, SEARCH_TIME_MAX};
use crate::pessoa::{Pessoa, Record, Stack};

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
    ON CONFLICT DO NOTHING RETURNING id";

const OWNERS: &str = "SELECT apelido, id FROM pessoas WHERE apelido = ANY ($1::text[])";

const FETCH: &str = "SELECT id, apelido, nome, nascimento, stack FROM pessoas WHERE id = ANY ($1::uuid[])";

const LOAD: &str = "SELECT id, apelido, nome, nascimento, stack FROM pessoas";

// Any 50 will do; they are put in order afterwards.
const SEARCH: &str = "\
    SELECT * FROM (SELECT id, apelido, nome, nascimento, stack FROM pessoas \
                   WHERE position($1::bytea IN search) > 0 LIMIT $2) AS found \
    ORDER BY id";

const COUNT: &str = "SELECT count(*) FROM pessoas";

/// What a session says of itself first. `synchronous_commit` is what a 201 promises, whatever the server's
/// default; a commit is never cut short by a timeout, a read is.
pub(super) fn session_settings(role: Role) -> String {
    let limits = match role {
        Role::Commit => {
            "SET synchronous_commit = on; SET statement_timeout = 0; SET lock_timeout = 0".to_owned()
        }
        // Loading is a read too, and takes as long as it takes; a row that never comes is noticed by the reader.
        Role::Read => "SET statement_timeout = 0".to_owned(),
        Role::Search => format!("SET statement_timeout = {}", SEARCH_TIME_MAX.as_millis()),
    };
    format!("{limits}; SET application_name = 'rinha {}'", role.name())
}

/// The statements of one session, prepared.
pub(super) struct Statements {
    insert: Statement,
    owners: Statement,
    fetch: Statement,
    load: Statement,
    count: Statement,
    search: Statement,
}

impl Statements {
    pub(super) async fn prepare(client: &Client) -> Result<Statements, tokio_postgres::Error> {
        Ok(Statements {
            insert: client.prepare(INSERT).await?,
            owners: client.prepare(OWNERS).await?,
            fetch: client.prepare(FETCH).await?,
            load: client.prepare(LOAD).await?,
            count: client.prepare(COUNT).await?,
            search: client.prepare(SEARCH).await?,
        })
    }
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
            "SET lock_timeout = 0; SET client_min_messages = warning; SELECT pg_advisory_lock({SCHEMA_LOCK})"
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

/// Inserts the rows and returns the ids of those that are now committed.
pub(super) async fn insert(session: &Session, rows: &[Pending]) -> Result<HashSet<Uuid>, Failure> {
    let pessoas = || rows.iter().map(|row| &row.record().pessoa);
    let ids: Vec<Uuid> = pessoas().map(|pessoa| pessoa.id).collect();
    let apelidos: Vec<&str> = pessoas().map(|pessoa| &*pessoa.apelido).collect();
    let nomes: Vec<&str> = pessoas().map(|pessoa| &*pessoa.nome).collect();
    let nascimentos: Vec<Days> = pessoas().map(|pessoa| Days(pessoa.nascimento.days_since_2000())).collect();
    let stacks: Vec<StackText<'_>> = pessoas().map(|pessoa| StackText(pessoa.stack.as_ref())).collect();
    let searches: Vec<&[u8]> = rows.iter().map(|row| &*row.record().search_text).collect();
    let columns: [&(dyn ToSql + Sync); 6] = [&ids, &apelidos, &nomes, &nascimentos, &stacks, &searches];
    let inserted = session.bounded(session.client().query(&session.statements().insert, &columns)).await?;
    inserted.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// Which id owns each of the rows' apelidos.
pub(super) async fn owners(session: &Session, rows: &[Pending]) -> Result<HashMap<Box<str>, Uuid>, Failure> {
    let apelidos: Vec<&str> = rows.iter().map(|row| &*row.record().pessoa.apelido).collect();
    let owners = session.bounded(session.client().query(&session.statements().owners, &[&apelidos])).await?;
    owners.iter().map(|row| Ok((row.try_get::<_, &str>(0)?.into(), row.try_get(1)?))).collect()
}

/// The committed rows with these ids.
pub(super) async fn fetch(session: &Session, ids: &[Uuid]) -> Result<HashMap<Uuid, Box<Record>>, Failure> {
    let rows = session.bounded(session.client().query(&session.statements().fetch, &[&ids])).await?;
    rows.iter()
        .map(|row| {
            let record = record(row)?;
            Ok((record.pessoa.id, Box::new(record)))
        })
        .collect()
}

/// Streams every committed row to the core.
pub(super) async fn load(session: &Session, outbox: &Outbox) -> Result<(), Failure> {
    let no_parameters: [&(dyn ToSql + Sync); 0] = [];
    let rows = session.client().query_raw(&session.statements().load, no_parameters);
    let rows = session.bounded(rows).await?;
    pin_mut!(rows);
    while let Some(row) = session.bounded(rows.try_next()).await? {
        outbox.push_loaded(Reply::Loaded { record: Box::new(record(&row)?) }).await;
    }
    Ok(())
}

/// At most 50 committed rows whose search text contains `term`, ascending by id.
pub(super) async fn search(session: &Session, term: &[u8]) -> Result<Vec<Record>, Failure> {
    let most = i64::try_from(SEARCH_RESULTS_MAX).expect("a small number");
    let parameters: [&(dyn ToSql + Sync); 2] = [&term, &most];
    let rows = session.bounded(session.client().query(&session.statements().search, &parameters)).await?;
    rows.iter().map(record).collect()
}

/// The number of committed rows.
pub(super) async fn count(session: &Session) -> Result<u64, Failure> {
    let row = session.bounded(session.client().query_one(&session.statements().count, &[])).await?;
    let rows: i64 = row.try_get(0)?;
    Ok(u64::try_from(rows).expect("a count is not negative"))
}

/// A row as the API shows it. The table's checks keep out what could not be shown; a table that lost them is a
/// fault, not a reason to hide a row.
fn record(row: &Row) -> Result<Record, Failure> {
    let id: Uuid = row.try_get(0)?;
    let Days(days) = row.try_get(3)?;
    let stack: Option<Vec<&str>> = row.try_get(4)?;
    let pessoa = Pessoa::from_columns(id, row.try_get(1)?, row.try_get(2)?, days, stack)
        .map_err(|unfit| Failure::Lost(format!("the row {id} is no pessoa: {unfit}")))?;
    Ok(Record::new(pessoa))
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
