//! What the search index is made of, each part against the plainest thing that does the same.

#[path = "../../src/people/shard/arena.rs"]
mod arena;
#[path = "../../src/people/shard/bulk.rs"]
mod bulk;
#[path = "../../src/people/shard/postings.rs"]
mod postings;
#[path = "../../src/people/shard/table.rs"]
mod table;
#[path = "../../src/people/shard/text.rs"]
mod text;
#[path = "../../src/people/shard/trigrams.rs"]
mod trigrams;

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use arbitrary::Arbitrary;

use arena::Arena;
use bulk::Sorter;
use postings::{Postings, common};
use trigrams::Trigrams;

/// Lists at once.
const LISTS: usize = 6;
/// Ordinals of all lists together.
const ORDINALS_MAX: usize = 20_000;
/// Ordinals stay below this, which is some ranges.
const ORDINAL_MAX: u32 = 400_000;
const RECORD_MAX: usize = 700;
const TEXTS_MAX: usize = 300;

/// What one input does.
#[derive(Arbitrary, Debug)]
pub enum Run {
    Postings(Vec<Grow>),
    Arena { chunk: u8, steps: Vec<Store> },
    Trigrams { tables: u8, texts: Vec<Texts>, terms: Vec<Letters> },
}

/// So many ordinals for one list, that far apart, after a gap.
#[derive(Arbitrary, Debug)]
pub struct Grow {
    list: u8,
    gap: u16,
    far: bool,
    count: u16,
    apart: u8,
}

#[derive(Arbitrary, Debug)]
pub enum Store {
    Append { byte: u8, len: u16 },
    DropOldest,
}

/// Texts of few letters, so that trigrams repeat, added one by one or sorted.
#[derive(Arbitrary, Debug)]
pub enum Texts {
    One(Letters),
    Sorted(Vec<Letters>),
    Same(u8, Letters),
}

#[derive(Arbitrary, Debug)]
pub struct Letters(Vec<u8>);

impl Letters {
    /// `a` to `d`, and the separator.
    fn text(&self) -> Vec<u8> {
        self.0.iter().map(|byte| b"\0abcdabcdabcdabc"[usize::from(byte % 16)]).collect()
    }

    fn term(&self) -> Vec<u8> {
        self.0.iter().map(|byte| b"abcd"[usize::from(byte % 4)]).collect()
    }
}

pub fn run(run: Run) {
    match run {
        Run::Postings(steps) => check_postings(&steps),
        Run::Arena { chunk, steps } => check_arena(chunk, &steps),
        Run::Trigrams { tables, texts, terms } => check_trigrams(tables, &texts, &terms),
    }
}

/// Whether `found` is newest first, each once.
fn descends(found: &[u32]) -> bool {
    found.is_sorted_by(|newer, older| newer > older)
}

fn check_postings(steps: &[Grow]) {
    let mut lists: [(Postings, BTreeSet<u32>); LISTS] =
        std::array::from_fn(|_| (Postings::new(), BTreeSet::new()));
    let (mut bytes, mut ordinals) = (0, 0);
    for step in steps {
        let (list, set) = &mut lists[usize::from(step.list) % LISTS];
        // The same ordinal may come again.
        let gap = u32::from(step.gap) * if step.far { 16 } else { 1 };
        let start = set.last().map_or(gap, |last| last + gap);
        let mut added = (0..u32::from(step.count)).map(|number| start + number * u32::from(step.apart));
        while ordinals < ORDINALS_MAX
            && let Some(ordinal) = added.next().filter(|&ordinal| ordinal < ORDINAL_MAX)
        {
            ordinals += 1;
            list.add(ordinal, &mut bytes);
            set.insert(ordinal);
            assert_eq!(list.count() as usize, set.len());
        }
    }
    assert!(bytes < ordinals * 16 + LISTS * 8 * 9000);
    let mut lists: Vec<&(Postings, BTreeSet<u32>)> = lists.iter().collect();
    lists.sort_by_key(|(list, _)| list.count());
    // Each alone, and all that follow it.
    for first in 0..LISTS {
        for last in first..LISTS {
            let some: Vec<&Postings> = lists[first..=last].iter().map(|(list, _)| list).collect();
            let sets = || lists[first..=last].iter().map(|(_, set)| set);
            let mut found = Vec::new();
            let end = common(&some, |ordinal| {
                found.push(ordinal);
                ControlFlow::<()>::Continue(())
            });
            assert!(end.is_continue() && descends(&found));
            let found: BTreeSet<u32> = found.into_iter().collect();
            let rarest = &lists[first].1;
            assert!(found.is_subset(rarest));
            let all: BTreeSet<u32> =
                rarest.iter().copied().filter(|ordinal| sets().all(|set| set.contains(ordinal))).collect();
            assert!(found.is_superset(&all), "an ordinal of all the lists is missing");
            assert!(first < last || found == all);
        }
    }
}

fn check_arena(chunk: u8, steps: &[Store]) {
    let mut arena = Arena::new((usize::from(chunk) + 1) * 4);
    let mut records: Vec<(u32, Vec<u8>)> = Vec::new();
    let mut dropped = 0;
    for step in steps {
        match step {
            Store::Append { byte, len } => {
                let record = vec![*byte; usize::from(*len) % RECORD_MAX];
                let address = arena.append(&record).expect("32 bits are enough");
                records.push((address, record));
            }
            Store::DropOldest => {
                let before = arena.bytes();
                let gave = arena.drop_oldest();
                assert_eq!(gave, arena.bytes() < before);
            }
        }
        let now = records.iter().take_while(|(address, _)| arena.get(*address).is_none()).count();
        assert!(now >= dropped);
        dropped = now;
        assert_eq!(arena.records_dropped(), dropped);
        for (address, record) in &records[dropped..] {
            assert_eq!(arena.get(*address), Some(&record[..]));
        }
    }
    let addresses: BTreeSet<u32> = records.iter().map(|(address, _)| *address).collect();
    assert_eq!(addresses.len(), records.len(), "no address is given twice");
}

fn check_trigrams(tables: u8, texts: &[Texts], terms: &[Letters]) {
    let mut trigrams = Trigrams::new(1 << (tables % 8));
    let mut sorter = Sorter::default();
    let mut all: Vec<Vec<u8>> = Vec::new();
    for some in texts {
        let next = u32::try_from(all.len()).expect("few");
        if all.len() > TEXTS_MAX {
            break;
        }
        match some {
            Texts::One(letters) => {
                trigrams.add(&letters.text(), next);
                all.push(letters.text());
            }
            Texts::Sorted(letters) => {
                let new: Vec<Vec<u8>> = letters.iter().map(Letters::text).collect();
                trigrams.add_sorted(next, new.iter().map(Vec::as_slice), &mut sorter);
                all.extend(new);
            }
            Texts::Same(count, letters) => {
                for number in 0..u32::from(*count) {
                    trigrams.add(&letters.text(), next + number);
                    all.push(letters.text());
                }
            }
        }
    }
    for term in terms.iter().map(Letters::term).filter(|term| term.len() >= text::TRIGRAM) {
        let mut found = Vec::new();
        let end = trigrams.candidates(&term, |text| {
            found.push(text);
            ControlFlow::<()>::Continue(())
        });
        assert!(end.is_continue() && descends(&found));
        let has = |text: &[u8], part: &[u8]| text.windows(part.len()).any(|window| window == part);
        let found: BTreeSet<u32> = found.into_iter().collect();
        for (ordinal, text) in (0..).zip(&all) {
            assert!(!has(text, &term) || found.contains(&ordinal), "a text that has the term is missing");
            if term.len() == text::TRIGRAM {
                assert!(has(text, &term) || !found.contains(&ordinal), "each text has the trigram");
            }
        }
    }
}
