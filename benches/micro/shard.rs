//! One core's memory: inserts, lookups, and searches by kind of term and number of pessoas, beside a scan by memchr's
//! memmem.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BatchSize, BenchmarkId, Criterion};
use memchr::memmem;
use rinha::people::Minter;
use rinha::people::shard::{Found, Lookup, NoAnswer, Shard};
use rinha::pessoa::{Pessoa, Record, lower};
use uuid::Uuid;

use crate::checks_only;
use contest::{LETTERS, LETTERS_AND_SPACE, Random, TECHNOLOGIES};

const BUDGET: usize = 16 << 30;
/// How many terms there are of each kind that is made; they are asked in turns.
const TERMS: usize = 1000;

pub(crate) fn bench(criterion: &mut Criterion) {
    let largest = std::env::var("MICRO_PESSOAS")
        .map_or(1_000_000, |count| count.parse().expect("MICRO_PESSOAS is a number"));
    let largest = if checks_only() { largest.min(2000) } else { largest };
    let records: Vec<Record> = Pessoas::new().take(largest).collect();
    for size in [1000, 10_000, 100_000, 1_000_000].into_iter().filter(|&size| size <= largest) {
        let records = &records[..size];
        let shard = filled(records);
        inserts(criterion, records, &shard);
        searches(criterion, records, &shard);
    }
    hostile(criterion);
}

/// Pessoas like the contest's, from a fixed seed.
struct Pessoas {
    random: Random,
    minter: Minter,
}

impl Pessoas {
    fn new() -> Pessoas {
        Pessoas { random: Random(2023), minter: Minter::new().expect("randomness") }
    }
}

impl Iterator for Pessoas {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        let Pessoas { random, minter } = self;
        let (apelido, nome, stack) = (random.apelido(), random.nome(), random.stack());
        let days = i32::try_from(random.below(7000)).expect("small");
        let pessoa = Pessoa::from_columns(minter.mint(&apelido), &apelido, &nome, days, stack);
        Some(Record::new(pessoa.expect("a valid pessoa")))
    }
}

fn add(shard: &mut Shard, record: &Record) {
    shard.learn(&record.pessoa.apelido);
    assert!(shard.insert(record.pessoa.id, &record.search_text, &record.json), "its id is new");
}

fn filled(records: &[Record]) -> Shard {
    let mut shard = Shard::for_bulk_load(BUDGET);
    records.iter().for_each(|record| add(&mut shard, record));
    shard.end_bulk_load();
    assert_eq!(shard.len(), records.len());
    shard
}

fn inserts(criterion: &mut Criterion, records: &[Record], shard: &Shard) {
    let size = records.len();
    // What a create costs a core that has so many pessoas already. The shard grows during the bench, by as many inserts
    // as criterion wants to measure.
    let (mut growing, mut more) = (filled(records), Pessoas { random: Random(9), ..Pessoas::new() });
    criterion.bench_function(&format!("shard/insert/{size}"), |bencher| {
        bencher.iter_batched_ref(
            || more.next().expect("there is no last one"),
            |record| add(&mut growing, record),
            BatchSize::LargeInput,
        );
    });
    let (mut random, mut body) = (Random(3), Vec::with_capacity(4096));
    criterion.bench_function(&format!("shard/get/{size}"), |bencher| {
        bencher.iter_batched(
            || &records[random.below(size)],
            |record| {
                let Lookup::Body(found) = shard.get(&record.pessoa.id) else { panic!("expected a body") };
                body.clear();
                found.write(&mut body);
                assert_eq!(body, *record.json);
            },
            BatchSize::SmallInput,
        );
    });
    // A whole load. Larger ones are left out, because criterion would repeat them for too long.
    if size <= 10_000 {
        criterion.bench_function(&format!("shard/bulk load/{size}"), |bencher| {
            bencher.iter_custom(|loads| {
                let mut time = Duration::ZERO;
                for _ in 0..loads {
                    let began = Instant::now();
                    black_box(filled(records));
                    time += began.elapsed();
                }
                time
            });
        });
    }
}

fn searches(criterion: &mut Criterion, records: &[Record], shard: &Shard) {
    let mut group = criterion.benchmark_group(format!("shard/search/{}", records.len()));
    let mut found = Vec::new();
    for (kind, terms) in kinds(records) {
        // The scan is slow, and a few terms convict a wrong index as well as many.
        for term in terms.iter().take((20_000_000 / records.len()).clamp(3, 100)) {
            shard.search(term.as_bytes(), &mut found).expect("all is in memory");
            check(records, term, &found);
        }
        let mut next = terms.iter().cycle();
        group.bench_function(BenchmarkId::new("rinha", kind), |bencher| {
            bencher.iter(|| {
                let term = next.next().expect("a cycle");
                shard.search(black_box(term.as_bytes()), &mut found)
            });
        });
    }
    // One kind of term is enough, because a scan costs the same for all that match nothing.
    if records.len() <= 10_000 {
        let finder = memmem::Finder::new("zqxjwvkq");
        group.bench_function(BenchmarkId::new("memmem", "no match"), |bencher| {
            bencher.iter(|| scan(records, black_box(&finder)))
        });
    }
}

fn scan<'a>(records: &'a [Record], finder: &memmem::Finder<'_>) -> Vec<&'a Uuid> {
    let matches = |record: &&Record| finder.find(&record.search_text).is_some();
    records.iter().filter(matches).map(|record| &record.pessoa.id).collect()
}

/// Asserts that the shard's answer is right: 50 of the pessoas that match, or all if they are fewer, in ascending
/// order.
fn check(records: &[Record], term: &str, found: &[Found]) {
    let mut matching = scan(records, &memmem::Finder::new(term));
    matching.sort_unstable();
    assert!(found.is_sorted_by(|a, b| a.id < b.id));
    assert_eq!(found.len(), matching.len().min(50), "{term:?}");
    assert!(found.iter().all(|found| matching.binary_search(&&found.id).is_ok()), "{term:?}");
}

/// Terms by what they have in common; lower-cased.
fn kinds(records: &[Record]) -> Vec<(&'static str, Vec<String>)> {
    let lowered = |text: &str| {
        let mut out = Vec::new();
        lower(text, &mut out);
        String::from_utf8(out).expect("lower keeps UTF-8")
    };
    let mut random = Random(1);
    let mut letters = |alphabet: &[u8], least: usize, spread: usize| -> Vec<String> {
        let mut term = || {
            let length = least + random.below(spread);
            lowered(&random.letters(alphabet, length))
        };
        (0..TERMS).map(|_| term()).collect()
    };
    let named = |terms: &[&str]| terms.iter().map(|term| (*term).to_owned()).collect::<Vec<_>>();
    let nomes =
        || records.iter().map(|record| &*record.pessoa.nome).filter(|nome| nome.len() > 5).take(TERMS);
    // One letter in the middle of a nome is another one: all other trigrams are there.
    let changed = |nome: &str| {
        let (before, after) = nome.split_at(nome.len() / 2);
        lowered(&format!("{before}{}{}", if after.starts_with(['q', 'Q']) { 'k' } else { 'q' }, &after[1..]))
    };
    vec![
        ("contest's, 1 to 50", letters(LETTERS_AND_SPACE, 1, 50)),
        ("no match, 6 to 50", letters(LETTERS_AND_SPACE, 6, 45)),
        ("1 letter", letters(LETTERS, 1, 1)),
        ("2 letters", letters(LETTERS, 2, 1)),
        ("3 letters", letters(LETTERS, 3, 1)),
        ("4 letters", letters(LETTERS, 4, 1)),
        ("nome, whole", nomes().map(lowered).collect()),
        ("nome, 5 letters of it", nomes().map(|nome| lowered(&nome[1..6])).collect()),
        ("nome, a letter changed", nomes().map(changed).collect()),
        ("item, whole", TECHNOLOGIES.iter().map(|item| lowered(item)).collect()),
        ("item, part", named(&["postgres", "script", "sql", "java"])),
        ("items glued", named(&["mysqlite", "nodejava", "postgresqlite", "javascripts", "rubyrust"])),
        ("8 KiB", vec!["a".repeat(8192)]),
    ]
}

/// The time of a search that gives up at its bound: many texts have all of the term's trigrams and not the term.
fn hostile(criterion: &mut Criterion) {
    let (mut shard, mut random, mut found) = (Shard::new(BUDGET), Random(5), Vec::new());
    for id in 0..121_000 {
        let text = format!("{}\0{} abaxbab", random.letters(LETTERS, 16), random.letters(LETTERS, 50))
            .to_lowercase();
        shard.insert(Uuid::from_u128(id), text.as_bytes(), b"{}");
    }
    assert_eq!(shard.search(b"abab", &mut found), Err(NoAnswer::TooCostly));
    criterion.bench_function("shard/search that gives up", |bencher| {
        bencher.iter(|| shard.search(black_box(b"abab"), &mut found));
    });
}
