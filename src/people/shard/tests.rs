//! The shard against naive scans: search, get, knows and body, with room and without. Knows only the public API.

use super::naive::{Naive, check, insert, lowered};
use super::*;
use crate::limits::SEARCH_RESULTS_MAX;
use proptest::prelude::*;
use std::collections::HashSet;

const ROOMY: usize = 64 * 1024 * 1024;
// Miri is a thousand times slower.
const CASES: u32 = if cfg!(miri) { 1 } else { 48 };
const PESSOAS: usize = if cfg!(miri) { 12 } else { 250 };
const TERMS: usize = if cfg!(miri) { 3 } else { 20 };

/// Few letters, so that matches are frequent, and the scalars whose case or length is special.
fn text() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "a", "b", "A", "ab", "é", "É", "İ", "i", "ß", "Σ", "ς", "😀", " ", "€", "%",
    ]);
    prop::collection::vec(piece, 1..7).prop_map(|pieces| pieces.concat())
}

fn pessoa() -> impl Strategy<Value = (u128, Vec<String>)> {
    let item = prop_oneof![3 => prop::sample::select(vec!["Go", "Ruby", "MySQL", "SQLite"]).prop_map(str::to_owned), 1 => text()];
    let stack =
        prop_oneof![4 => prop::collection::vec(item, 0..5), 1 => prop::collection::vec(text(), 40..60)];
    // Ids repeat: an insert that is repeated changes nothing.
    (0..300u128, text(), text(), stack)
        .prop_map(|(id, apelido, nome, stack)| (id, [apelido, nome].into_iter().chain(stack).collect()))
}

fn term() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        4 => text(),
        1 => prop::sample::select(vec!["go", "mysql", "sql", "sqlit", "mysqlite", "gosql", "l", "sq", "\0", "é", "\u{307}"]).prop_map(str::to_owned)
    ];
    prop::collection::vec(part, 0..3).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn search_equals_the_scan(
        pessoas in prop::collection::vec(pessoa(), 0..PESSOAS),
        terms in prop::collection::vec(term(), TERMS),
    ) {
        let (mut shard, mut naive) = (Shard::new(ROOMY), Naive::default());
        for (id, fields) in &pessoas {
            let known = naive.pessoas.contains_key(&Uuid::from_u128(*id));
            prop_assert_eq!(insert(&mut shard, &mut naive, *id, fields), !known);
        }
        prop_assert_eq!(shard.len(), naive.pessoas.len());
        prop_assert!(shard.memory().complete && shard.memory().bodies_dropped == 0);
        terms.iter().for_each(|term| check(&shard, &naive, term));
        for (_, fields) in pessoas.iter().take(10) {
            // Whole fields, their tails, and what would span two of them.
            fields.iter().take(5).for_each(|field| check(&shard, &naive, field));
            fields.iter().take(5).for_each(|field| check(&shard, &naive, field.trim_start_matches('a')));
            check(&shard, &naive, &fields[..2].concat());
            check(&shard, &naive, &fields[..2].join("\0"));
        }
        for id in 0..300 {
            let id = Uuid::from_u128(id);
            let expected = naive.pessoas.get(&id).map_or(Lookup::Unknown, |(_, body)| Lookup::Body(Body::plain(body)));
            prop_assert_eq!(shard.get(&id), expected);
        }
    }

    /// The small budgets bound how many texts are sorted at a time, and what is remembered at all.
    #[test]
    fn a_bulk_load_equals_inserts(
        budget in prop_oneof![0..40_000usize, 40_000..400_000usize, 400_000..4_000_000usize],
        pessoas in prop::collection::vec(pessoa(), 0..PESSOAS),
        loaded in 0..PESSOAS,
        terms in prop::collection::vec(term(), TERMS),
    ) {
        let (mut bulk, mut naive) = (Shard::for_bulk_load(budget), Naive::default());
        let (mut plain, mut same) = (Shard::new(budget), Naive::default());
        let loaded = loaded.min(pessoas.len());
        let mut found = Vec::new();
        for (id, fields) in &pessoas[..loaded] {
            insert(&mut bulk, &mut naive, *id, fields);
            insert(&mut plain, &mut same, *id, fields);
            prop_assert!(bulk.memory().total <= budget.max(1024), "{:?}", bulk.memory());
            prop_assert_eq!(bulk.search(fields[0].as_bytes(), &mut found), Err(NoAnswer::Loading));
            prop_assert!(found.is_empty());
        }
        bulk.end_bulk_load();
        prop_assert!(bulk.memory().total <= budget.max(1024), "{:?}", bulk.memory());
        terms.iter().for_each(|term| check(&bulk, &naive, term));
        for (id, fields) in &pessoas[loaded..] {
            insert(&mut bulk, &mut naive, *id, fields);
            insert(&mut plain, &mut same, *id, fields);
        }
        let names = pessoas.iter().take(20).flat_map(|(_, fields)| fields.iter().take(5));
        for term in terms.iter().chain(names) {
            check(&bulk, &naive, term);
            check(&plain, &same, term);
            let term = lowered(term);
            let mut expected = Vec::new();
            let answers = (bulk.search(&term, &mut found), plain.search(&term, &mut expected));
            if answers == (Ok(()), Ok(())) && expected.len() < SEARCH_RESULTS_MAX {
                prop_assert_eq!(&found, &expected);
            }
        }
        if bulk.memory().bodies_dropped == 0 && bulk.memory().complete {
            prop_assert!(plain.memory().complete, "a load needs no less than inserts");
            let (bulk, plain) = (bulk.memory(), plain.memory());
            prop_assert!(bulk.index <= plain.index + plain.index / 8, "{bulk:?} {plain:?}");
        }
    }

    #[test]
    fn apelidos_equal_a_set(learnt in prop::collection::vec(text(), 0..80), asked in prop::collection::vec(text(), 2 * TERMS)) {
        let mut shard = Shard::new(ROOMY);
        learnt.iter().chain(&learnt).for_each(|apelido| _ = shard.learn(apelido));
        let set: HashSet<&String> = learnt.iter().collect();
        for apelido in asked.iter().chain(&learnt) {
            prop_assert_eq!(shard.knows(apelido), set.contains(apelido));
        }
    }

    #[test]
    fn without_room_less_is_known_and_nothing_is_wrong(
        budget in prop_oneof![0..40_000usize, 40_000..400_000usize],
        pessoas in prop::collection::vec(pessoa(), PESSOAS / 2..PESSOAS),
        terms in prop::collection::vec(term(), TERMS),
    ) {
        let (mut shard, mut naive) = (Shard::new(budget), Naive::default());
        let mut learnt = HashSet::new();
        for (id, fields) in &pessoas {
            let was_complete = shard.memory().complete;
            insert(&mut shard, &mut naive, *id, fields);
            shard.learn(&fields[0]);
            learnt.insert(&fields[0]);
            let memory = shard.memory();
            prop_assert!(memory.total <= budget.max(1024), "{memory:?}");
            prop_assert!(was_complete || !memory.complete, "incomplete is for good");
            let forgotten = shard.len() < naive.pessoas.len();
            prop_assert!(!forgotten || !memory.complete && memory.bodies_dropped <= shard.len());
        }
        let memory = shard.memory();
        let forgotten = shard.len() < naive.pessoas.len();
        let mut dropped = 0;
        for (id, (_, body)) in &naive.pessoas {
            match shard.get(id) {
                Lookup::Body(found) => prop_assert_eq!(found, Body::plain(body)),
                Lookup::Dropped => dropped += 1,
                Lookup::Unknown => prop_assert!(forgotten),
            }
        }
        prop_assert_eq!(dropped, memory.bodies_dropped);
        prop_assert!(forgotten || learnt.iter().all(|apelido| shard.knows(apelido)));
        prop_assert!(!shard.knows("never learnt"));
        terms.iter().for_each(|term| check(&shard, &naive, term));
    }
}

/// Every state is reached by one growing shard, in the promised order.
#[test]
#[cfg_attr(miri, ignore = "it takes thousands of pessoas")]
fn bodies_go_first_then_the_index_then_the_ids() {
    let (mut shard, mut naive) = (Shard::new(300_000), Naive::default());
    let mut states = Vec::new();
    for id in 0..8_000 {
        let fields = [format!("apelido{id}"), "x".repeat(40), "rust".to_owned()];
        insert(&mut shard, &mut naive, id, &fields);
        shard.learn(&fields[0]);
        let memory = shard.memory();
        let state = match () {
            () if shard.len() < naive.pessoas.len() => "forgotten",
            () if !memory.complete => "no index",
            () if memory.bodies_dropped > 0 => "bodies dropped",
            () => "all",
        };
        if states.last() != Some(&state) {
            states.push(state);
            ["rust", "apelido1", "xx", "", "rusty"].iter().for_each(|term| check(&shard, &naive, term));
        }
    }
    assert_eq!(states, ["all", "bodies dropped", "no index", "forgotten"]);
}

#[test]
fn broad_terms_find_the_newest() {
    const NEWEST: u128 = if cfg!(miri) { 60 } else { 5_000 };
    let (mut shard, mut naive) = (Shard::new(ROOMY), Naive::default());
    for id in 0..NEWEST {
        insert(&mut shard, &mut naive, id, &["broad".into(), "nome".into(), "item".into(), "item".into()]);
    }
    for term in ["", "b", "br", "bro", "broad", "item", "nome", "tem", "i"] {
        check(&shard, &naive, term);
        let mut found = Vec::new();
        shard.search(term.as_bytes(), &mut found).unwrap();
        assert!(
            found[0].id.as_u128() >= NEWEST.saturating_sub(4_000),
            "{term:?}: their bodies are the last to be dropped"
        );
    }
}

#[test]
#[cfg_attr(miri, ignore = "it takes thousands of items")]
fn a_body_full_of_items_is_found_by_each_of_them() {
    let (mut shard, mut naive) = (Shard::new(ROOMY), Naive::default());
    let many = |salt: usize| (0..2_000).map(move |item| format!("i{}abcd", item * 7 + salt));
    for id in 0..60u128 {
        let fields: Vec<String> = ["apelido".to_owned(), "nome".to_owned()]
            .into_iter()
            .chain(many(usize::try_from(id).unwrap() % 3))
            .collect();
        insert(&mut shard, &mut naive, id, &fields);
    }
    for term in ["i0abcd", "i1abcd", "i13993abcd", "i7abcd", "abcd", "abcdi", "apelidonome", "dcba"] {
        check(&shard, &naive, term);
    }
}

#[test]
#[cfg_attr(miri, ignore = "it takes megabytes of text")]
fn a_search_that_would_take_too_long_says_so() {
    let mut shard = Shard::new(ROOMY);
    // Every trigram of the term, but not the term.
    let text = "abaxbabx".repeat(8_000);
    for id in 0..150 {
        shard.insert(Uuid::from_u128(id), format!("apelido\0{text}").as_bytes(), b"{}");
    }
    let mut found = Vec::new();
    assert_eq!(shard.search(b"abab", &mut found), Err(NoAnswer::TooCostly));
    assert!(found.is_empty() && shard.memory().complete);
    assert_eq!(shard.search(b"abax", &mut found), Ok(()));
    assert_eq!(found.len(), SEARCH_RESULTS_MAX);
}

#[test]
fn the_longest_field_is_found_wherever_it_is() {
    for text in ["longest", "longest\0b", "a\0longest", "a\0b\0longest", "a\0b\0c\0longest\0d"] {
        let mut shard = Shard::new(ROOMY);
        shard.insert(Uuid::from_u128(7), text.as_bytes(), b"{}");
        for (term, expected) in [("longest", 1), ("longests", 0), ("alongest", 0)] {
            let mut found = Vec::new();
            shard.search(term.as_bytes(), &mut found).unwrap();
            assert_eq!(found.len(), expected, "{term:?} in {text:?}");
        }
    }
}

#[test]
fn a_text_without_all_separators_is_still_a_text() {
    let mut shard = Shard::new(ROOMY);
    let texts: [&[u8]; 5] = [b"", b"\0", b"only", b"two\0fields", b"\0\0\0item\0"];
    for (id, text) in texts.iter().enumerate() {
        assert!(shard.insert(Uuid::from_u128(id as u128), text, b"{}"));
    }
    for (term, expected) in [("only", 1), ("fields", 1), ("item", 1), ("two", 1), ("wof", 0), ("", 5)] {
        let mut found = Vec::new();
        shard.search(term.as_bytes(), &mut found).unwrap();
        assert_eq!(found.len(), expected, "{term:?}");
    }
}

#[test]
fn bodies_of_every_length() {
    let mut shard = Shard::new(1 << 30);
    let bodies: Vec<Vec<u8>> =
        [0, 1, 127, 128, 300, 65_535, 262_143, 262_144, 400_000].map(|n| vec![b'x'; n]).into();
    for (id, body) in bodies.iter().enumerate() {
        shard.insert(Uuid::from_u128(id as u128), b"a\0b", body);
    }
    for (id, body) in bodies.iter().enumerate() {
        assert_eq!(shard.get(&Uuid::from_u128(id as u128)), Lookup::Body(Body::plain(body)));
    }
}
