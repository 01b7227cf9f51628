//! Point reads.

use ahash::HashMap;
use tokio_postgres::{Client, Error, Statement};
use uuid::Uuid;

use super::row::record;
use crate::limits::READ_TIME_MAX;
use crate::pessoa::Record;
use crate::postgres::failure::Failure;
use crate::postgres::role::Role;
use crate::postgres::session::{Session, Statements};

const FETCH: &str = "SELECT id, apelido, nome, nascimento, stack FROM pessoas WHERE id = ANY ($1::uuid[])";

/// The statement of the connection that reads rows by id.
pub(in crate::postgres) struct Read {
    fetch: Statement,
}

impl Statements for Read {
    const ROLE: Role = Role::Read;

    /// Postgres would plan each question anew, because it expects the generic plan to cost more; it was measured to cost
    /// less (perf/results/2026-11-29-rates.md). That plan stays in use while the table grows, so it must not scan the whole table.
    fn settings() -> String {
        let plans = "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET jit = off";
        format!("SET statement_timeout = {}; {plans}", READ_TIME_MAX.as_millis())
    }

    async fn prepare(client: &Client) -> Result<Read, Error> {
        Ok(Read { fetch: client.prepare(FETCH).await? })
    }
}

impl Session<Read> {
    /// The committed rows with these ids; `None` for one that is no pessoa.
    pub(in crate::postgres) async fn fetch(
        &self,
        ids: &[Uuid],
    ) -> Result<HashMap<Uuid, Option<Box<Record>>>, Failure> {
        let rows = self.bounded(self.client().query(&self.statements().fetch, &[&ids])).await?;
        rows.iter()
            .map(|row| {
                Ok(match record(row, 0)? {
                    Ok(record) => (record.pessoa.id, Some(Box::new(record))),
                    Err(unfit) => (unfit.id.expect("it was found by its id"), None),
                })
            })
            .collect()
    }
}
