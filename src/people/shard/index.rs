//! The search index: which pessoas contain a term. Knows pessoas by ordinal only, never by id or body.
//!
//! The index holds distinct texts, not pessoas. A pessoa has one text of its own, its apelido and nome. Stack items
//! form a dictionary: an item is one text however many pessoas list it, with the newest fifty pessoas that have it, which are as many
//! as a search may give. So a term glued from two popular items costs a look at a few items, although each of its
//! trigrams is in half of the pessoas.

use super::arena::Arena;
use super::bulk::{self, Sorter};
use super::recent::{Recent, ShortGrams};
use super::table::{Column, Slots};
use super::text::TRIGRAM;
use super::trigrams::Trigrams;
use crate::limits::SEARCH_RESULTS_MAX;
use crate::pessoa::SEPARATOR;
use ahash::RandomState;
use memchr::memmem::Finder;
use std::ops::ControlFlow;

/// Stack items that one pessoa may add to the dictionary; its other unknown items join its own text. A body has room
/// for some 12,000 items; if each were a text, a search might look at 600,000 of them to find fifty pessoas. With this
/// bound it finds any fifty matching pessoas within 50 * (32 + 1) matching texts.
const NEW_ITEMS_MAX: usize = 32;

/// Bytes of text that one search looks at before it gives up: tens of thousands of ordinary texts. Only terms made for
/// the purpose get here: all their trigrams must be in tens of thousands of texts, and the term in few of them.
const LOOKED_AT_MAX: usize = 8 * 1024 * 1024;
/// What finding a text costs beside reading it, counted as so many bytes read.
const LOOK_COST: usize = 64;

/// The search gave up.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooCostly;

struct Item {
    text: u32,
    pessoas: Recent,
}

/// The pessoas that a search found: distinct ordinals, in no order.
pub(super) struct Hits {
    ordinals: [u32; SEARCH_RESULTS_MAX],
    len: usize,
}

impl Hits {
    pub(super) fn new() -> Hits {
        Hits { ordinals: [0; SEARCH_RESULTS_MAX], len: 0 }
    }

    pub(super) fn ordinals(&self) -> &[u32] {
        &self.ordinals[..self.len]
    }

    /// Adds each once; breaks when the search has all it may give.
    pub(super) fn add(&mut self, ordinals: impl IntoIterator<Item = u32>) -> ControlFlow<()> {
        for ordinal in ordinals {
            if self.len == SEARCH_RESULTS_MAX {
                break;
            }
            if !self.ordinals().contains(&ordinal) {
                self.ordinals[self.len] = ordinal;
                self.len += 1;
            }
        }
        if self.len == SEARCH_RESULTS_MAX { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// What a bulk load has stored and not indexed by its trigrams yet.
struct Unindexed {
    /// The first pessoa whose own text is not indexed; nor is that of any pessoa after it.
    own_from: u32,
    /// The first item that is not indexed; nor is any item after it.
    items_from: u32,
    /// Bytes of all these texts, and one more for each.
    bytes: usize,
    bytes_max: usize,
    sorter: Sorter,
}

/// Term -> pessoas.
pub(super) struct Index {
    texts: Arena,
    /// By pessoa: where its own text is.
    own: Column<u32>,
    own_trigrams: Trigrams,
    items: Column<Item>,
    item_slots: Slots,
    item_trigrams: Trigrams,
    short: ShortGrams,
    hasher: RandomState,
    recent_bytes: usize,
    /// The longest field so far, in bytes: a longer term is in none.
    longest: usize,
    /// `Some` during a bulk load.
    unindexed: Option<Unindexed>,
    /// Bytes that one search may look at.
    looked_at_max: usize,
}

impl Index {
    pub(super) fn new(tables: usize, chunk_bytes: usize) -> Index {
        Index {
            texts: Arena::new(chunk_bytes),
            own: Column::new(),
            own_trigrams: Trigrams::new(tables),
            items: Column::new(),
            item_slots: Slots::new(tables),
            item_trigrams: Trigrams::new(1),
            short: ShortGrams::new(),
            hasher: RandomState::new(),
            recent_bytes: 0,
            longest: 0,
            unindexed: None,
            looked_at_max: LOOKED_AT_MAX,
        }
    }

    /// One search looks at the texts of so many indexes on its core: each has its part of what it may look at.
    pub(super) fn one_of(&mut self, indexes: usize) {
        self.looked_at_max = LOOKED_AT_MAX / indexes;
    }

    /// From now on trigrams are indexed many texts at a time, for which up to `bytes` are allocated. The index must
    /// not be searched before [`end_bulk_load`](Self::end_bulk_load).
    pub(super) fn begin_bulk_load(&mut self, bytes: usize) {
        let bytes_max = (bytes / bulk::BYTES_PER_BYTE).min(bulk::TEXTS_MAX);
        let (own_from, items_from) = (ordinal(self.own.len()), ordinal(self.items.len()));
        self.unindexed =
            Some(Unindexed { own_from, items_from, bytes: 0, bytes_max, sorter: Sorter::default() });
    }

    /// Indexes what is left; from now on a text is indexed when it is added.
    pub(super) fn end_bulk_load(&mut self) {
        self.catch_up();
        self.unindexed = None;
    }

    fn catch_up(&mut self) {
        let Some(unindexed) = &mut self.unindexed else { return };
        let Unindexed { own_from, items_from, sorter, .. } = unindexed;
        let (own_end, items_end) = (ordinal(self.own.len()), ordinal(self.items.len()));
        let own = (*own_from..own_end).map(|pessoa| text_at(&self.texts, *self.own.get(pessoa)));
        self.own_trigrams.add_sorted(*own_from, own, sorter);
        let items = (*items_from..items_end).map(|item| text_at(&self.texts, self.items.get(item).text));
        self.item_trigrams.add_sorted(*items_from, items, sorter);
        (*own_from, *items_from, unindexed.bytes) = (own_end, items_end, 0);
    }

    /// To be called before a text is stored: whether its trigrams are left for later. If they are not, no earlier text
    /// is left to be indexed either.
    fn defer(&mut self, text: &[u8]) -> bool {
        let bytes = text.len() + 1;
        if self.unindexed.as_ref().is_some_and(|unindexed| unindexed.bytes + bytes > unindexed.bytes_max) {
            self.catch_up();
        }
        let Some(unindexed) = self.unindexed.as_mut().filter(|unindexed| bytes <= unindexed.bytes_max) else {
            return false;
        };
        unindexed.bytes += bytes;
        true
    }

    /// To be called after a text that was not deferred was indexed: a bulk load goes on behind it.
    fn nothing_is_left(&mut self) {
        if let Some(unindexed) = &mut self.unindexed {
            (unindexed.own_from, unindexed.items_from) = (ordinal(self.own.len()), ordinal(self.items.len()));
        }
    }

    /// Adds the next pessoa; its ordinal is the number of pessoas before it. `None` when there is no room for its
    /// texts: the index is then incomplete.
    pub(super) fn add(&mut self, search_text: &[u8]) -> Option<()> {
        let pessoa = ordinal(self.own.len());
        let own_end = memchr::memchr_iter(SEPARATOR, search_text).nth(1).unwrap_or(search_text.len());
        let fields = search_text.split(|&byte| byte == SEPARATOR);
        self.longest = fields.map(<[u8]>::len).fold(self.longest, usize::max);

        let mut own_with_items = Vec::new();
        let mut new_items = 0;
        for item in search_text[own_end..].split(|&byte| byte == SEPARATOR).filter(|item| !item.is_empty()) {
            let hash = self.hasher.hash_one(item);
            let known = self.item_slots.find(hash, |known| self.item_text(known) == item);
            if let Some(known) = known {
                if self.items.get_mut(known).pessoas.push(pessoa, &mut self.recent_bytes) {
                    self.short.add(item, pessoa);
                }
            } else if new_items < NEW_ITEMS_MAX {
                new_items += 1;
                self.add_item(item, hash, pessoa)?;
            } else {
                if own_with_items.is_empty() {
                    own_with_items.extend_from_slice(&search_text[..own_end]);
                }
                own_with_items.push(SEPARATOR);
                own_with_items.extend_from_slice(item);
            }
        }
        let own = if own_with_items.is_empty() { &search_text[..own_end] } else { &own_with_items[..] };
        let deferred = self.defer(own);
        self.own.push(self.texts.append(own)?);
        if !deferred {
            self.own_trigrams.add(own, pessoa);
            self.nothing_is_left();
        }
        self.short.add(own, pessoa);
        Some(())
    }

    fn add_item(&mut self, text: &[u8], hash: u64, pessoa: u32) -> Option<()> {
        let deferred = self.defer(text);
        let mut pessoas = Recent::new();
        pessoas.push(pessoa, &mut self.recent_bytes);
        let item = self.items.push(Item { text: self.texts.append(text)?, pessoas });
        self.item_slots
            .insert(hash, item, |item| self.hasher.hash_one(text_at(&self.texts, self.items.get(item).text)));
        if !deferred {
            self.item_trigrams.add(text, item);
            self.nothing_is_left();
        }
        self.short.add(text, pessoa);
        Some(())
    }

    /// Adds to `hits` pessoas that contain `term`, until there are as many as a search gives.
    pub(super) fn search(&self, term: &[u8], hits: &mut Hits) -> Result<(), TooCostly> {
        debug_assert!(self.unindexed.is_none(), "the bulk load was not ended");
        if term.len() > self.longest || term.contains(&SEPARATOR) {
            return Ok(());
        }
        if term.is_empty() {
            _ = hits.add((0..ordinal(self.own.len())).rev().take(SEARCH_RESULTS_MAX));
            return Ok(());
        }
        if term.len() < TRIGRAM {
            _ = hits.add(self.short.pessoas(term).iter().copied());
            return Ok(());
        }
        let mut look =
            Look { texts: &self.texts, term, finder: None, looked_at: 0, looked_at_max: self.looked_at_max };
        let in_items = self.item_trigrams.candidates(term, |item| {
            let item = self.items.get(item);
            match look.contains(item.text) {
                Ok(false) => ControlFlow::Continue(()),
                Ok(true) => hits.add(item.pessoas.pessoas().iter().copied()).map_break(Ok),
                Err(too_costly) => ControlFlow::Break(Err(too_costly)),
            }
        });
        if let ControlFlow::Break(outcome) = in_items {
            return outcome;
        }
        let in_own =
            self.own_trigrams.candidates(term, |pessoa| match look.contains(*self.own.get(pessoa)) {
                Ok(false) => ControlFlow::Continue(()),
                Ok(true) => hits.add([pessoa]).map_break(Ok),
                Err(too_costly) => ControlFlow::Break(Err(too_costly)),
            });
        match in_own {
            ControlFlow::Break(outcome) => outcome,
            ControlFlow::Continue(()) => Ok(()),
        }
    }

    fn item_text(&self, item: u32) -> &[u8] {
        text_at(&self.texts, self.items.get(item).text)
    }

    /// Bytes of the texts.
    pub(super) fn texts_bytes(&self) -> usize {
        self.texts.bytes() + self.own.bytes()
    }

    /// Bytes of everything else.
    pub(super) fn index_bytes(&self) -> usize {
        self.own_trigrams.bytes()
            + self.items.bytes()
            + self.item_slots.bytes()
            + self.item_trigrams.bytes()
            + self.short.bytes()
            + self.recent_bytes
            + self.unindexed.as_ref().map_or(0, |unindexed| unindexed.sorter.bytes())
    }
}

fn ordinal(len: usize) -> u32 {
    u32::try_from(len).expect("memory ends before 2^32 pessoas")
}

fn text_at(texts: &Arena, address: u32) -> &[u8] {
    texts.get(address).expect("texts are dropped all at once")
}

/// Looks for the term in candidate texts, within the index' bound.
struct Look<'a> {
    texts: &'a Arena,
    term: &'a [u8],
    /// Made for the first candidate: most terms have none.
    finder: Option<Finder<'a>>,
    looked_at: usize,
    looked_at_max: usize,
}

impl Look<'_> {
    fn contains(&mut self, text: u32) -> Result<bool, TooCostly> {
        if self.term.len() == TRIGRAM {
            return Ok(true);
        }
        let text = text_at(self.texts, text);
        self.looked_at += LOOK_COST + text.len();
        if self.looked_at > self.looked_at_max {
            return Err(TooCostly);
        }
        let finder = self.finder.get_or_insert_with(|| Finder::new(self.term));
        Ok(finder.find(text).is_some())
    }
}
