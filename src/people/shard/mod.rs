//! One core's pessoas: bodies by id, known apelidos and the search index, in memory. It must know no I/O, clock,
//! lock, runtime, HTTP or SQL, and not that there are other shards.
//!
//! A shard belongs to one thread and is never deleted from. Its answers are right, and it says when it has none:
//! [`Lookup::Dropped`], [`Lookup::Unknown`] and [`NoAnswer`] all mean "ask Postgres". The parts, from the ground up:
//!
//! * `arena`, `table`: memory that grows without moving what it holds, so that no insert stops the core
//! * `text`: a text's trigrams; `bulk`: the trigrams of many texts, sorted
//! * `postings`, `trigrams`, `recent`: from bytes to the texts and pessoas that have them
//! * `index`: search; `packed`: bodies as they are kept; `pessoas`, `apelidos`: everything else
//!
//! # Memory
//!
//! Over its budget the shard gives up, in this order: the oldest bodies; the index with its texts, for good (freeing it
//! stops the core once, the longer the more pessoas there are); and at last the ids and apelidos, which then start
//! anew. What counts are the bytes allocated, used or not, without the allocator's own overhead.
//!
//! # The cost of a search
//!
//! With N pessoas here, a term of L bytes costs at most L hash lookups (none, if it is longer than every field); then
//! the intersection of at most 8 lists in each of N / 65,536 ranges; then a look at each text that is left. The search
//! ends after at most 1,650 texts that match, or with [`NoAnswer::TooCostly`] after 8 MiB of text. How it grows with N
//! was measured (perf/results/2026-11-26.md).

mod apelidos;
mod arena;
mod bulk;
mod index;
mod packed;
mod pessoas;
mod postings;
mod recent;
mod table;
mod text;
mod trigrams;

#[cfg(test)]
mod naive;
#[cfg(test)]
mod tests;

use apelidos::Apelidos;
use index::{Hits, Index};
pub use packed::Body;
use pessoas::Pessoas;
use std::ops::RangeInclusive;
use thiserror::Error;
use uuid::Uuid;

/// Bytes of one chunk of bodies, of texts and of apelidos: a part of the budget, within these limits.
const CHUNK_BYTES: RangeInclusive<usize> = 4 * 1024..=256 * 1024;
/// Chunks that fit the budget at least, unless [`CHUNK_BYTES`] makes them larger.
const CHUNKS_MIN: usize = 64;
/// Most parts of a hash table: at a million entries each part has a thousand, so its growth stops the core only
/// briefly.
const TABLES_MAX: usize = 1024;
/// Bytes of the budget for each part of a hash table.
const TABLE_PER_BYTES: usize = 256 * 1024;

/// Most bytes that a bulk load takes to sort what it indexes. With more the load is hardly cheaper.
const BULK_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of the budget for each byte that a bulk load takes to sort.
const BULK_BYTES_PER: usize = 64;

/// One core's pessoas.
pub struct Shard {
    pessoas: Pessoas,
    apelidos: Apelidos,
    /// `None` once it was dropped.
    index: Option<Index>,
    budget: usize,
    /// The index is behind: a bulk load was begun and not ended.
    loading: bool,
}

/// What the shard knows of an id.
#[derive(Debug, PartialEq, Eq)]
pub enum Lookup<'a> {
    /// The pessoa as the API renders it.
    Body(Body<'a>),
    /// The pessoa exists; its body is only in Postgres.
    Dropped,
    /// Perhaps it exists: a miss is not a 404.
    Unknown,
}

/// One result of a search; [`Shard::body`] gives its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// The pessoa's id.
    pub id: Uuid,
    /// The length of its body; 0 when that is only in Postgres.
    pub bytes: u32,
    ordinal: u32,
}

/// Memory cannot answer a search; Postgres can.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NoAnswer {
    /// A bulk load was begun and not ended: memory may not hold every pessoa yet.
    #[error("the pessoas are being loaded")]
    Loading,
    /// The index was dropped for want of memory: no search will be answered from now on.
    #[error("the search index was dropped: over the memory budget")]
    Incomplete,
    /// The term needs more work than one core may spend on one search; other terms are answered.
    #[error("the term needs more work than one search may take")]
    TooCostly,
}

/// What the shard holds; bytes as allocated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Bytes of the bodies.
    pub bodies: usize,
    /// Bytes of the search texts.
    pub texts: usize,
    /// Bytes of the search index.
    pub index: usize,
    /// Bytes of the known apelidos.
    pub apelidos: usize,
    /// Bytes of the known ids.
    pub ids: usize,
    /// The sum of the bytes above.
    pub total: usize,
    /// Known pessoas.
    pub pessoas: usize,
    /// Known pessoas whose body was dropped.
    pub bodies_dropped: usize,
    /// Whether the index is there, whole.
    pub complete: bool,
}

impl Memory {
    /// That of no shard.
    pub const NONE: Memory = Memory {
        bodies: 0,
        texts: 0,
        index: 0,
        apelidos: 0,
        ids: 0,
        total: 0,
        pessoas: 0,
        bodies_dropped: 0,
        complete: true,
    };

    /// What two shards hold together.
    #[must_use]
    pub fn and(self, other: Memory) -> Memory {
        Memory {
            bodies: self.bodies + other.bodies,
            texts: self.texts + other.texts,
            index: self.index + other.index,
            apelidos: self.apelidos + other.apelidos,
            ids: self.ids + other.ids,
            total: self.total + other.total,
            pessoas: self.pessoas + other.pessoas,
            bodies_dropped: self.bodies_dropped + other.bodies_dropped,
            complete: self.complete && other.complete,
        }
    }
}

impl Shard {
    /// An empty shard that keeps within `budget` bytes.
    pub fn new(budget: usize) -> Shard {
        let (pessoas, apelidos) = empty(budget);
        Shard {
            pessoas,
            apelidos,
            index: Some(Index::new(tables(budget), chunk_bytes(budget))),
            budget,
            loading: false,
        }
    }

    /// An empty shard for a bulk load: inserts cost less (measured: perf/results/2026-11-24.md), and no search is
    /// answered until [`end_bulk_load`](Self::end_bulk_load).
    pub fn for_bulk_load(budget: usize) -> Shard {
        let mut shard = Shard::new(budget);
        if let Some(index) = &mut shard.index {
            index.begin_bulk_load((budget / BULK_BYTES_PER).min(BULK_BYTES_MAX));
        }
        shard.loading = true;
        shard
    }

    /// The same, as one of so many shards of its core: a search looks into each.
    pub fn one_of(mut self, shards: usize) -> Shard {
        if let Some(index) = &mut self.index {
            index.one_of(shards);
        }
        self
    }

    /// Everything that was inserted can be found from now on, as far as memory allows. The call stops the core until
    /// the rest is indexed.
    pub fn end_bulk_load(&mut self) {
        self.loading = false;
        if let Some(index) = &mut self.index {
            index.end_bulk_load();
        }
        self.keep_within_budget();
    }

    /// Whether this apelido, byte for byte, was learnt. `false` proves nothing.
    pub fn knows(&self, apelido: &str) -> bool {
        self.apelidos.contains(apelido.as_bytes())
    }

    /// Remembers the apelido of a committed pessoa, as far as memory allows. Whether it was not known.
    pub fn learn(&mut self, apelido: &str) -> bool {
        let new = self.apelidos.insert(apelido.as_bytes());
        self.keep_within_budget();
        new
    }

    /// Adds a committed pessoa: its search text (lower-cased apelido, nome and stack items, with
    /// [`SEPARATOR`](crate::pessoa::SEPARATOR) between them) and its rendered body. Does nothing and gives
    /// `false` when the id is known. An id that was forgotten for want of memory counts as new.
    pub fn insert(&mut self, id: Uuid, search_text: &[u8], body: &[u8]) -> bool {
        if !self.pessoas.insert(id, body) {
            return false;
        }
        if self.index.as_mut().is_some_and(|index| index.add(search_text).is_none()) {
            self.index = None;
        }
        self.keep_within_budget();
        true
    }

    /// The pessoa with this id.
    pub fn get(&self, id: &Uuid) -> Lookup<'_> {
        match self.pessoas.find(id) {
            None => Lookup::Unknown,
            Some(ordinal) => self.pessoas.body(ordinal).map_or(Lookup::Dropped, Lookup::Body),
        }
    }

    /// Replaces `found` by the pessoas that contain `term` in one field, in ascending order of id. When more than
    /// [`SEARCH_RESULTS_MAX`](crate::limits::SEARCH_RESULTS_MAX) match, it gives that many, roughly the newest. The
    /// caller has lower-cased `term` by [`lower`](crate::pessoa::lower).
    ///
    /// # Errors
    ///
    /// Memory cannot answer; `found` is then empty.
    pub fn search(&self, term: &[u8], found: &mut Vec<Found>) -> Result<(), NoAnswer> {
        found.clear();
        if self.loading {
            return Err(NoAnswer::Loading);
        }
        let index = self.index.as_ref().ok_or(NoAnswer::Incomplete)?;
        let mut hits = Hits::new();
        index.search(term, &mut hits).map_err(|index::TooCostly| NoAnswer::TooCostly)?;
        found.extend(hits.ordinals().iter().map(|&ordinal| self.found(ordinal)));
        found.sort_unstable_by_key(|found| found.id);
        Ok(())
    }

    /// The pessoa with this id as the result of a search.
    pub fn find(&self, id: &Uuid) -> Option<Found> {
        self.pessoas.find(id).map(|ordinal| self.found(ordinal))
    }

    fn found(&self, ordinal: u32) -> Found {
        let bytes = self.pessoas.body(ordinal).map_or(0, |body| body.len());
        let bytes = u32::try_from(bytes).expect("a body is far shorter than 4 GiB");
        Found { id: self.pessoas.id(ordinal), bytes, ordinal }
    }

    /// The body of a search's result, or `None` when it is only in Postgres.
    pub fn body(&self, found: &Found) -> Option<Body<'_>> {
        let known =
            (found.ordinal as usize) < self.pessoas.len() && self.pessoas.id(found.ordinal) == found.id;
        // Once the shard has forgotten everything, an ordinal from before means another pessoa.
        if known { self.pessoas.body(found.ordinal) } else { None }
    }

    /// Known pessoas.
    pub fn len(&self) -> usize {
        self.pessoas.len()
    }

    /// Whether no pessoa is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the shard holds. Costs nothing: the numbers are kept up to date.
    pub fn memory(&self) -> Memory {
        let (texts, index) =
            self.index.as_ref().map_or((0, 0), |index| (index.texts_bytes(), index.index_bytes()));
        let (bodies, ids, apelidos) =
            (self.pessoas.bodies_bytes(), self.pessoas.ids_bytes(), self.apelidos.bytes());
        Memory {
            bodies,
            texts,
            index,
            apelidos,
            ids,
            total: bodies + texts + index + apelidos + ids,
            pessoas: self.pessoas.len(),
            bodies_dropped: self.pessoas.bodies_dropped(),
            complete: self.index.is_some(),
        }
    }

    fn keep_within_budget(&mut self) {
        while self.memory().total > self.budget {
            if self.pessoas.drop_oldest_bodies() {
                continue;
            }
            if self.index.take().is_none() {
                (self.pessoas, self.apelidos) = empty(self.budget);
                return;
            }
        }
    }
}

fn empty(budget: usize) -> (Pessoas, Apelidos) {
    let (tables, chunk_bytes) = (tables(budget), chunk_bytes(budget));
    (Pessoas::new(tables, chunk_bytes), Apelidos::new(tables, chunk_bytes))
}

fn tables(budget: usize) -> usize {
    (budget / TABLE_PER_BYTES).clamp(1, TABLES_MAX).next_power_of_two()
}

fn chunk_bytes(budget: usize) -> usize {
    (budget / CHUNKS_MIN).clamp(*CHUNK_BYTES.start(), *CHUNK_BYTES.end()).next_multiple_of(64)
}
