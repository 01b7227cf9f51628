//! A set of ordinals that only grows at its end, made to be intersected. Knows nothing of texts.
//!
//! Ordinals are grouped by their upper 16 bits; each group is a range. Within a range the lower halves are a sorted
//! array while they are few (2 bytes each), else a bitmap (8 KiB): the idea of Roaring bitmaps. So a posting costs
//! about two bytes, and intersecting with a trigram that is in every text costs at most a pass over one bit per text.
//! All arrays of a set lie in one piece, which is read from end to end. The newest few ordinals stand in the set's
//! head, so that adding one touches a single cache line unless the head is full.

use std::ops::ControlFlow;

#[cfg(test)]
mod tests;

/// Ordinals of one range.
const RANGE_BITS: u32 = 16;
const WORDS: usize = (1 << RANGE_BITS) / 64;
/// The longest array: as large as the bitmap.
const SPARSE_MAX: usize = WORDS * 8 / size_of::<u16>();
/// An array more than this many times longer than the candidates is searched for each of them, not read whole.
const SEARCH_RATIO: usize = 16;
/// At this few candidates the caller's look at each is cheaper than one more list.
const CANDIDATES_FEW: usize = 4;
/// Ordinals in the head of a set, which with them fills one cache line (measured: perf/results/2026-11-26.md).
const NEWEST: usize = 24;

/// A growing set of ordinals.
#[repr(align(64))]
pub(super) struct Postings {
    count: u32,
    /// The range of `newest`.
    upper: u16,
    newest_len: u8,
    /// The open range is a bitmap: ordinals go there at once, and `newest` is empty.
    dense: bool,
    newest: [u16; NEWEST],
    older: Option<Box<Older>>,
}

/// All but the newest ordinals.
#[derive(Default)]
struct Older {
    /// The arrays of all sparse ranges, one after the other.
    lowers: Vec<u16>,
    /// Ascending.
    ranges: Vec<Range>,
}

struct Range {
    upper: u16,
    /// Where the range's array starts in `lowers`; it ends where the array of the next range starts.
    start: u32,
    dense: Option<Box<Bits>>,
}

struct Bits {
    words: [u64; WORDS],
}

/// One range of a set: what is older, and then the newest.
#[derive(Clone, Copy)]
struct View<'a> {
    upper: u16,
    older: Set<'a>,
    newest: &'a [u16],
}

#[derive(Clone, Copy)]
enum Set<'a> {
    Sparse(&'a [u16]),
    Dense(&'a Bits),
}

const _: () = assert!(size_of::<Postings>() == 64 && align_of::<Postings>() == 64);

impl Postings {
    pub(super) const fn new() -> Postings {
        Postings { count: 0, upper: 0, newest_len: 0, dense: false, newest: [0; NEWEST], older: None }
    }

    /// How many ordinals there are.
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// Adds an ordinal no smaller than any before, and to `bytes` what that allocates.
    pub(super) fn add(&mut self, ordinal: u32, bytes: &mut usize) {
        let (upper, lower) = split(ordinal);
        if upper != self.upper {
            debug_assert!(upper > self.upper);
            self.flush(bytes);
            self.upper = upper;
            self.dense = false;
        }
        if self.newest().last() == Some(&lower) {
            return;
        }
        debug_assert!(self.newest().last().is_none_or(|&last| last < lower));
        if self.newest().len() == NEWEST {
            self.flush(bytes);
        }
        if self.dense {
            let open = self.older.as_mut().and_then(|older| older.ranges.last_mut()?.dense.as_mut());
            self.count += u32::from(open.expect("the open range is a bitmap").add(lower));
        } else {
            self.newest[usize::from(self.newest_len)] = lower;
            self.newest_len += 1;
            self.count += 1;
        }
    }

    fn newest(&self) -> &[u16] {
        &self.newest[..usize::from(self.newest_len)]
    }

    fn flush(&mut self, bytes: &mut usize) {
        if self.newest_len > 0 {
            let older = self.older.get_or_insert_with(|| {
                *bytes += size_of::<Older>();
                Box::default()
            });
            self.dense = older.append(self.upper, &self.newest[..usize::from(self.newest_len)], bytes);
            self.newest_len = 0;
        }
    }

    fn ranges_from_newest(&self) -> impl Iterator<Item = View<'_>> {
        let older = self.older.iter().flat_map(|older| older.ranges.iter().rev());
        let older = older.map(|range| range.upper).filter(|&upper| upper != self.upper);
        std::iter::once(self.upper).chain(older).filter_map(|upper| self.range(upper))
    }

    fn range(&self, upper: u16) -> Option<View<'_>> {
        let older = self.older.as_ref().and_then(|older| older.range(upper));
        let newest = if upper == self.upper { self.newest() } else { &[] };
        if older.is_none() && newest.is_empty() {
            return None;
        }
        Some(View { upper, older: older.unwrap_or(Set::Sparse(&[])), newest })
    }
}

impl Older {
    /// Adds ordinals of the newest range; says whether that range is a bitmap now.
    fn append(&mut self, upper: u16, lowers: &[u16], bytes: &mut usize) -> bool {
        if self.ranges.last().is_none_or(|range| range.upper != upper) {
            *bytes -= self.ranges.capacity() * size_of::<Range>();
            self.ranges.reserve_exact(usize::from(self.ranges.len() == self.ranges.capacity()));
            *bytes += self.ranges.capacity() * size_of::<Range>();
            let start = u32::try_from(self.lowers.len()).expect("no more than there are ordinals");
            self.ranges.push(Range { upper, start, dense: None });
        }
        let range = self.ranges.last_mut().expect("one was just there or pushed");
        let start = range.start as usize;
        if self.lowers.len() - start + lowers.len() <= SPARSE_MAX {
            let capacity = self.lowers.capacity();
            if self.lowers.len() + lowers.len() > capacity {
                self.lowers.reserve_exact((capacity / 4).max(lowers.len()));
                *bytes += (self.lowers.capacity() - capacity) * size_of::<u16>();
            }
            self.lowers.extend_from_slice(lowers);
            return false;
        }
        let mut bits = Box::new(Bits { words: [0; WORDS] });
        *bytes += size_of::<Bits>();
        for &lower in self.lowers[start..].iter().chain(lowers) {
            bits.add(lower);
        }
        self.lowers.truncate(start);
        range.dense = Some(bits);
        true
    }

    fn range(&self, upper: u16) -> Option<Set<'_>> {
        let at = self.ranges.binary_search_by_key(&upper, |range| range.upper).ok()?;
        let range = &self.ranges[at];
        if let Some(bits) = &range.dense {
            return Some(Set::Dense(bits));
        }
        let end = self.ranges.get(at + 1).map_or(self.lowers.len(), |next| next.start as usize);
        Some(Set::Sparse(&self.lowers[range.start as usize..end]))
    }
}

/// Visits, newest first, every ordinal that is in all the lists, and some that are only in the first few: where
/// few are left, asking the caller is cheaper than reading on. `lists` has the rarest first and is not empty.
pub(super) fn common<B>(lists: &[&Postings], mut visit: impl FnMut(u32) -> ControlFlow<B>) -> ControlFlow<B> {
    let (driver, others) = lists.split_first().expect("at least one list");
    if others.is_empty() {
        return driver.ranges_from_newest().try_for_each(|view| view.visit(&mut visit));
    }
    let mut scratch = [0; WORDS];
    let mut candidates = Vec::new();
    for view in driver.ranges_from_newest() {
        let Set::Sparse(lowers) = view.older else {
            common_dense(lists, view.upper, &mut candidates, &mut scratch, &mut visit)?;
            continue;
        };
        candidates.clear();
        candidates.extend_from_slice(lowers);
        candidates.extend_from_slice(view.newest);
        for other in others {
            if candidates.len() <= CANDIDATES_FEW {
                break;
            }
            match other.range(view.upper) {
                Some(other) => other.retain(&mut candidates, &mut scratch),
                None => candidates.clear(),
            }
        }
        candidates.iter().rev().try_for_each(|&lower| visit(join(view.upper, lower)))?;
    }
    ControlFlow::Continue(())
}

/// As [`common`], for one range in which the list that is rarest over all is a bitmap: here another list may be rarer.
fn common_dense<B>(
    lists: &[&Postings],
    upper: u16,
    candidates: &mut Vec<u16>,
    scratch: &mut [u64; WORDS],
    visit: &mut impl FnMut(u32) -> ControlFlow<B>,
) -> ControlFlow<B> {
    let Some(views) = lists.iter().map(|list| list.range(upper)).collect::<Option<Vec<View<'_>>>>() else {
        return ControlFlow::Continue(());
    };
    candidates.clear();
    let mut bitmaps = Vec::with_capacity(views.len());
    let mut sparse: Option<(&[u16], &[u16])> = None;
    for view in &views {
        match view.older {
            Set::Dense(bits) => bitmaps.push(&bits.words),
            Set::Sparse(lowers) if sparse.is_none_or(|(shortest, _)| lowers.len() < shortest.len()) => {
                sparse = Some((lowers, view.newest));
            }
            Set::Sparse(_) => {}
        }
    }
    if let Some((lowers, newest)) = sparse {
        candidates.extend_from_slice(lowers);
        candidates.extend_from_slice(newest);
        views.iter().for_each(|view| view.retain(candidates, scratch));
        return candidates.iter().rev().try_for_each(|&lower| visit(join(upper, lower)));
    }
    (0..WORDS).rev().try_for_each(|word| {
        visit_word(upper, word, bitmaps.iter().fold(!0, |all, bitmap| all & bitmap[word]), visit)
    })
}

impl View<'_> {
    fn visit<B>(&self, visit: &mut impl FnMut(u32) -> ControlFlow<B>) -> ControlFlow<B> {
        let mut visit_lower = |&lower: &u16| visit(join(self.upper, lower));
        self.newest.iter().rev().try_for_each(&mut visit_lower)?;
        match self.older {
            Set::Sparse(lowers) => lowers.iter().rev().try_for_each(visit_lower),
            Set::Dense(bits) => {
                (0..WORDS).rev().try_for_each(|word| visit_word(self.upper, word, bits.words[word], visit))
            }
        }
    }

    /// Keeps the candidates that are in this range of the set. `scratch` may hold anything.
    fn retain(&self, candidates: &mut Vec<u16>, scratch: &mut [u64; WORDS]) {
        let newest_from = match self.newest.first() {
            Some(&first) => candidates.partition_point(|&candidate| candidate < first),
            None => candidates.len(),
        };
        let mut kept = self.older.retain(&mut candidates[..newest_from], scratch);
        for at in newest_from..candidates.len() {
            let candidate = candidates[at];
            candidates[kept] = candidate;
            kept += usize::from(self.newest.contains(&candidate));
        }
        candidates.truncate(kept);
    }
}

impl Set<'_> {
    /// Moves the candidates that are in the set to the front and gives their number.
    ///
    /// Two arrays of like length are not merged, because the branches of a merge cannot be predicted. Instead the set's
    /// array is spread into a bitmap, which is then asked for each candidate; both steps are free of branches.
    fn retain(&self, candidates: &mut [u16], scratch: &mut [u64; WORDS]) -> usize {
        let (Some(&first), Some(&last)) = (candidates.first(), candidates.last()) else {
            return 0;
        };
        match self {
            Set::Dense(bits) => retain_in(candidates, &bits.words),
            Set::Sparse(lowers) if lowers.len() > candidates.len() * SEARCH_RATIO => {
                let mut kept = 0;
                for at in 0..candidates.len() {
                    let candidate = candidates[at];
                    candidates[kept] = candidate;
                    kept += usize::from(lowers.binary_search(&candidate).is_ok());
                }
                kept
            }
            Set::Sparse(lowers) => {
                scratch[word_of(first)..=word_of(last)].fill(0);
                let start = lowers.partition_point(|&lower| lower < first);
                let end = lowers.partition_point(|&lower| lower <= last);
                lowers[start..end].iter().for_each(|&lower| scratch[word_of(lower)] |= bit_of(lower));
                retain_in(candidates, scratch)
            }
        }
    }
}

impl Bits {
    fn add(&mut self, lower: u16) -> bool {
        let word = &mut self.words[word_of(lower)];
        let new = *word & bit_of(lower) == 0;
        *word |= bit_of(lower);
        new
    }
}

fn retain_in(candidates: &mut [u16], words: &[u64; WORDS]) -> usize {
    let mut kept = 0;
    for at in 0..candidates.len() {
        let candidate = candidates[at];
        candidates[kept] = candidate;
        kept += usize::from(words[word_of(candidate)] & bit_of(candidate) != 0);
    }
    kept
}

fn visit_word<B>(
    upper: u16,
    word: usize,
    mut bits: u64,
    visit: &mut impl FnMut(u32) -> ControlFlow<B>,
) -> ControlFlow<B> {
    while bits != 0 {
        let top = 63 - bits.leading_zeros();
        bits &= !(1 << top);
        let lower = u32::try_from(word * 64).expect("a word of a range") + top;
        visit(u32::from(upper) << RANGE_BITS | lower)?;
    }
    ControlFlow::Continue(())
}

fn word_of(lower: u16) -> usize {
    usize::from(lower / 64)
}

fn bit_of(lower: u16) -> u64 {
    1 << (lower % 64)
}

fn split(ordinal: u32) -> (u16, u16) {
    let half = |bits: u32| u16::try_from(bits).expect("16 bits");
    (half(ordinal >> RANGE_BITS), half(ordinal & 0xffff))
}

fn join(upper: u16, lower: u16) -> u32 {
    u32::from(upper) << RANGE_BITS | u32::from(lower)
}
