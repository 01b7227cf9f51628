use std::collections::HashSet;

use serde_json::Value;

use super::*;

/// As many as the contest ships.
const PAYLOADS: usize = 100_000;
const TERMS: usize = 5_000;
/// The creates of one run of the contest, and the rows that a correct server then has.
const CREATES: usize = 54_635;
const ROWS: usize = 46_576;

fn payloads(seed: u64) -> Vec<Value> {
    let mut random = Random(seed);
    (0..PAYLOADS).map(|_| serde_json::from_str(&random.payload()).expect("JSON")).collect()
}

fn chars(payload: &Value, member: &str) -> usize {
    payload[member].as_str().expect("a string").chars().count()
}

/// Year, month and day as drawn; None for garbage.
fn date(payload: &Value) -> Option<(u32, u32, u32)> {
    let mut parts = payload["nascimento"].as_str().expect("a string").splitn(3, '-').map(str::parse);
    let date = (parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?);
    (date.0 >= 1000).then_some(date)
}

fn is_calendar_date((year, month, day): (u32, u32, u32)) -> bool {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    month <= 12 && (month != 2 || day < 29 || leap)
}

fn has_valid_stack(payload: &Value) -> bool {
    match &payload["stack"] {
        Value::Null => true,
        Value::Array(items) => items.iter().all(|item| item.as_str().is_some_and(|item| item.len() <= 32)),
        _ => false,
    }
}

fn is_valid(payload: &Value) -> bool {
    chars(payload, "apelido") <= 32
        && chars(payload, "nome") <= 100
        && date(payload).is_some_and(is_calendar_date)
        && has_valid_stack(payload)
}

/// Rows that a correct server has after these creates.
fn rows(payloads: &[Value]) -> usize {
    let valid = payloads.iter().filter(|payload| is_valid(payload));
    valid.map(|payload| payload["apelido"].as_str()).collect::<HashSet<_>>().len()
}

#[test]
fn each_share_is_the_contests() {
    let payloads = payloads(2023);
    // The count's standard deviation is at most sqrt(n * p); five of them.
    let check = |what: &str, share: f64, holds: &dyn Fn(&Value) -> bool| {
        let (count, expected) =
            (payloads.iter().filter(|payload| holds(payload)).count() as f64, PAYLOADS as f64 * share);
        let tolerance = 5.0 * expected.sqrt();
        assert!(
            (count - expected).abs() < tolerance,
            "{what}: {count}, expected {expected:.0} ± {tolerance:.0}"
        );
    };
    let fault = 1.0 / 99.0;
    check("apelido of 35", fault, &|payload| chars(payload, "apelido") == 35);
    check("apelido of one letter", (1.0 - fault) / 32.0, &|payload| chars(payload, "apelido") == 1);
    check("apelido of 32", (1.0 - fault) / 32.0, &|payload| chars(payload, "apelido") == 32);
    check("nome of 120", fault, &|payload| chars(payload, "nome") == 120);
    check("nome of 100", (1.0 - fault) / 100.0, &|payload| chars(payload, "nome") == 100);
    check("only spaces", 1.0 / 99.0 / 53.0, &|payload| {
        payload["nome"].as_str().is_some_and(|nome| nome.trim().is_empty())
    });
    check("garbage for a date", fault, &|payload| date(payload).is_none());
    check("month 13", (1.0 - fault) / 13.0, &|payload| date(payload).is_some_and(|date| date.1 == 13));
    check("29 February", (1.0 - fault) / 13.0 / 29.0, &|payload| {
        date(payload).is_some_and(|date| date.1 == 2 && date.2 == 29)
    });
    check("born in 1940", (1.0 - fault) / 81.0, &|payload| date(payload).is_some_and(|date| date.0 == 1940));
    check("born in 2020", (1.0 - fault) / 81.0, &|payload| date(payload).is_some_and(|date| date.0 == 2020));
    check("stack null", (1.0 - fault) / 14.0, &|payload| payload["stack"].is_null());
    check("stack invalid", fault, &|payload| !has_valid_stack(payload));
    check("26 items", (1.0 - fault) * 13.0 / 14.0 / 26.0, &|payload| {
        payload["stack"].as_array().is_some_and(|items| items.len() == 26)
    });
    check("all valid", 0.884, &is_valid);
}

#[test]
fn a_correct_server_ends_with_the_contests_rows() {
    for seed in [1, 2, 2023] {
        let payloads = payloads(seed);
        let rows = rows(&payloads[..CREATES]);
        assert!(rows.abs_diff(ROWS) < ROWS / 100, "seed {seed}: {rows} rows");
        let apelidos: HashSet<&str> =
            payloads[..CREATES].iter().filter_map(|payload| payload["apelido"].as_str()).collect();
        let repeats = 1.0 - apelidos.len() as f64 / CREATES as f64;
        assert!((0.030..0.042).contains(&repeats), "seed {seed}: {repeats} of the apelidos repeat");
    }
}

#[test]
fn a_repeat_of_the_seed_repeats_the_payloads() {
    let first = |seed| Random(seed).payload();
    assert_eq!(first(7), first(7));
    assert_ne!(first(7), first(8));
}

#[test]
fn terms_are_of_each_length_and_mostly_match_nothing() {
    let mut random = Random(2023);
    let terms: Vec<String> = (0..TERMS).map(|_| random.term()).collect();
    let lengths: HashSet<usize> = terms.iter().map(String::len).collect();
    assert_eq!(lengths, (1..=50).collect());
    assert!(terms.iter().all(|term| term.bytes().all(|byte| byte == b'+' || byte.is_ascii_alphabetic())));

    // The texts of a tenth of a run will do: the share of terms that match grows slowly with the rows.
    let texts: Vec<String> =
        (0..4_000).map(|_| format!("{}\0{}", random.apelido(), random.nome()).to_lowercase()).collect();
    let matches = |term: &&String| {
        let term = term.replace('+', " ").to_lowercase();
        texts.iter().any(|text| text.contains(&term))
    };
    let unmatched = 1.0 - terms[..1_000].iter().filter(matches).count() as f64 / 1_000.0;
    assert!((0.87..0.95).contains(&unmatched), "{unmatched} match nothing");
}
