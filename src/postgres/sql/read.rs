//! Point reads and the count.

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

const COUNT: &str = "SELECT count(*) FROM pessoas";

/// The statements of the connection that reads rows by id and counts them.
pub(in crate::postgres) struct Read {
    fetch: Statement,
    count: Statement,
}

impl Statements for Read {
    const ROLE: Role = Role::Read;

    fn settings() -> String {
        format!("SET statement_timeout = {}", READ_TIME_MAX.as_millis())
    }

    async fn prepare(client: &Client) -> Result<Read, Error> {
        Ok(Read { fetch: client.prepare(FETCH).await?, count: client.prepare(COUNT).await? })
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

    /// The number of committed rows.
    pub(in crate::postgres) async fn count(&self) -> Result<u64, Failure> {
        // It reads the whole table.
        let row = self.within(READ_TIME_MAX, self.client().query_one(&self.statements().count, &[])).await?;
        let rows: i64 = row.try_get(0)?;
        Ok(u64::try_from(rows).expect("a count is not negative"))
    }
}
