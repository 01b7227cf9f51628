//! The count.

use std::cell::Cell;
use std::time::Duration;

use tokio_postgres::{Client, Error, SimpleQueryMessage};

use crate::limits::{COUNT_PART_ROWS, READ_TIME_MAX};
use crate::postgres::failure::Failure;
use crate::postgres::placement::Placement;
use crate::postgres::role::Role;
use crate::postgres::session::{Session, Statements};

/// The session of counts. A cursor shows the rows of one moment, however long it is read; to move it counts rows on the
/// server, and sends none.
pub(in crate::postgres) struct Count {
    /// What it reads from.
    rows: String,
    /// How long the last count kept the database busy.
    pub(in crate::postgres) busy: Cell<Duration>,
}

impl Statements for Count {
    const ROLE: Role = Role::Count;

    fn settings() -> String {
        // All rows are wanted, not the first ones soon.
        format!("SET statement_timeout = {}; SET cursor_tuple_fraction = 1.0", READ_TIME_MAX.as_millis())
    }

    async fn prepare(_: &Client, here: &Placement) -> Result<Count, Error> {
        Ok(Count { rows: here.rows(), busy: Cell::default() })
    }
}

impl Session<Count> {
    /// Begins a count, and counts the first [`COUNT_PART_ROWS`] committed rows, or as many as there are.
    pub(in crate::postgres) async fn count_first(&self) -> Result<u64, Failure> {
        let begin = format!(
            "BEGIN; DECLARE count_of_pessoas NO SCROLL CURSOR FOR SELECT FROM {}",
            self.statements().rows
        );
        self.moved(&format!("{begin}; {}", more())).await
    }

    /// Counts the next rows that the first part's moment showed.
    pub(in crate::postgres) async fn count_more(&self) -> Result<u64, Failure> {
        self.moved(&more()).await
    }

    /// Ends the count, also one that failed: there is nothing to keep.
    pub(in crate::postgres) async fn end_count(&self) -> Result<(), Failure> {
        self.within(READ_TIME_MAX, self.client().batch_execute("COMMIT")).await
    }

    async fn moved(&self, statements: &str) -> Result<u64, Failure> {
        let messages = self.within(READ_TIME_MAX, self.client().simple_query(statements)).await?;
        let last = messages.iter().rev().find_map(|message| match message {
            SimpleQueryMessage::CommandComplete(rows) => Some(*rows),
            _ => None,
        });
        last.ok_or_else(|| Failure::Lost("expected to be told how many rows there are".to_owned()))
    }
}

fn more() -> String {
    format!("MOVE FORWARD {COUNT_PART_ROWS} IN count_of_pessoas")
}
