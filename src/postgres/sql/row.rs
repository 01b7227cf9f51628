//! A row of the table as a pessoa; or what is wrong with it, where somebody who may change the table took its checks away.

use std::error::Error as _;

use tokio_postgres::binary_copy::BinaryCopyOutRow;
use tokio_postgres::types::{FromSql, WrongType};
use tokio_postgres::{Error, Row};
use tracing::warn;
use uuid::Uuid;

use super::types::Days;
use crate::limits::UNFIT_ROWS_NAMED_MAX;
use crate::pessoa::{Pessoa, Record};
use crate::postgres::failure::Failure;

/// A reply's columns, of a statement or of a copy.
pub(super) trait Columns {
    /// The value of a column.
    fn value<'a, T: FromSql<'a>>(&'a self, at: usize) -> Result<T, Error>;
}

impl Columns for Row {
    fn value<'a, T: FromSql<'a>>(&'a self, at: usize) -> Result<T, Error> {
        self.try_get(at)
    }
}

impl Columns for BinaryCopyOutRow {
    fn value<'a, T: FromSql<'a>>(&'a self, at: usize) -> Result<T, Error> {
        self.try_get(at)
    }
}

/// The columns of a row, in the order in which every statement gives them.
const NAMES: [&str; 5] = ["id", "apelido", "nome", "nascimento", "stack"];

/// A row that the API cannot show: a NULL where none may be, a matrix for a stack, a day outside of the years 0001 to 9999.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::postgres) struct Unfit {
    /// Its id, if it has one.
    pub(in crate::postgres) id: Option<Uuid>,
    /// What is wrong with it.
    pub(super) why: String,
}

/// The record in the columns id, apelido, nome, nascimento and stack, of which `first` is the first.
///
/// # Errors
///
/// The columns themselves are others than were asked for, so this is no matter of one row.
pub(super) fn record(row: &impl Columns, first: usize) -> Result<Result<Record, Unfit>, Failure> {
    let mut id = None;
    match pessoa(row, first, &mut id) {
        Ok(pessoa) => Ok(Ok(Record::new(pessoa))),
        Err(Wrong::Columns(why)) => Err(why),
        Err(Wrong::Values(why)) => Ok(Err(Unfit { id, why })),
    }
}

/// What keeps a row from being a pessoa.
enum Wrong {
    Columns(Failure),
    Values(String),
}

fn pessoa(row: &impl Columns, first: usize, id: &mut Option<Uuid>) -> Result<Pessoa, Wrong> {
    let known: Uuid = value(row, first, 0)?;
    *id = Some(known);
    let Days(days) = value(row, first, 3)?;
    let stack: Option<Vec<&str>> = value(row, first, 4)?;
    Pessoa::from_columns(known, value(row, first, 1)?, value(row, first, 2)?, days, stack)
        .map_err(|unfit| Wrong::Values(unfit.to_string()))
}

fn value<'a, T: FromSql<'a>>(row: &'a impl Columns, first: usize, column: usize) -> Result<T, Wrong> {
    row.value(first + column).map_err(|error| match error.source() {
        Some(why) if !why.is::<WrongType>() => Wrong::Values(format!("`{}`: {why}", NAMES[column])),
        _ => Wrong::Columns(error.into()),
    })
}

/// The rows that a reading of the table leaves out, because they are no pessoas.
#[derive(Default)]
pub(super) struct LeftOut(usize);

impl LeftOut {
    /// Names a row, unless many were named.
    pub(super) fn add(&mut self, Unfit { id, why }: &Unfit) {
        self.0 += 1;
        if self.0 <= UNFIT_ROWS_NAMED_MAX {
            let id = id.map_or_else(|| "without an id".to_owned(), |id| id.to_string());
            warn!(id, why, "a row is no pessoa and is left out: mend it in the database");
        }
    }
}

impl Drop for LeftOut {
    fn drop(&mut self) {
        if self.0 > UNFIT_ROWS_NAMED_MAX {
            warn!(rows = self.0, "so many rows are no pessoas and are left out; the first were named");
        }
    }
}
