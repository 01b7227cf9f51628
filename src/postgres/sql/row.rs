//! A row of the table as a pessoa.

use tokio_postgres::Row;
use uuid::Uuid;

use super::types::Days;
use crate::pessoa::{Pessoa, Record};
use crate::postgres::failure::Failure;

/// The record in the columns id, apelido, nome, nascimento and stack, of which `first` is the first.
pub(super) fn record_at(row: &Row, first: usize) -> Result<Record, Failure> {
    let Days(days) = row.try_get(first + 3)?;
    record(
        row.try_get(first)?,
        row.try_get(first + 1)?,
        row.try_get(first + 2)?,
        days,
        row.try_get(first + 4)?,
    )
}

/// A row as the API shows it. The table's checks keep out rows that could not be shown. A row that is no pessoa means
/// that the table has lost its checks, which is a fault and not a reason to hide the row.
pub(super) fn record(
    id: Uuid,
    apelido: &str,
    nome: &str,
    days: i32,
    stack: Option<Vec<&str>>,
) -> Result<Record, Failure> {
    let pessoa = Pessoa::from_columns(id, apelido, nome, days, stack)
        .map_err(|unfit| Failure::Lost(format!("the row {id} is no pessoa: {unfit}")))?;
    Ok(Record::new(pessoa))
}
