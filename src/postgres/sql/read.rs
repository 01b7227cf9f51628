//! Point reads.

use ahash::HashMap;
use futures_util::future::try_join_all;
use tokio_postgres::{Client, Error, Statement};
use uuid::Uuid;

use super::row::record;
use crate::limits::READ_TIME_MAX;
use crate::pessoa::Record;
use crate::postgres::failure::Failure;
use crate::postgres::layout::Partition;
use crate::postgres::placement::Placement;
use crate::postgres::role::Role;
use crate::postgres::session::{Session, Statements};

const FETCH: &str = "SELECT id, apelido, nome, nascimento, stack FROM {table} WHERE id = ANY ($1::uuid[])";

/// The statements of the connection that reads rows by id.
pub(in crate::postgres) struct Read {
    /// For each partition that is at the server.
    fetch: Vec<(Partition, Statement)>,
}

impl Statements for Read {
    const ROLE: Role = Role::Read;

    /// Postgres would plan each question anew, because it expects the generic plan to cost more; it was measured to cost
    /// less (perf/results/2026-11-29-rates.md). That plan stays in use while the table grows, so it must not scan the whole table.
    fn settings() -> String {
        let plans = "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET jit = off";
        format!("SET statement_timeout = {}; {plans}", READ_TIME_MAX.as_millis())
    }

    async fn prepare(client: &Client, here: &Placement) -> Result<Read, Error> {
        let fetch = here.iter().map(async |placed| {
            let statement = FETCH.replace("{table}", &placed.table());
            Ok::<_, Error>((placed.partition, client.prepare(&statement).await?))
        });
        Ok(Read { fetch: try_join_all(fetch).await? })
    }
}

impl Session<Read> {
    /// The committed rows with these ids, of the partitions that are here; `None` for one that is no pessoa.
    pub(in crate::postgres) async fn fetch(
        &self,
        ids: &[Uuid],
    ) -> Result<HashMap<Uuid, Option<Box<Record>>>, Failure> {
        // All are sent at once.
        let parts = self.partitions().group(ids.iter().copied(), |id| id).into_iter().map(
            async |(partition, ids)| match self
                .statements()
                .fetch
                .iter()
                .find(|(known, _)| *known == partition)
            {
                Some((_, statement)) => self.bounded(self.client().query(statement, &[&ids])).await,
                None => Ok(Vec::new()),
            },
        );
        let parts = try_join_all(parts).await?;
        parts
            .iter()
            .flatten()
            .map(|row| {
                Ok(match record(row, 0)? {
                    Ok(record) => (record.pessoa.id, Some(Box::new(record))),
                    Err(unfit) => (unfit.id.expect("it was found by its id"), None),
                })
            })
            .collect()
    }
}
