//! Which texts contain which three bytes. Knows texts only while they are added; it keeps ordinals.
//!
//! A term of three bytes or more can only be in a text that has every trigram of the term. Three bytes that
//! hold the separator are not kept, since no term holds it.

use super::bulk::Sorter;
use super::postings::{Postings, common};
use super::table::{Column, Slots};
use super::text::{TRIGRAM, trigrams_of};
use crate::pessoa::SEPARATOR;
use ahash::RandomState;
use std::hint::black_box;
use std::ops::ControlFlow;

/// Most lists that are intersected for one term: its rarest. This bounds the work of a long term; the texts that eight
/// lists leave are cheaper to look at than a ninth list.
const LISTS_MAX: usize = 8;

/// The trigrams of a term are looked up until one has a list as short as this, which is quickly read, and there are
/// `LISTS_ENOUGH` lists in all. To go on for a rarer trigram would cost a cache miss or two each.
const LIST_SHORT: u32 = 1024;
const LISTS_ENOUGH: usize = 4;

/// Most parts of the hash table: fewer than elsewhere, since there are tens of thousands of trigrams, not millions.
const TABLES_MAX: usize = 64;

/// Trigrams of a text whose lists are all found before the first of the lists grows (measured:
/// perf/results/2026-11-26.md).
const LOOK_AHEAD: usize = 32;

/// Trigram -> texts.
pub(super) struct Trigrams {
    slots: Slots<Slot>,
    lists: Column<Postings>,
    hasher: RandomState,
    postings_bytes: usize,
}

#[derive(Clone, Copy)]
struct Slot {
    trigram: u32,
    list: u32,
}

impl Trigrams {
    pub(super) fn new(tables: usize) -> Trigrams {
        Trigrams {
            slots: Slots::new(tables.min(TABLES_MAX)),
            lists: Column::new(),
            hasher: RandomState::new(),
            postings_bytes: 0,
        }
    }

    /// Adds a text; ordinals ascend.
    pub(super) fn add(&mut self, text: &[u8], ordinal: u32) {
        let mut trigrams = trigrams_of(text);
        let mut lists = [0; LOOK_AHEAD];
        loop {
            let mut len = 0;
            for (list, trigram) in lists.iter_mut().zip(&mut trigrams) {
                *list = self.find(trigram).unwrap_or_else(|| self.new_list(trigram));
                len += 1;
            }
            // Each list is a cache miss. Looking at all of them first lets the misses overlap; after the branches of a
            // list that grows they would come one by one.
            black_box(lists[..len].iter().map(|&list| self.lists.get(list).count()).fold(0, u32::max));
            for &list in &lists[..len] {
                self.lists.get_mut(list).add(ordinal, &mut self.postings_bytes);
            }
            if len < LOOK_AHEAD {
                return;
            }
        }
    }

    /// Adds texts whose ordinals follow one another from `first` on: the same as [`add`](Self::add) for each.
    pub(super) fn add_sorted<'a>(
        &mut self,
        first: u32,
        texts: impl Iterator<Item = &'a [u8]> + Clone,
        sorter: &mut Sorter,
    ) {
        sorter.runs(texts, |trigram, run| {
            let list = self.find(trigram).unwrap_or_else(|| self.new_list(trigram));
            let list = self.lists.get_mut(list);
            run.numbers().for_each(|number| list.add(first + number, &mut self.postings_bytes));
        });
    }

    fn new_list(&mut self, trigram: u32) -> u32 {
        let list = self.lists.push(Postings::new());
        let hasher = &self.hasher;
        let slot = Slot { trigram, list };
        self.slots.insert(hasher.hash_one(trigram), slot, |slot| hasher.hash_one(slot.trigram));
        list
    }

    fn find(&self, trigram: u32) -> Option<u32> {
        let slot = self.slots.find(self.hasher.hash_one(trigram), |slot| slot.trigram == trigram)?;
        Some(slot.list)
    }

    /// Visits, newest first, every text that may contain `term` (of at least three bytes, none the separator).
    /// When the term is one trigram, every visited text contains it.
    pub(super) fn candidates<B>(
        &self,
        term: &[u8],
        visit: impl FnMut(u32) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        debug_assert!(term.len() >= TRIGRAM && !term.contains(&SEPARATOR));
        let (mut rarest, mut len) = ([&EMPTY; LISTS_MAX], 0);
        for trigram in trigrams_of(term) {
            let Some(list) = self.find(trigram) else {
                return ControlFlow::Continue(());
            };
            len = keep_rarest(&mut rarest, len, self.lists.get(list));
            if len >= LISTS_ENOUGH && rarest[0].count() <= LIST_SHORT {
                break;
            }
        }
        common(&rarest[..len], visit)
    }

    /// Bytes allocated.
    pub(super) fn bytes(&self) -> usize {
        self.slots.bytes() + self.lists.bytes() + self.postings_bytes
    }
}

static EMPTY: Postings = Postings::new();

/// Puts `list` where it belongs among the `len` rarest so far, each list once; gives the new `len`.
fn keep_rarest<'a>(rarest: &mut [&'a Postings; LISTS_MAX], len: usize, list: &'a Postings) -> usize {
    let full = len == LISTS_MAX;
    if full && list.count() >= rarest[len - 1].count()
        || rarest[..len].iter().any(|kept| std::ptr::eq(*kept, list))
    {
        return len;
    }
    let len = if full { len } else { len + 1 };
    let mut at = len - 1;
    while at > 0 && rarest[at - 1].count() > list.count() {
        rarest[at] = rarest[at - 1];
        at -= 1;
    }
    rarest[at] = list;
    len
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(trigrams: &Trigrams, term: &str) -> Vec<u32> {
        let mut found = Vec::new();
        let end = trigrams.candidates(term.as_bytes(), |text| {
            found.push(text);
            ControlFlow::<()>::Continue(())
        });
        assert!(end.is_continue());
        found
    }

    #[test]
    fn table() {
        let mut trigrams = Trigrams::new(2);
        for (ordinal, text) in ["mysql", "sqlite\0mysqx", "aaaaaa", "ab\0c", "mysql", "é€"].iter().enumerate()
        {
            trigrams.add(text.as_bytes(), u32::try_from(ordinal).unwrap());
        }
        assert_eq!(candidates(&trigrams, "mysql"), [4, 1, 0]); // Text 1 has all the trigrams; the caller looks.
        assert_eq!(candidates(&trigrams, "mysqlite"), [1]);
        assert_eq!(candidates(&trigrams, "aaa"), [2]);
        assert_eq!(candidates(&trigrams, "aaaaaaaaaaaa"), [2]);
        assert_eq!(candidates(&trigrams, "abc"), [0; 0]);
        assert_eq!(candidates(&trigrams, "€"), [5]);
        assert_eq!(candidates(&trigrams, "mysqz"), [0; 0]);
        assert_eq!(candidates(&trigrams, "mysqlitezzzz"), [1]); // Four lists are enough.
    }

    #[test]
    fn every_trigram_is_added_however_many_there_are() {
        for count in [LOOK_AHEAD - 1, LOOK_AHEAD, LOOK_AHEAD + 1, 2 * LOOK_AHEAD, 2 * LOOK_AHEAD + 1] {
            let text: Vec<u8> = (1u8..).take(count + TRIGRAM - 1).collect();
            let mut trigrams = Trigrams::new(1);
            trigrams.add(&text, 7);
            assert_eq!(trigrams_of(&text).count(), count);
            for trigram in trigrams_of(&text) {
                let list = trigrams.find(trigram).expect("it was added");
                assert_eq!(trigrams.lists.get(list).count(), 1);
            }
        }
    }

    #[test]
    fn the_rarest_lists_are_kept_in_order_and_once() {
        let lists: Vec<Postings> = [9, 3, 7, 1, 8, 2, 6, 4, 5, 0, 3]
            .iter()
            .map(|&count| {
                let mut list = Postings::new();
                (0..count).for_each(|ordinal| list.add(ordinal, &mut 0));
                list
            })
            .collect();
        let (mut rarest, mut len) = ([&EMPTY; LISTS_MAX], 0);
        for list in lists.iter().chain(&lists) {
            len = keep_rarest(&mut rarest, len, list);
        }
        let counts: Vec<u32> = rarest[..len].iter().map(|list| list.count()).collect();
        assert_eq!(counts, [0, 1, 2, 3, 3, 4, 5, 6]);
    }
}
