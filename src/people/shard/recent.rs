//! The newest pessoas that have a text, or one or two bytes: at most as many as a search gives. Keeps pessoas, not
//! texts.
//!
//! Any fifty matches are a right answer and nothing is ever deleted. So a list of fifty pessoas is a complete
//! answer for good, and a shorter one is the complete set. Of more than fifty the newest are kept, roughly:
//! their bodies are the last to be dropped, and their texts the likeliest to be in the CPU's cache.

use super::table::Column;
use crate::limits::SEARCH_RESULTS_MAX;
use crate::pessoa::SEPARATOR;

/// A full list takes a new pessoa only when its newest is this many pessoas old: nearly every push is one compare.
const STRIDE: u32 = 64;

/// Up to [`SEARCH_RESULTS_MAX`] distinct pessoas.
pub(super) struct Recent {
    pessoas: Vec<u32>,
    newest: u32,
    /// Where the oldest of a full list is.
    oldest_at: u32,
}

impl Recent {
    pub(super) const fn new() -> Recent {
        Recent { pessoas: Vec::new(), newest: 0, oldest_at: 0 }
    }

    /// Offers a pessoa no older than any before; `false` when the list need not have it (or has it).
    pub(super) fn push(&mut self, pessoa: u32, bytes: &mut usize) -> bool {
        if self.pessoas.len() < SEARCH_RESULTS_MAX {
            if self.newest == pessoa && !self.pessoas.is_empty() {
                return false;
            }
            let capacity = self.pessoas.capacity();
            if self.pessoas.len() == capacity {
                self.pessoas.reserve_exact(capacity.max(1).min(SEARCH_RESULTS_MAX - capacity));
                *bytes += (self.pessoas.capacity() - capacity) * size_of::<u32>();
            }
            self.pessoas.push(pessoa);
        } else {
            if pessoa - self.newest < STRIDE {
                return false;
            }
            self.pessoas[self.oldest_at as usize] = pessoa;
            self.oldest_at += 1;
            if self.oldest_at as usize == SEARCH_RESULTS_MAX {
                self.oldest_at = 0;
            }
        }
        self.newest = pessoa;
        true
    }

    pub(super) fn pessoas(&self) -> &[u32] {
        &self.pessoas
    }

    fn is_full(&self) -> bool {
        self.pessoas.len() == SEARCH_RESULTS_MAX
    }
}

/// No list.
const NONE: u32 = u32::MAX;

/// The lists of the 256 bytes, and which of them need no offer for now.
///
/// The plain loop offers every pessoa to the list of every byte. But nearly all texts consist of bytes whose lists are
/// full, and a full list that had an offer needs no other within the same stride of pessoas: one bit says so, and saves
/// the way to the list.
struct Page {
    lists: [u32; 256],
    /// By byte: its list is full and had an offer in the stride `content_in`.
    content: [u64; 4],
    content_in: u32,
}

impl Page {
    fn new() -> Page {
        Page { lists: [NONE; 256], content: [0; 4], content_in: 0 }
    }

    #[inline]
    fn own(&mut self, byte: u8, pessoa: u32, lists: &mut Column<Recent>, bytes: &mut usize) {
        if self.content_in != pessoa / STRIDE {
            self.content_in = pessoa / STRIDE;
            self.content = [0; 4];
        }
        if self.content[usize::from(byte / 64)] & 1 << (byte % 64) == 0 {
            self.offer(byte, pessoa, lists, bytes);
        }
    }

    #[inline(never)]
    fn offer(&mut self, byte: u8, pessoa: u32, lists: &mut Column<Recent>, bytes: &mut usize) {
        let list = &mut self.lists[usize::from(byte)];
        if *list == NONE {
            *list = lists.push(Recent::new());
        }
        let list = lists.get_mut(*list);
        list.push(pessoa, bytes);
        if list.is_full() {
            self.content[usize::from(byte / 64)] |= 1 << (byte % 64);
        }
    }
}

/// Every single byte and every two bytes that occur -> the newest pessoas that have them.
pub(super) struct ShortGrams {
    singles: Box<Page>,
    /// By the first byte; the lists of a page are by the second.
    pairs: Vec<Option<Box<Page>>>,
    lists: Column<Recent>,
    bytes: usize,
}

impl ShortGrams {
    pub(super) fn new() -> ShortGrams {
        let pairs: Vec<Option<Box<Page>>> = (0..256).map(|_| None).collect();
        let bytes = size_of::<Page>() + size_of_val(&pairs[..]);
        ShortGrams { singles: Box::new(Page::new()), pairs, lists: Column::new(), bytes }
    }

    /// Says that `pessoa` has every byte and every two bytes of `text`.
    pub(super) fn add(&mut self, text: &[u8], pessoa: u32) {
        let ShortGrams { singles, pairs, lists, bytes } = self;
        let mut before = SEPARATOR;
        for &byte in text {
            if byte != SEPARATOR {
                singles.own(byte, pessoa, lists, bytes);
                if before != SEPARATOR {
                    let page = pairs[usize::from(before)].get_or_insert_with(|| {
                        *bytes += size_of::<Page>();
                        Box::new(Page::new())
                    });
                    page.own(byte, pessoa, lists, bytes);
                }
            }
            before = byte;
        }
    }

    /// The pessoas that have a term of one or two bytes.
    pub(super) fn pessoas(&self, term: &[u8]) -> &[u32] {
        let slot = match *term {
            [byte] => self.singles.lists[usize::from(byte)],
            [first, second] => match &self.pairs[usize::from(first)] {
                Some(page) => page.lists[usize::from(second)],
                None => NONE,
            },
            _ => unreachable!("one or two bytes"),
        };
        if slot == NONE { &[] } else { self.lists.get(slot).pessoas() }
    }

    /// Bytes allocated.
    pub(super) fn bytes(&self) -> usize {
        self.bytes + self.lists.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_complete_or_has_fifty_and_stays_fresh() {
        const PESSOAS: u32 = if cfg!(miri) { 4_000 } else { 100_000 };
        let (mut recent, mut bytes) = (Recent::new(), 0);
        assert!(recent.push(0, &mut bytes) && !recent.push(0, &mut bytes));
        for pessoa in 1..50 {
            assert!(recent.push(pessoa, &mut bytes) && !recent.push(pessoa, &mut bytes));
            assert_eq!(recent.pessoas(), (0..=pessoa).collect::<Vec<u32>>());
        }
        assert!(!recent.push(50, &mut bytes), "fifty are enough");
        for pessoa in 51..PESSOAS {
            recent.push(pessoa, &mut bytes);
        }
        let mut pessoas = recent.pessoas().to_vec();
        pessoas.sort_unstable();
        pessoas.dedup();
        assert_eq!(pessoas.len(), SEARCH_RESULTS_MAX);
        assert!(pessoas[0] > PESSOAS - 64 * 52);
        assert_eq!(bytes, SEARCH_RESULTS_MAX * 4);
    }

    #[test]
    fn grams_do_not_span_fields() {
        let mut grams = ShortGrams::new();
        grams.add(b"ab\0cd\0e", 1);
        grams.add("é".as_bytes(), 2);
        let check =
            |term: &str, expected: &[u32]| assert_eq!(grams.pessoas(term.as_bytes()), expected, "{term:?}");
        check("a", &[1]);
        check("ab", &[1]);
        check("cd", &[1]);
        check("bc", &[]);
        check("e", &[1]);
        check("é", &[2]);
        check("zz", &[]);
        check("\0", &[]);
        check("b\0", &[]);
    }
}
