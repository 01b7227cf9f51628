//! A shard against the naive scan: inserts, one by one and in masses, a bulk load, searches, lookups, with memory enough
//! and with so little that it drops bodies, the index and at last everything.
#![no_main]

#[path = "../../../src/people/shard/naive.rs"]
#[allow(dead_code, reason = "a test uses it")]
mod naive;

use std::collections::HashSet;

use arbitrary::{Arbitrary, Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use rinha::people::shard::{Lookup, NoAnswer, Shard};
use rinha::{limits, people, pessoa};
use uuid::Uuid;

use naive::{Naive, check, insert};

/// Pessoas of one mass insert.
const MANY_MAX: u16 = 300;
/// Pessoas and searches in all: the scan takes its time.
const PESSOAS_MAX: usize = 1500;
const SEARCHES_MAX: usize = 24;
/// A budget that is enough for them.
const PLENTY: usize = 16 << 20;

/// Short, of few letters and of scalars whose case or length is special, or as it comes.
#[derive(Debug)]
struct Text(String);

const PIECES: [&str; 16] =
    ["a", "b", "A", "ab", "é", "É", "İ", "i", "ß", "Σ", "ς", "😀", " ", "€", "%", "go"];

impl<'a> Arbitrary<'a> for Text {
    fn arbitrary(bytes: &mut Unstructured<'a>) -> Result<Text> {
        let mut text = String::new();
        for _ in 0..bytes.int_in_range(0..=7)? {
            let byte: u8 = bytes.arbitrary()?;
            match byte {
                0..192 => text.push_str(PIECES[usize::from(byte % 16)]),
                192.. => text.extend(bytes.arbitrary::<char>().ok().filter(|scalar| *scalar != '\0')),
            }
        }
        Ok(Text(text))
    }
}

#[derive(Arbitrary, Debug)]
enum Step {
    Insert {
        id: u8,
        fields: Vec<Text>,
    },
    /// So many, alike but for a number.
    Many {
        count: u16,
        fields: Vec<Text>,
    },
    /// A stack of so many items.
    Items {
        id: u8,
        count: u8,
        item: Text,
    },
    EndLoad,
    Search(Text),
    /// The field so many back, as it is or without its ends.
    SearchField {
        back: u8,
        cut: u8,
    },
    /// What two neighbouring fields would hold, if nothing stood between them.
    SearchAcross {
        back: u8,
    },
    Learn(Text),
    Get(u8),
}

#[derive(Arbitrary, Debug)]
struct Run {
    budget: u8,
    bulk: bool,
    steps: Vec<Step>,
}

/// From nothing to plenty.
fn budget(of: u8) -> usize {
    match of {
        0..128 => PLENTY,
        128..160 => 4 << 20,
        160..224 => usize::from(of - 159) * 8192,
        224.. => usize::from(of - 224) * 512,
    }
}

fn run(Run { budget: of, bulk, steps }: Run) {
    let budget = budget(of);
    let mut shard = if bulk { Shard::for_bulk_load(budget) } else { Shard::new(budget) };
    let (mut naive, mut loading) = (Naive::default(), bulk);
    let (mut fields_so_far, mut searches) = (Vec::<String>::new(), 0);
    let (mut next, mut learnt) = (1_000_u128, HashSet::new());
    for step in steps {
        let was_complete = shard.memory().complete;
        let mut add = |shard: &mut Shard, naive: &mut Naive, id: u128, fields: Vec<String>| {
            if naive.pessoas.len() < PESSOAS_MAX {
                let known = shard.get(&Uuid::from_u128(id)) != Lookup::Unknown;
                assert_eq!(insert(shard, naive, id, &fields), !known);
                fields_so_far.extend_from_slice(&fields[..2]);
                fields_so_far.extend_from_slice(&fields[fields.len() - 2..]);
            }
        };
        let texts = |fields: Vec<Text>| {
            let mut fields: Vec<String> = fields.into_iter().map(|field| field.0).collect();
            fields.resize(fields.len().max(2), "x".to_owned());
            fields
        };
        match step {
            Step::Insert { id, fields } => add(&mut shard, &mut naive, u128::from(id), texts(fields)),
            Step::Many { count, fields } => {
                let fields = texts(fields);
                for number in 0..count % MANY_MAX {
                    let mut fields = fields.clone();
                    fields[0] += &number.to_string();
                    add(&mut shard, &mut naive, next, fields);
                    next += 1;
                }
            }
            Step::Items { id, count, item } => {
                let items = (0..count).map(|number| format!("{}{number}", item.0));
                let fields = ["a".to_owned(), "b".to_owned()].into_iter().chain(items).collect();
                add(&mut shard, &mut naive, u128::from(id), fields);
            }
            Step::EndLoad => {
                shard.end_bulk_load();
                loading = false;
            }
            Step::Search(_) | Step::SearchField { .. } | Step::SearchAcross { .. } if loading => {
                let answer = shard.search(b"a", &mut Vec::new());
                assert_eq!(answer, Err(NoAnswer::Loading));
            }
            Step::Search(_) | Step::SearchField { .. } | Step::SearchAcross { .. }
                if searches == SEARCHES_MAX => {}
            Step::Search(term) => {
                searches += 1;
                check(&shard, &naive, &term.0);
            }
            Step::SearchField { back, cut } => {
                searches += 1;
                let field = fields_so_far.iter().rev().nth(usize::from(back)).map_or("", String::as_str);
                let scalars: Vec<char> = field.chars().collect();
                let cut = usize::from(cut) % (scalars.len() + 1);
                check(
                    &shard,
                    &naive,
                    &scalars[cut / 2..scalars.len() - (cut - cut / 2)].iter().collect::<String>(),
                );
            }
            Step::SearchAcross { back } => {
                searches += 1;
                let mut fields = fields_so_far.iter().rev().skip(usize::from(back));
                if let (Some(second), Some(first)) = (fields.next(), fields.next()) {
                    check(&shard, &naive, &format!("{first}{second}"));
                }
            }
            Step::Learn(apelido) => {
                shard.learn(&apelido.0);
                learnt.insert(apelido.0);
            }
            Step::Get(id) => {
                let id = Uuid::from_u128(u128::from(id));
                match (shard.get(&id), naive.pessoas.get(&id)) {
                    (Lookup::Body(body), Some((_, expected))) => assert!(body == expected[..]),
                    (Lookup::Dropped | Lookup::Unknown, _) => {}
                    (Lookup::Body(_), None) => panic!("a body of nobody"),
                }
            }
        }
        let memory = shard.memory();
        assert!(was_complete || !memory.complete, "incomplete is for good");
        let forgotten = shard.len() < naive.pessoas.len();
        assert!(!forgotten || !memory.complete);
        assert!(budget < PLENTY || memory.complete && memory.bodies_dropped == 0, "there was room");
    }
    for (id, (_, expected)) in &naive.pessoas {
        match shard.get(id) {
            Lookup::Body(body) => assert!(body == expected[..]),
            Lookup::Dropped => assert!(shard.memory().bodies_dropped > 0),
            Lookup::Unknown => assert!(shard.len() < naive.pessoas.len()),
        }
    }
    assert!(
        shard.len() < naive.pessoas.len() || budget < PLENTY || learnt.iter().all(|one| shard.knows(one))
    );
    assert!(!shard.knows("never learnt"));
}

fuzz_target!(|steps: Run| run(steps));
