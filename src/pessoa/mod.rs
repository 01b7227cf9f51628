//! A person as the API takes, keeps and shows one: JSON, the rules, rendering. It knows the limits and never HTTP, SQL
//! or the runtime.
//!
//! A body becomes a [`Candidate`] in [`decode()`], borrowed from the request; with an id it is a [`Pessoa`], which
//! owns its text and may leave the core. A row of the database becomes a `Pessoa` through [`Pessoa::from_columns`].
//!
//! What the contract leaves open is decided here:
//! - *Unknown members* are ignored once they are JSON: their types and U+0000 in them break no rule, because nothing
//!   of them is stored. Their names count as members of the body, so a name that comes twice makes the body malformed.
//!   Names inside ignored values are not members of the body and may repeat.
//! - *Names* are compared after their escapes are undone: `"\u0061pelido"` is `apelido`.
//! - *A byte order mark* is malformed: RFC 8259 forbids to send one.
//! - *Of several broken rules* the first in the body is reported, a missing member last.

mod birth_date;
mod decode;
mod grammar;
mod home;
mod lower;
#[cfg(test)]
mod oracle;
mod record;
mod refusal;
mod render;
mod stack;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use uuid::Uuid;

pub use birth_date::{BirthDate, NotADate};
pub use decode::decode;
pub use home::{HOME_BYTE, home_of_apelido, home_of_id};
pub use lower::lower;
pub use record::Record;
pub use refusal::{Place, Reason, Refusal};
pub use render::SEPARATOR;
pub use stack::Stack;

/// A body that keeps every rule of the API but uniqueness, borrowed from the request where no escape forces a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate<'a> {
    /// 1 to `APELIDO_CHARS_MAX` Unicode scalar values, none of them U+0000.
    pub apelido: Cow<'a, str>,
    /// 1 to `NOME_CHARS_MAX` Unicode scalar values, none of them U+0000.
    pub nome: Cow<'a, str>,
    /// A real day.
    pub nascimento: BirthDate,
    /// `None` when absent or `null`; each item has 1 to `STACK_ITEM_CHARS_MAX` Unicode scalar values, none of them
    /// U+0000.
    pub stack: Option<Vec<Cow<'a, str>>>,
}

impl Candidate<'_> {
    /// The candidate with its id, detached from the request.
    pub fn into_pessoa(self, id: Uuid) -> Pessoa {
        let stack =
            self.stack.map(|items| Stack::from_items(items).expect("no item of a candidate holds U+0000"));
        Pessoa {
            id,
            apelido: self.apelido.into(),
            nome: self.nome.into(),
            nascimento: self.nascimento,
            stack,
        }
    }
}

/// A person with an id: what is committed, cached and shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pessoa {
    /// Shown in lower case with hyphens.
    pub id: Uuid,
    /// Unique among the committed pessoas, compared byte for byte.
    pub apelido: Box<str>,
    /// As it was sent.
    pub nome: Box<str>,
    /// A real day.
    pub nascimento: BirthDate,
    /// `None` is shown as `null`; an empty one as `[]`.
    pub stack: Option<Stack>,
}

/// A row that cannot be shown as a pessoa.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnfitRow {
    /// `infinity`, or a day outside of the years 0001 to 9999.
    #[error("`nascimento` is not a day of the years 0001 to 9999: {0} days after 2000-01-01")]
    BirthDate(i32),
    /// U+0000 in a text: it would split a field of the search text or an item of `stack`. Postgres' own text cannot
    /// hold it.
    #[error("a text holds U+0000")]
    Nul,
}

impl Pessoa {
    /// The same person under another id.
    pub fn with_id(self, id: Uuid) -> Pessoa {
        Pessoa { id, ..self }
    }

    /// Makes a pessoa of a row of the database, whoever wrote it; `days` is Postgres' date, counted from 2000-01-01.
    ///
    /// Only a row that cannot be rendered or searched is refused. A row that breaks another rule of the API (an empty
    /// `nome`, an `apelido` of a thousand characters) was put there by somebody who may write to the table, and is
    /// shown as it is.
    pub fn from_columns<I>(
        id: Uuid,
        apelido: &str,
        nome: &str,
        days: i32,
        stack: Option<I>,
    ) -> Result<Pessoa, UnfitRow>
    where
        I: IntoIterator<Item: AsRef<str>>,
    {
        if [apelido, nome].iter().any(|text| memchr::memchr(0, text.as_bytes()).is_some()) {
            return Err(UnfitRow::Nul);
        }
        let nascimento = BirthDate::from_days_since_2000(days).ok_or(UnfitRow::BirthDate(days))?;
        let stack = stack.map(|items| Stack::from_items(items).ok_or(UnfitRow::Nul)).transpose()?;
        Ok(Pessoa { id, apelido: apelido.into(), nome: nome.into(), nascimento, stack })
    }
}
