//! Measures one core's shard: time per operation, memory per pessoa. Knows only the crate's public API.
//!
//! `cargo run --release --example shard_bench [pessoas, 50000 by default]`. The pessoas follow the contest's
//! payload generator, from a fixed seed. A sample of the answers is compared with a plain scan.

use contest::{LETTERS, LETTERS_AND_SPACE, Random, TECHNOLOGIES};
use memchr::memmem;
use rinha::pessoa::lower;
use rinha::shard::{Found, Lookup, NoAnswer, Shard};
use std::hint::black_box;
use std::time::Instant;
use uuid::Uuid;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct Pessoa {
    id: Uuid,
    apelido: String,
    nome: String,
    search_text: Vec<u8>,
    body: String,
}

fn pessoa(random: &mut Random, millis: u64) -> Pessoa {
    let (apelido, nome, stack) = (random.apelido(), random.nome(), random.stack());
    let id = Uuid::from_u64_pair(millis << 16 | 0x7000 | random.next() & 0xfff, random.next() >> 2 | 1 << 63);
    let mut search_text = Vec::new();
    lower(&apelido, &mut search_text);
    search_text.push(0);
    lower(&nome, &mut search_text);
    for item in stack.iter().flatten() {
        search_text.push(0);
        lower(item, &mut search_text);
    }
    let stack = stack.map_or("null".to_owned(), |stack| format!("{stack:?}").replace(", ", ","));
    let body = format!(
        r#"{{"id":"{id}","apelido":"{apelido}","nome":"{nome}","nascimento":"1985-09-23","stack":{stack}}}"#
    );
    Pessoa { id, apelido, nome, search_text, body }
}

/// The plain scan: whether the shard's answer is one it could give.
fn check(pessoas: &[Pessoa], term: &str, found: &[Found]) {
    let finder = memmem::Finder::new(term);
    let mut matching: Vec<Uuid> = pessoas
        .iter()
        .filter(|pessoa| finder.find(&pessoa.search_text).is_some())
        .map(|pessoa| pessoa.id)
        .collect();
    matching.sort_unstable();
    assert!(found.is_sorted_by(|a, b| a.id < b.id));
    assert_eq!(found.len(), matching.len().min(50), "{term:?}");
    assert!(found.iter().all(|found| matching.binary_search(&found.id).is_ok()), "{term:?}");
}

fn line(name: &str, mut nanos: Vec<u64>, note: &str) {
    nanos.sort_unstable();
    let at = |permille: usize| nanos[(nanos.len() - 1) * permille / 1000];
    println!("{name:34} {:>8} {:>8} {:>8} {:>9}  {note}", at(500), at(990), at(999), nanos[nanos.len() - 1]);
}

fn timed<T>(nanos: &mut Vec<u64>, run: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = black_box(run());
    nanos.push(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX));
    result
}

fn searches(shard: &Shard, pessoas: &[Pessoa], name: &str, terms: &[String]) {
    let (mut found, mut nanos, mut total) = (Vec::new(), Vec::new(), 0);
    let cpu = on_cpu();
    for term in terms {
        _ = black_box(shard.search(black_box(term.as_bytes()), &mut found));
    }
    let cpu = (on_cpu() - cpu) / terms.len() as u64;
    let checked = (40_000_000 / (pessoas.len() + 1)).clamp(3, 200);
    for (i, term) in terms.iter().enumerate() {
        timed(&mut nanos, || shard.search(black_box(term.as_bytes()), &mut found))
            .expect("everything is in memory");
        total += found.len();
        if i < checked {
            check(pessoas, term, &found);
        }
    }
    line(name, nanos, &format!("{cpu:>6} ns CPU, {:.2} results", total as f64 / terms.len() as f64));
}

/// Time this thread was on a CPU, in nanoseconds: on a busy machine the clock above also measures the neighbours.
fn on_cpu() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    stat.split_whitespace().next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0)
}

fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse::<usize>().ok()
    };
    field("RssAnon:").unwrap_or(0) * 1024
}

fn main() {
    let count = std::env::args().nth(1).map_or(50_000, |count| count.parse().expect("how many pessoas"));
    let mut random = Random(2023);
    let pessoas: Vec<Pessoa> =
        (0..count).map(|i| pessoa(&mut random, 1_700_000_000_000 + i as u64 / 10)).collect();

    if let Some(mode) = std::env::args().nth(2) {
        return fill(&pessoas, &mode);
    }
    let before = resident();
    let mut shard = Shard::new(16 << 30);
    let (mut inserts, mut learns) = (Vec::with_capacity(count), Vec::with_capacity(count));
    let mut slowest = Vec::with_capacity(count);
    let cpu = on_cpu();
    for (i, pessoa) in pessoas.iter().enumerate() {
        assert!(timed(&mut inserts, || shard.insert(pessoa.id, &pessoa.search_text, pessoa.body.as_bytes())));
        timed(&mut learns, || shard.learn(&pessoa.apelido));
        slowest.push((inserts[i], i));
    }
    let cpu = (on_cpu() - cpu) / count as u64;
    let resident = resident() - before - (8 + 8 + 16) * count;
    slowest.sort_unstable_by(|a, b| b.cmp(a));
    println!("{count} pessoas; ns                      p50      p99    p99.9       max");
    line("insert", inserts.clone(), "");
    line("insert, first tenth", inserts[..count / 10].to_vec(), "");
    line("learn", learns, "");
    println!("insert and learn, mean CPU time: {cpu} ns");
    println!("slowest inserts (ns, at): {:?}", &slowest[..8]);

    let (mut gets, mut knows) = (Vec::new(), Vec::new());
    for _ in 0..100_000 {
        let pessoa = &pessoas[random.below(count)];
        let body = timed(&mut gets, || shard.get(black_box(&pessoa.id)));
        assert_eq!(body, Lookup::Body(pessoa.body.as_bytes()));
        assert!(timed(&mut knows, || shard.knows(black_box(&pessoa.apelido))));
    }
    line("get", gets, "");
    line("knows", knows, "");
    let mut empty = Vec::new();
    (0..100_000).for_each(|_| timed(&mut empty, || ()));
    line("(the clock itself)", empty, "");

    let lowered = |text: &str| {
        let mut out = Vec::new();
        lower(text, &mut out);
        String::from_utf8(out).expect("lower keeps UTF-8")
    };
    let many = |n: usize, mut term: Box<dyn FnMut() -> String + '_>| -> Vec<String> {
        (0..n).map(|_| term()).collect()
    };
    let repeat = |terms: &[&str], n: usize| -> Vec<String> {
        (0..n).map(|i| terms[i % terms.len()].to_owned()).collect()
    };
    let run = |name: &str, terms: Vec<String>| searches(&shard, &pessoas, name, &terms);

    let mut a = Random(1);
    run(
        "random, 1-50 letters and spaces",
        many(
            20_000,
            Box::new(|| {
                let length = 1 + a.below(50);
                lowered(&a.letters(LETTERS_AND_SPACE, length))
            }),
        ),
    );
    run(
        "random, 6-50 (no match)",
        many(
            20_000,
            Box::new(|| {
                let length = 6 + a.below(45);
                lowered(&a.letters(LETTERS_AND_SPACE, length))
            }),
        ),
    );
    run("random, 4 letters", many(20_000, Box::new(|| lowered(&a.letters(LETTERS, 4)))));
    run("random, 300 letters", many(2_000, Box::new(|| lowered(&a.letters(LETTERS, 300)))));
    run(
        "glued items",
        repeat(&["mysqlite", "nodejava", "postgresqlite", "javascripts", "rubyrust", "postgresqlx"], 20_000),
    );
    let changed = |random: &mut Random, text: &str| {
        let mut bytes = lowered(text).into_bytes();
        let at = random.below(bytes.len());
        bytes[at] = if bytes[at] == b'q' { b'k' } else { b'q' };
        String::from_utf8(bytes).expect("ASCII")
    };
    let long: Vec<&Pessoa> = pessoas.iter().filter(|pessoa| pessoa.nome.len() > 5).collect();
    run(
        "nome, one letter changed",
        many(
            20_000,
            Box::new(|| {
                let nome = &long[a.below(long.len())].nome;
                changed(&mut a, nome)
            }),
        ),
    );
    run(
        "item, last letter changed",
        many(
            20_000,
            Box::new(|| {
                let item = TECHNOLOGIES[a.below(TECHNOLOGIES.len())];
                lowered(&format!("{}z", &item[..item.len() - 1]))
            }),
        ),
    );
    run("empty", repeat(&[""], 10_000));
    run("1 letter", many(10_000, Box::new(|| lowered(&a.letters(LETTERS_AND_SPACE, 1)))));
    run("2 letters", many(10_000, Box::new(|| lowered(&a.letters(LETTERS_AND_SPACE, 2)))));
    run("3 letters", many(10_000, Box::new(|| lowered(&a.letters(LETTERS, 3)))));
    run("nome, whole", many(20_000, Box::new(|| lowered(&long[a.below(long.len())].nome))));
    run("nome, 5 letters of it", many(20_000, Box::new(|| lowered(&long[a.below(long.len())].nome[1..6]))));
    run("item, whole", repeat(&["postgresql", "mysql", "rust", "typescript"], 10_000));
    run("item, part", repeat(&["postgres", "script", "sql", "java"], 10_000));
    run("8 KiB", repeat(&[&"a".repeat(8192)], 1_000));

    let memory = shard.memory();
    let each = |bytes: usize| bytes / count;
    println!(
        "bytes a pessoa: bodies {} texts {} index {} apelidos {} ids {} total {}; resident {}; payload: body {} search text {}",
        each(memory.bodies),
        each(memory.texts),
        each(memory.index),
        each(memory.apelidos),
        each(memory.ids),
        each(memory.total),
        each(resident),
        each(pessoas.iter().map(|pessoa| pessoa.body.len()).sum()),
        each(pessoas.iter().map(|pessoa| pessoa.search_text.len()).sum()),
    );
    println!("resident MiB before/after: {} / {}", before >> 20, (before + resident) >> 20);
    hostile();
}

/// Only fills a shard: by inserts, as a core does for creates, or by a bulk load, as it does at its start.
fn fill(pessoas: &[Pessoa], mode: &str) {
    let bulk = mode == "bulk";
    let (before, cpu) = (resident(), on_cpu());
    let mut shard = if bulk { Shard::for_bulk_load(16 << 30) } else { Shard::new(16 << 30) };
    for pessoa in pessoas {
        shard.learn(&pessoa.apelido);
        shard.insert(pessoa.id, &pessoa.search_text, pessoa.body.as_bytes());
    }
    if bulk {
        shard.end_bulk_load();
    }
    let cpu = (on_cpu() - cpu) / pessoas.len() as u64;
    let memory = shard.memory().total / pessoas.len();
    let resident = (resident() - before) / pessoas.len();
    println!("{mode}: {cpu} ns CPU a pessoa; bytes a pessoa: {memory} allocated, {resident} resident");
}

/// What the bounds of a search and of an insert amount to in time.
fn hostile() {
    let mut shard = Shard::new(16 << 30);
    let (mut random, mut inserts, mut found) = (Random(5), Vec::new(), Vec::new());
    for id in 0..100 {
        let items: Vec<String> =
            (0..6_500).map(|_| random.letters(b"abcdefghijklmnopqrstuvwxyz0123456789", 6)).collect();
        let text = format!("apelido\0nome\0{}", items.join("\0"));
        timed(&mut inserts, || shard.insert(Uuid::from_u128(id), text.as_bytes(), b"{}"));
    }
    line("insert, 6,500 distinct items", inserts, "");
    for id in 1_000..121_000 {
        let text = format!("{}\0{} abaxbab", random.letters(LETTERS, 16), random.letters(LETTERS, 50))
            .to_lowercase();
        shard.insert(Uuid::from_u128(id), text.as_bytes(), b"{}");
    }
    let mut searches = Vec::new();
    for _ in 0..20 {
        let outcome = timed(&mut searches, || shard.search(b"abab", &mut found));
        assert_eq!(outcome, Err(NoAnswer::TooCostly));
    }
    line("search that gives up", searches, "");
}
