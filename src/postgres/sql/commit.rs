//! Inserts, and which id holds an apelido.

use ahash::{HashMap, HashSet};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, Statement};
use uuid::Uuid;

use super::types::{Days, StackText, Xid8};
use crate::postgres::failure::Failure;
use crate::postgres::job::Insert;
use crate::postgres::role::Role;
use crate::postgres::session::{Session, Statements};

// `unnest` of parallel arrays makes one row of each position. A ragged array of arrays cannot travel that way,
// so each stack goes as the text of an array.
const INSERT: &str = "\
    INSERT INTO pessoas (id, apelido, nome, nascimento, stack, search) \
    SELECT id, apelido, nome, nascimento, stack::text[], search \
    FROM unnest($1::uuid[], $2::text[], $3::text[], $4::date[], $5::text[], $6::bytea[]) \
        AS batch (id, apelido, nome, nascimento, stack, search) \
    ON CONFLICT DO NOTHING RETURNING id, tx";

const HOLDERS: &str = "SELECT apelido, id FROM pessoas WHERE apelido = ANY ($1::text[])";

/// The statements of the connection that commits.
pub(in crate::postgres) struct Commit {
    insert: Statement,
    holders: Statement,
}

impl Statements for Commit {
    const ROLE: Role = Role::Commit;

    /// `synchronous_commit` is what a 201 promises, whatever the server's default. No timeout cuts a commit short.
    ///
    /// Postgres would plan each batch anew, because it expects the generic plan to cost more; the generic plan was
    /// measured to cost less (perf/results/2026-11-26.md). That plan stays in use while the table grows, so it must not
    /// scan the whole table, nor be compiled because its estimated cost is high.
    ///
    /// Without `client_connection_check_interval` (Postgres 14 and later), a backend that waits for a lock would keep
    /// its connection after its client gave up.
    fn settings() -> String {
        "SET synchronous_commit = on; SET statement_timeout = 0; SET lock_timeout = 0; \
         SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET jit = off; \
         SELECT set_config(name, '2000', false) FROM pg_settings \
         WHERE name = 'client_connection_check_interval'"
            .to_owned()
    }

    async fn prepare(client: &Client) -> Result<Commit, Error> {
        Ok(Commit { insert: client.prepare(INSERT).await?, holders: client.prepare(HOLDERS).await? })
    }
}

/// What one insert committed.
pub(in crate::postgres) struct Inserted {
    pub(in crate::postgres) ids: HashSet<Uuid>,
    /// The insert's transaction; `None` when it inserted nothing.
    pub(in crate::postgres) tx: Option<Xid8>,
}

impl Session<Commit> {
    /// Inserts the rows; those whose ids are returned are now committed.
    pub(in crate::postgres) async fn insert(&self, rows: &[Insert]) -> Result<Inserted, Failure> {
        let pessoas = || rows.iter().map(|row| &row.asked.pessoa);
        let ids: Vec<Uuid> = pessoas().map(|pessoa| pessoa.id).collect();
        let apelidos: Vec<&str> = pessoas().map(|pessoa| &*pessoa.apelido).collect();
        let nomes: Vec<&str> = pessoas().map(|pessoa| &*pessoa.nome).collect();
        let nascimentos: Vec<Days> =
            pessoas().map(|pessoa| Days(pessoa.nascimento.days_since_2000())).collect();
        let stacks: Vec<StackText<'_>> = pessoas().map(|pessoa| StackText(pessoa.stack.as_ref())).collect();
        let searches: Vec<&[u8]> = rows.iter().map(|row| &*row.asked.search_text).collect();
        let columns: [&(dyn ToSql + Sync); 6] = [&ids, &apelidos, &nomes, &nascimentos, &stacks, &searches];
        let inserted = self.bounded(self.client().query(&self.statements().insert, &columns)).await?;
        Ok(Inserted {
            ids: inserted.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?,
            tx: inserted.first().map(|row| row.try_get(1)).transpose()?,
        })
    }

    /// Which id owns each of the rows' apelidos.
    pub(in crate::postgres) async fn holders(
        &self,
        rows: &[Insert],
    ) -> Result<HashMap<Box<str>, Uuid>, Failure> {
        let apelidos: Vec<&str> = rows.iter().map(|row| &*row.asked.pessoa.apelido).collect();
        let holders = self.bounded(self.client().query(&self.statements().holders, &[&apelidos])).await?;
        holders.iter().map(|row| Ok((row.try_get::<_, &str>(0)?.into(), row.try_get(1)?))).collect()
    }
}
