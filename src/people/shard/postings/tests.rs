use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

// Miri is a thousand times slower.
const CASES: u32 = if cfg!(miri) { 2 } else { 24 };
const LONGEST: u32 = if cfg!(miri) { 300 } else { 9_000 };

/// Every `step`-th ordinal of some part: arrays, bitmaps, missing ranges and ends of ranges all occur.
fn set() -> impl Strategy<Value = Vec<(u32, u32, u32)>> {
    let start = prop_oneof![0..200_000u32, Just(65_535), Just(65_536), Just(131_071)];
    let step = prop_oneof![Just(1u32), 2..20u32, 20..3_000u32];
    prop::collection::vec((start, step, prop_oneof![0..60u32, 0..LONGEST]), 1..4)
}

fn ordinals(parts: &[(u32, u32, u32)]) -> BTreeSet<u32> {
    parts.iter().flat_map(|&(start, step, count)| (0..count).map(move |i| start + i * step)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]
    #[test]
    fn common_to_all(parts in prop::collection::vec(set(), 1..5)) {
        let sets: Vec<BTreeSet<u32>> = parts.iter().map(|parts| ordinals(parts)).collect();
        let mut lists: Vec<Postings> = Vec::new();
        for set in &sets {
            let (mut list, mut bytes) = (Postings::new(), 0);
            for &ordinal in set {
                list.add(ordinal, &mut bytes);
                list.add(ordinal, &mut bytes);
            }
            prop_assert_eq!(list.count() as usize, set.len());
            lists.push(list);
        }
        let mut refs: Vec<&Postings> = lists.iter().collect();
        refs.sort_by_key(|list| list.count());
        let mut visited = Vec::new();
        let end = common(&refs, |ordinal| { visited.push(ordinal); ControlFlow::<()>::Continue(()) });
        prop_assert!(end.is_continue());
        prop_assert!(visited.is_sorted_by(|a, b| a > b), "newest first, each once");
        let visited: BTreeSet<u32> = visited.into_iter().collect();
        let mut expected = sets[0].clone();
        sets[1..].iter().for_each(|set| expected.retain(|ordinal| set.contains(ordinal)));
        prop_assert!(expected.is_subset(&visited));
        let rarest: BTreeSet<u32> = sets.iter().min_by_key(|set| set.len()).unwrap().clone();
        let ranges: BTreeSet<u32> = rarest.iter().map(|ordinal| ordinal >> RANGE_BITS).collect();
        prop_assert!(visited.len() <= expected.len() + CANDIDATES_FEW * ranges.len(), "excess is bounded");
    }
}

/// The array of a range becomes a bitmap between two of its ordinals, and both are intersected with an array.
#[test]
fn an_array_as_long_as_a_bitmap_becomes_one() {
    let (mut dense, mut sparse, mut bytes) = (Postings::new(), Postings::new(), 0);
    let longest = u32::try_from(SPARSE_MAX).unwrap();
    for ordinal in 0..longest + 100 {
        dense.add(ordinal, &mut bytes);
        if ordinal % 100 == 0 {
            sparse.add(ordinal, &mut bytes);
        }
        if ordinal % 1_000 == 999 || ordinal > longest + 97 {
            let mut visited = Vec::new();
            let end = common(&[&sparse, &dense], |ordinal| {
                visited.push(ordinal);
                ControlFlow::<()>::Continue(())
            });
            assert!(end.is_continue());
            assert!(
                visited.iter().rev().copied().eq((0..=ordinal).step_by(100)),
                "at {ordinal}: {visited:?}"
            );
        }
    }
    assert!(dense.dense && !sparse.dense);
}
