//! Searches that memory cannot answer: Postgres reads the whole table.

use futures_util::TryStreamExt;
use memchr::memmem;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, Statement};

use super::row::record;
use crate::limits::{SEARCH_RESULTS_MAX, SEARCH_TIME_MAX};
use crate::pessoa::{Record, SEPARATOR};
use crate::postgres::failure::Failure;
use crate::postgres::placement::Placement;
use crate::postgres::role::Role;
use crate::postgres::session::{Session, Statements};

// Any 50 will do; they are put in order afterwards. Rows that are no pessoas, which the table's checks keep out, must not
// take the place of others. An array of more than one dimension cannot be asked for its NULLs.
const SEARCH: &str = "\
    SELECT id, apelido, nome, nascimento, stack FROM {rows} \
    WHERE position($1::bytea IN search) > 0 \
      AND id IS NOT NULL AND apelido IS NOT NULL AND nome IS NOT NULL \
      AND nascimento BETWEEN '0001-01-01' AND '9999-12-31' \
      AND CASE WHEN array_ndims(stack) > 1 THEN false ELSE array_position(stack, NULL) IS NULL END \
    LIMIT $2";

// Rows that were put in by hand have no search text. It is computed here, because Postgres' lower() gives another one.
const UNLOWERED: &str = "SELECT id, apelido, nome, nascimento, stack FROM {rows} WHERE search IS NULL";

/// The statements of the connection that searches.
pub(in crate::postgres) struct Search {
    search: Statement,
    unlowered: Statement,
}

impl Statements for Search {
    const ROLE: Role = Role::Search;

    fn settings() -> String {
        format!("SET statement_timeout = {}", SEARCH_TIME_MAX.as_millis())
    }

    async fn prepare(client: &Client, here: &Placement) -> Result<Search, Error> {
        let of = |statement: &str| statement.replace("{rows}", &here.rows());
        let (search, unlowered) = (of(SEARCH), of(UNLOWERED));
        Ok(Search { search: client.prepare(&search).await?, unlowered: client.prepare(&unlowered).await? })
    }
}

impl Session<Search> {
    /// At most 50 committed rows whose search text contains `term`, ascending by id.
    pub(in crate::postgres) async fn search(&self, term: &[u8]) -> Result<Vec<Record>, Failure> {
        if term.contains(&SEPARATOR) {
            // The separator stands between two fields and in none.
            return Ok(Vec::new());
        }
        let most = i64::try_from(SEARCH_RESULTS_MAX).expect("a small number");
        let parameters: [&(dyn ToSql + Sync); 2] = [&term, &most];
        let rows = self.client().query(&self.statements().search, &parameters);
        let rows = self.within(SEARCH_TIME_MAX, rows).await?;
        let mut found: Vec<Record> = Vec::with_capacity(rows.len());
        for row in &rows {
            found.extend(record(row, 0)?.ok());
        }

        let no_parameters: [&(dyn ToSql + Sync); 0] = [];
        let rows = self.client().query_raw(&self.statements().unlowered, no_parameters);
        let mut rows = std::pin::pin!(self.within(SEARCH_TIME_MAX, rows).await?);
        let term = memmem::Finder::new(term);
        while found.len() < SEARCH_RESULTS_MAX
            && let Some(row) = self.bounded(rows.try_next()).await?
        {
            found.extend(record(&row, 0)?.ok().filter(|record| term.find(&record.search_text).is_some()));
        }
        found.sort_unstable_by_key(|record| record.pessoa.id);
        Ok(found)
    }
}
