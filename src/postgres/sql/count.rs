//! The count.

use tokio_postgres::{Client, Error, Statement};

use crate::limits::READ_TIME_MAX;
use crate::postgres::failure::Failure;
use crate::postgres::role::Role;
use crate::postgres::session::{Session, Statements};

const COUNT: &str = "SELECT count(*) FROM pessoas";

/// The statement of the connection that counts the rows.
pub(in crate::postgres) struct Count {
    count: Statement,
}

impl Statements for Count {
    const ROLE: Role = Role::Count;

    fn settings() -> String {
        // One CPU for all counts: parallel workers would take those of creates.
        format!(
            "SET statement_timeout = {}; SET max_parallel_workers_per_gather = 0",
            READ_TIME_MAX.as_millis()
        )
    }

    async fn prepare(client: &Client) -> Result<Count, Error> {
        Ok(Count { count: client.prepare(COUNT).await? })
    }
}

impl Session<Count> {
    /// The number of committed rows.
    pub(in crate::postgres) async fn count(&self) -> Result<u64, Failure> {
        // It reads the whole table.
        let row = self.within(READ_TIME_MAX, self.client().query_one(&self.statements().count, &[])).await?;
        let rows: i64 = row.try_get(0)?;
        Ok(u64::try_from(rows).expect("a count is not negative"))
    }
}
