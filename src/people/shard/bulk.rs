//! The trigrams of many texts at once, sorted. Knows neither lists nor pessoas.
//!
//! The plain loop, `Trigrams::add`, adds each trigram of a text to its list at once. Neighbouring trigrams have lists
//! all over memory, so nearly each costs cache misses. The deviations:
//!
//! 1. The trigrams of thousands of texts are sorted first, and each list is touched once for all of them. What this
//!    saves of a load was measured (perf/results/2026-11-24.md).
//! 2. No pairs of trigram and text are put aside when a text is added: the texts are stored anyway, and are read again
//!    here, which costs less than writing and reading pairs of eight bytes.
//! 3. A pair has four bytes: the pairs are grouped by the upper half of the trigram, so each keeps only the lower half.
//!    So a group fits the CPU's cache while it is sorted.

use super::text::trigrams_of;

/// Sorting is by the upper half of a trigram first, then by the lower.
const HALF_BITS: u32 = 12;
const HALVES: usize = 1 << HALF_BITS;
/// Bits of a pair for the number of the text: what half a trigram leaves.
const NUMBER_BITS: u32 = u32::BITS - HALF_BITS;
const NUMBER_MASK: u32 = (1 << NUMBER_BITS) - 1;
/// A group with fewer pairs is sorted by comparison, because counting has to pass over all [`HALVES`].
const COUNTED_MIN: usize = HALVES / 8;

/// Most texts at a time.
pub(super) const TEXTS_MAX: usize = 1 << NUMBER_BITS;
/// Most bytes that are allocated for each byte of the texts.
pub(super) const BYTES_PER_BYTE: usize = 2 * size_of::<u32>();

/// Sorts the trigrams of many texts; kept from one use to the next for the sake of its allocations.
#[derive(Default)]
pub(super) struct Sorter {
    /// The lower half of a trigram and, below it, the number of the text; grouped by the upper half.
    pairs: Vec<u32>,
    /// One group of `pairs`, sorted.
    group: Vec<u32>,
}

/// The texts that have one trigram.
pub(super) struct Run<'a>(&'a [u32]);

impl Run<'_> {
    /// The texts' numbers, ascending, each as often as the text has the trigram.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u32> {
        self.0.iter().map(|pair| pair & NUMBER_MASK)
    }
}

impl Sorter {
    /// Calls `each` with every trigram of the texts, ascending, and with the texts that have it, numbered from 0.
    pub(super) fn runs<'a>(
        &mut self,
        texts: impl Iterator<Item = &'a [u8]> + Clone,
        mut each: impl FnMut(u32, Run<'_>),
    ) {
        let mut ends = [0; HALVES];
        texts.clone().flat_map(trigrams_of).for_each(|trigram| ends[upper(trigram)] += 1);
        let total = starts(&mut ends);
        make_room(&mut self.pairs, total);
        for (number, text) in (0..=NUMBER_MASK).zip(texts) {
            trigrams_of(text).for_each(|trigram| {
                let end = &mut ends[upper(trigram)];
                // The shift drops the upper half.
                self.pairs[*end] = trigram << NUMBER_BITS | number;
                *end += 1;
            });
        }
        let mut start = 0;
        for (upper, end) in (0..).zip(ends) {
            let sorted = sort(&mut self.pairs[start..end], &mut self.group);
            for run in sorted.chunk_by(|a, b| a >> NUMBER_BITS == b >> NUMBER_BITS) {
                each(upper << HALF_BITS | run[0] >> NUMBER_BITS, Run(run));
            }
            start = end;
        }
    }

    /// Bytes allocated.
    pub(super) fn bytes(&self) -> usize {
        (self.pairs.capacity() + self.group.capacity()) * size_of::<u32>()
    }
}

fn sort<'a>(pairs: &'a mut [u32], sorted: &'a mut Vec<u32>) -> &'a [u32] {
    if pairs.len() < COUNTED_MIN {
        pairs.sort_unstable();
        return pairs;
    }
    let lower = |pair: u32| (pair >> NUMBER_BITS) as usize;
    let mut ends = [0; HALVES];
    pairs.iter().for_each(|&pair| ends[lower(pair)] += 1);
    starts(&mut ends);
    make_room(sorted, pairs.len());
    for &pair in &*pairs {
        let end = &mut ends[lower(pair)];
        sorted[*end] = pair;
        *end += 1;
    }
    sorted
}

/// Makes `pairs` hold `len` pairs, whatever they are.
fn make_room(pairs: &mut Vec<u32>, len: usize) {
    if pairs.capacity() < len {
        // A new `Vec`: the old pairs are not copied, and the capacity is not rounded up.
        *pairs = Vec::new();
        pairs.reserve_exact(len);
    }
    pairs.resize(len, 0);
}

/// Turns the count of each half into where its pairs start; gives the sum of the counts.
fn starts(counts: &mut [usize; HALVES]) -> usize {
    counts.iter_mut().fold(0, |start, count| start + std::mem::replace(count, start))
}

fn upper(trigram: u32) -> usize {
    (trigram >> HALF_BITS) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    // Miri is a thousand times slower.
    const CASES: u32 = if cfg!(miri) { 1 } else { 32 };
    const LONGEST: usize = if cfg!(miri) { 100 } else { 3_000 };
    const TEXTS: usize = if cfg!(miri) { 6 } else { 60 };

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(CASES))]
        #[test]
        fn runs_are_all_pairs_in_order(
            rounds in prop::collection::vec(
                prop::collection::vec(
                    prop_oneof![
                        prop::collection::vec(any::<u8>(), 0..40),
                        prop::collection::vec(prop::sample::select(b"ab\0".to_vec()), 0..40),
                        (1..LONGEST).prop_map(|n| vec![b'a'; n]),
                    ],
                    0..TEXTS,
                ),
                1..4,
            )
        ) {
            let (mut sorter, mut bytes_max) = (Sorter::default(), 0);
            for texts in rounds {
                let mut expected: Vec<(u32, u32)> = (0..)
                    .zip(&texts)
                    .flat_map(|(number, text)| trigrams_of(text).map(move |trigram| (trigram, number)))
                    .collect();
                expected.sort_unstable();
                let (mut pairs, mut trigrams) = (Vec::new(), Vec::new());
                sorter.runs(texts.iter().map(Vec::as_slice), |trigram, run| {
                    trigrams.push(trigram);
                    pairs.extend(run.numbers().map(|number| (trigram, number)));
                });
                prop_assert!(trigrams.is_sorted_by(|a, b| a < b), "each trigram once");
                prop_assert_eq!(pairs, expected);
                bytes_max = texts.iter().map(Vec::len).sum::<usize>().max(bytes_max);
                prop_assert!(sorter.bytes() <= bytes_max * BYTES_PER_BYTE);
            }
        }
    }
}
