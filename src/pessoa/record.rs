//! A pessoa with all that is derived from it, made once at creation. It must not know where it is kept.

use super::{Pessoa, Stack};

/// What the database stores, memory keeps and clients read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The pessoa itself.
    pub pessoa: Pessoa,
    /// The pessoa as the API shows it, in every answer.
    pub json: Box<[u8]>,
    /// What searches compare: the lower-cased fields with U+0000 between them.
    pub search_text: Box<[u8]>,
}

impl Record {
    /// Derives the JSON and the search text of `pessoa`.
    pub fn new(pessoa: Pessoa) -> Record {
        let mut json = Vec::with_capacity(512);
        pessoa.render(&mut json);
        let mut search_text = Vec::with_capacity(256);
        pessoa.search_text(&mut search_text);
        Record { pessoa, json: json.into(), search_text: search_text.into() }
    }

    /// The bytes that it takes.
    pub fn bytes(&self) -> usize {
        let Pessoa { apelido, nome, stack, .. } = &self.pessoa;
        let stack = stack.as_ref().map_or(0, Stack::bytes);
        size_of::<Record>() + apelido.len() + nome.len() + stack + self.json.len() + self.search_text.len()
    }
}
