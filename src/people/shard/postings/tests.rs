use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

/// Every `step`-th ordinal of some part: arrays, bitmaps, missing ranges and ends of ranges all occur.
fn set() -> impl Strategy<Value = Vec<(u32, u32, u32)>> {
    let start = prop_oneof![0..200_000u32, Just(65_535), Just(65_536), Just(131_071)];
    let step = prop_oneof![Just(1u32), 2..20u32, 20..3_000u32];
    prop::collection::vec((start, step, prop_oneof![0..60u32, 0..9_000u32]), 1..4)
}

fn ordinals(parts: &[(u32, u32, u32)]) -> BTreeSet<u32> {
    parts.iter().flat_map(|&(start, step, count)| (0..count).map(move |i| start + i * step)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
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
