//! Inserts, and which id holds an apelido.

use std::time::Duration;

use ahash::HashMap;
use futures_util::future::{join3, try_join, try_join_all, try_join3};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, Row, Statement};
use uuid::Uuid;

use super::types::{Days, StackText};
use crate::limits::COMMIT_LOCK_TIME_MAX;
use crate::pessoa::Record;
use crate::postgres::failure::Failure;
use crate::postgres::history::Identity;
use crate::postgres::job::Insert;
use crate::postgres::layout::{Partition, Partitions};
use crate::postgres::placement::{Engine, Placed, Placement};
use crate::postgres::role::Role;
use crate::postgres::session::{MOVED, Session, Statements};
use crate::postgres::table::{Inserted, Table};

/// True where the statement runs in its own session, which waits for its commits: a pooler in transaction mode may hand
/// it to a server session with the settings of somebody else. Evaluated once a statement.
macro_rules! own_session {
    ($token:literal) => {
        concat!(
            "current_setting('rinha.session', true) = ",
            $token,
            " AND current_setting('synchronous_commit') IN ('on', 'remote_apply')"
        )
    };
}

// `unnest` of parallel arrays makes one row of each position. A ragged array of arrays cannot travel that way,
// so each stack goes as the text of an array.
const UNNEST: &str = "unnest($1::uuid[], $2::text[], $3::text[], $4::date[], $5::text[], $6::bytea[])";
const INSERT: &str = concat!(
    "INSERT INTO {table} (id, apelido, nome, nascimento, stack, search) \
     SELECT id, apelido, nome, nascimento, stack::text[], search \
     FROM unnest($1::uuid[], $2::text[], $3::text[], $4::date[], $5::text[], $6::bytea[]) \
         AS batch (id, apelido, nome, nascimento, stack, search) \
     WHERE ",
    own_session!("$7"),
    " ON CONFLICT DO NOTHING RETURNING id, tx"
);

/// Up to so many rows go as `VALUES`, which costs the server less than `unnest` there (perf/results/2026-11-29-rates.md).
const FEW_ROWS: usize = 3;
/// The same where Citus plans the statements (perf/results/2026-11-29-partitions.md), unless there are many to prepare.
const FEW_ROWS_OF_CITUS: usize = 16;
/// So many partitions of a server are many.
const MANY_PARTITIONS: usize = 32;
/// Parameters of a row.
const COLUMNS: usize = 6;

/// The same for `rows` rows, with the parameters of one after those of the other, and last the token.
fn insert_few(rows: usize) -> String {
    INSERT
        .replace("$7", &format!("${}", rows * COLUMNS + 1))
        .replace(UNNEST, &format!("(VALUES {})", values(rows, "text")))
}

/// The same for Citus, which makes one plan for all rows only where nothing is selected. Whose session it is and where the rows
/// went is looked at afterwards ([`LOOK`]).
fn insert_few_of_citus(rows: usize) -> String {
    format!(
        "INSERT INTO {{table}} (id, apelido, nome, nascimento, stack, search) VALUES {} \
         ON CONFLICT DO NOTHING RETURNING id, tx",
        values(rows, "text::text[]")
    )
}

fn values(rows: usize, stack_type: &str) -> String {
    let row = |row: usize| {
        let [id, apelido, nome, nascimento, stack, search] =
            std::array::from_fn::<_, COLUMNS, _>(|column| row * COLUMNS + column + 1);
        format!(
            "(${id}::uuid, ${apelido}::text, ${nome}::text, ${nascimento}::date, ${stack}::{stack_type}, \
             ${search}::bytea)"
        )
    };
    (0..rows).map(row).collect::<Vec<String>>().join(", ")
}

/// Citus would send a row on to another server if its partition has moved there. The row would be stored, but not by this
/// session, whose promises are those of this server. So behind each insert it looks whether all shards are those that were here
/// when it began: a shard that left and came back is another table.
const LOOK: &str = concat!("SELECT {is_here} AND coalesce(", own_session!("$1"), ", false)");

// One row at least, which says whose session it is.
const HOLDERS: &str = concat!(
    "SELECT session.own, apelido, id FROM (SELECT coalesce(",
    own_session!("$2"),
    ", false) AS own) AS session LEFT JOIN {table} ON apelido = ANY ($1::text[])"
);

// A row that a statement saw may have been committed by a session whose wait for the standby was cut short, or whose
// commit is not flushed. This commits after that row did, so whoever confirms this one has the row too. Of the ways to
// commit without a table, a message in the log is one that waits; taking a transaction id alone does not.
const BARRIER: &str = concat!("SELECT pg_logical_emit_message(true, 'rinha', '') WHERE ", own_session!("$1"));

// In a statement of its own, so that the lock is gone at once.
const TABLE_FREE: &str = "DO $$ BEGIN LOCK TABLE {table} IN ROW EXCLUSIVE MODE NOWAIT; END $$";

// Citus lets nobody lock a shard's table as one who writes.
const TABLE_FREE_OF_CITUS: &str = "DO $$ BEGIN IF {is_held} THEN \
     RAISE EXCEPTION 'it is held' USING ERRCODE = 'lock_not_available'; END IF; END $$";

/// The statements of the connection that commits.
pub(in crate::postgres) struct Commit {
    /// For each partition that is at the server.
    tables: Vec<(Partition, TableStatements)>,
    barrier: Statement,
    /// Goes behind each insert, where the engine is Citus.
    look: Option<Statement>,
}

/// The statements of one partition's table.
struct TableStatements {
    insert: Statement,
    /// For 1 to [`FEW_ROWS`] rows.
    insert_few: Vec<Statement>,
    holders: Statement,
    /// Looks whether the table is free.
    free: String,
}

impl TableStatements {
    async fn prepare(
        client: &Client,
        placed: Placed,
        few_of_citus: usize,
    ) -> Result<(Partition, TableStatements), Error> {
        // Citus guards its moves against what is written through it; what is read here is what is here.
        let (written, read) = (placed.partition.table(), placed.table());
        let few: Vec<String> = match placed.shard {
            None => (1..=FEW_ROWS).map(|rows| of(&written, &insert_few(rows))).collect(),
            Some(_) => (1..=few_of_citus).map(|rows| of(&written, &insert_few_of_citus(rows))).collect(),
        };
        let (insert, holders) = (of(&written, INSERT), of(&read, HOLDERS));
        let (insert, insert_few, holders) = try_join3(
            client.prepare(&insert),
            try_join_all(few.iter().map(|statement| client.prepare(statement))),
            client.prepare(&holders),
        )
        .await?;
        let free = match placed.is_held() {
            None => of(&read, TABLE_FREE),
            Some(is_held) => TABLE_FREE_OF_CITUS.replace("{is_held}", &is_held),
        };
        Ok((placed.partition, TableStatements { insert, insert_few, holders, free }))
    }
}

/// The statement for this table.
fn of(table: &str, statement: &str) -> String {
    statement.replace("{table}", table)
}

impl Statements for Commit {
    const ROLE: Role = Role::Commit;

    /// `synchronous_commit` is what a 201 promises, whatever the server's default; one that promises more is left alone.
    /// No timeout cuts a commit short.
    ///
    /// Postgres would plan each batch anew, because it expects the generic plan to cost more; the generic plan was
    /// measured to cost less (perf/results/2026-11-26.md). That plan stays in use while the table grows, so it must not
    /// scan the whole table, nor be compiled because its estimated cost is high.
    fn settings() -> String {
        "SELECT set_config('synchronous_commit', 'on', false) \
         WHERE current_setting('synchronous_commit') NOT IN ('on', 'remote_apply'); \
         SET statement_timeout = 0; SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET jit = off"
            .to_owned()
    }

    async fn prepare(client: &Client, here: &Placement) -> Result<Commit, Error> {
        let many = here.iter().count() > MANY_PARTITIONS;
        let few_of_citus = if many { FEW_ROWS } else { FEW_ROWS_OF_CITUS };
        let tables = here.iter().map(|placed| TableStatements::prepare(client, placed, few_of_citus));
        let tables = try_join_all(tables).await?;
        let barrier = client.prepare(BARRIER).await?;
        let look = match here.engine() {
            Engine::Postgres => None,
            Engine::Citus => Some(client.prepare(&LOOK.replace("{is_here}", &here.is_here())).await?),
        };
        // From now on other creates wait behind a statement that meets a lock.
        let locks = format!("SET lock_timeout = {}", COMMIT_LOCK_TIME_MAX.as_millis());
        client.batch_execute(&locks).await?;
        Ok(Commit { tables, barrier, look })
    }
}

impl Session<Commit> {
    /// The partition that these rows are in, which is one.
    fn partition(&self, rows: &[Insert]) -> Partition {
        let partition = |row: &Insert| self.partitions().of_id(&row.asked.pessoa.id);
        let first = rows.first().map(partition).expect("there are rows");
        debug_assert!(rows.iter().all(|row| partition(row) == first), "one partition a statement");
        first
    }

    /// The statements for these rows.
    fn table(&self, rows: &[Insert]) -> Result<&TableStatements, Failure> {
        let partition = self.partition(rows);
        let known = self.statements().tables.iter().find(|(known, _)| *known == partition);
        known.map(|(_, table)| table).ok_or_else(|| self.lacks(partition))
    }

    async fn send(&self, table: &TableStatements, rows: &[Insert]) -> Result<Vec<Row>, Error> {
        match table.insert_few.get(rows.len() - 1) {
            Some(statement) => self.send_few(statement, rows).await,
            None if self.statements().look.is_none() => self.send_many(&table.insert, rows).await,
            None => Box::pin(self.send_many_to_citus(&table.insert, rows)).await,
        }
    }

    /// Citus has no plan for all questions with an INSERT .. SELECT.
    async fn send_many_to_citus(&self, statement: &Statement, rows: &[Insert]) -> Result<Vec<Row>, Error> {
        // All three are sent at once.
        let each = self.client().batch_execute("SET plan_cache_mode = force_custom_plan");
        let one = self.client().batch_execute("SET plan_cache_mode = force_generic_plan");
        let (set, inserted, reset) = join3(each, self.send_many(statement, rows), one).await;
        set.and(reset)?;
        inserted
    }

    /// Inserts at Citus; fails unless all of it stayed here.
    async fn insert_and_look(
        &self,
        table: &TableStatements,
        rows: &[Insert],
        look: &Statement,
    ) -> Result<Inserted, Failure> {
        let token: [&(dyn ToSql + Sync); 1] = [&self.token()];
        // Both are sent at once, in this order.
        let looked = self.client().query_one(look, &token);
        let (rows, looked) = self.patiently(try_join(self.send(table, rows), looked)).await?;
        match looked.try_get(0)? {
            true => Ok(inserted(&rows)?),
            false => Err(Failure::Lost(MOVED.to_owned())),
        }
    }

    async fn send_few<'a>(&self, statement: &Statement, rows: &'a [Insert]) -> Result<Vec<Row>, Error> {
        let derived = |row: &'a Insert| {
            let Record { pessoa, search_text, .. } = &*row.asked;
            let birth = Days(pessoa.nascimento.days_since_2000());
            (pessoa, birth, StackText(pessoa.stack.as_ref()), &**search_text)
        };
        let rows: Vec<_> = rows.iter().map(derived).collect();
        let token = self.token();
        let mut parameters: Vec<&(dyn ToSql + Sync)> = Vec::with_capacity(rows.len() * COLUMNS + 1);
        for (pessoa, birth, stack, search) in &rows {
            let row: [&(dyn ToSql + Sync); COLUMNS] =
                [&pessoa.id, &pessoa.apelido, &pessoa.nome, birth, stack, search];
            parameters.extend(row);
        }
        if self.statements().look.is_none() {
            parameters.push(&token);
        }
        self.client().query(statement, &parameters).await
    }

    async fn send_many(&self, statement: &Statement, rows: &[Insert]) -> Result<Vec<Row>, Error> {
        let pessoas = || rows.iter().map(|row| &row.asked.pessoa);
        let ids: Vec<Uuid> = pessoas().map(|pessoa| pessoa.id).collect();
        let apelidos: Vec<&str> = pessoas().map(|pessoa| &*pessoa.apelido).collect();
        let nomes: Vec<&str> = pessoas().map(|pessoa| &*pessoa.nome).collect();
        let nascimentos: Vec<Days> =
            pessoas().map(|pessoa| Days(pessoa.nascimento.days_since_2000())).collect();
        let stacks: Vec<StackText<'_>> = pessoas().map(|pessoa| StackText(pessoa.stack.as_ref())).collect();
        let searches: Vec<&[u8]> = rows.iter().map(|row| &*row.asked.search_text).collect();
        let columns: [&(dyn ToSql + Sync); 7] =
            [&ids, &apelidos, &nomes, &nascimentos, &stacks, &searches, &self.token()];
        self.client().query(statement, &columns).await
    }
}

impl Table for Session<Commit> {
    fn partitions(&self) -> Partitions {
        Session::partitions(self)
    }

    fn identity(&self) -> Identity {
        Session::identity(self)
    }

    fn take_warning(&self) -> Option<String> {
        self.incoming().take_warning()
    }

    async fn insert(&self, rows: &[Insert]) -> Result<Inserted, Failure> {
        let table = self.table(rows)?;
        match &self.statements().look {
            None => Ok(inserted(&self.patiently(self.send(table, rows)).await?)?),
            Some(look) => Box::pin(self.insert_and_look(table, rows, look)).await,
        }
    }

    async fn holders(&self, rows: &[Insert]) -> Result<HashMap<Box<str>, Uuid>, Failure> {
        let apelidos: Vec<&str> = rows.iter().map(|row| &*row.asked.pessoa.apelido).collect();
        let columns: [&(dyn ToSql + Sync); 2] = [&apelidos, &self.token()];
        // Both are sent at once, in this order.
        let holders = self.client().query(&self.table(rows)?.holders, &columns);
        let (holders, ()) = try_join(self.patiently(holders), self.barrier()).await?;
        holders
            .iter()
            .filter_map(|row| match (row.try_get(0), row.try_get::<_, Option<&str>>(1)) {
                (Ok(false), _) => Some(Err(Failure::Lost(NOT_ITS_OWN.to_owned()))),
                (Ok(true), Ok(None)) => None,
                (Ok(true), Ok(Some(apelido))) => {
                    Some(row.try_get(2).map(|id| (apelido.into(), id)).map_err(Failure::from))
                }
                (Err(error), _) | (_, Err(error)) => Some(Err(error.into())),
            })
            .collect()
    }

    async fn barrier(&self) -> Result<(), Failure> {
        let token: [&(dyn ToSql + Sync); 1] = [&self.token()];
        let passed = self.client().query_opt(&self.statements().barrier, &token);
        if self.patiently(passed).await?.is_none() {
            return Err(Failure::Lost(NOT_ITS_OWN.to_owned()));
        }
        match self.take_warning() {
            None => Ok(()),
            Some(warning) => Err(Failure::Lost(format!("the wait for the standby was cut short: {warning}"))),
        }
    }

    async fn wait_for_locks(&self, time_max: Duration) -> Result<(), Failure> {
        let set = format!("SET lock_timeout = {}", time_max.as_millis());
        self.bounded(self.client().batch_execute(&set)).await
    }

    async fn table_is_free(&self, rows: &[Insert]) -> Result<bool, Failure> {
        match self.bounded(self.client().batch_execute(&self.table(rows)?.free)).await {
            Ok(()) => Ok(true),
            Err(failure) if failure.undone() == Some(SqlState::LOCK_NOT_AVAILABLE.code()) => Ok(false),
            Err(failure) => Err(failure),
        }
    }
}

fn inserted(rows: &[Row]) -> Result<Inserted, Error> {
    Ok(Inserted {
        ids: rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?,
        tx: rows.first().map(|row| row.try_get(1)).transpose()?,
    })
}

/// Why a statement was not done: the server session that ran it is somebody else's.
const NOT_ITS_OWN: &str = "the statement ran in another server session, or with synchronous_commit weaker than on: \
                           expected a session of its own (a connection pooler must be in session mode)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_rows_are_the_values_of_the_same_statement() {
        let two = insert_few(2);
        let values = "(VALUES ($1::uuid, $2::text, $3::text, $4::date, $5::text, $6::bytea), \
                      ($7::uuid, $8::text, $9::text, $10::date, $11::text, $12::bytea))";
        assert!(two.contains(values), "{two}");
        assert!(two.contains("'rinha.session', true) = $13 AND"), "{two}");
        assert!(of(&Partitions::ONE.of_home(9).table(), &two).starts_with("INSERT INTO pessoas ("), "{two}");
        assert!(INSERT.contains(UNNEST) && INSERT.contains(" = $7 AND") && !two.contains("unnest"), "{two}");
    }
}
