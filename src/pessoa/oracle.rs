//! A second opinion on every body, from serde_json and the contract's words alone. It shares no code with the decoder
//! but the limits.

use std::fmt;

use proptest::{collection::vec, prelude::*, sample::select};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use uuid::Uuid;

use super::*;
use crate::limits::{APELIDO_CHARS_MAX, JSON_DEPTH_MAX, NOME_CHARS_MAX, STACK_ITEM_CHARS_MAX};

/// What the contract says of a body.
#[derive(Debug, PartialEq)]
enum Verdict {
    Malformed,
    Invalid,
    /// The members as they are shown.
    Accepted(Value),
}

/// An object's members in their order, repeated names included: serde_json's own map would keep only the last of them.
struct Members(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(object: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Members;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Members, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = members.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Members(pairs))
            }
        }
        object.deserialize_map(Pairs)
    }
}

/// Arrays and objects around the deepest value, counted from the root object.
fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

fn is_real_date(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let [year, month, day] = parts[..] else {
        return false;
    };
    if text.len() != 10 || year.len() != 4 || month.len() != 2 || text.contains('+') {
        return false;
    }
    let (Ok(year), Ok(month), Ok(day)) = (year.parse::<u32>(), month.parse::<u32>(), day.parse::<u32>())
    else {
        return false;
    };
    let february = if year % 400 == 0 || (year % 4 == 0 && year % 100 != 0) { 29 } else { 28 };
    let days = match month {
        2 => february,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => 0,
    };
    (1..=9999).contains(&year) && (1..=days).contains(&day)
}

/// `None` for a body that serde_json cannot judge: it refuses a number outside its range, which is valid JSON.
fn oracle(body: &[u8]) -> Option<Verdict> {
    let members = match serde_json::from_slice::<Members>(body) {
        Ok(Members(members)) => members,
        Err(error) if error.to_string().contains("number out of range") => return None,
        Err(_) => return Some(Verdict::Malformed),
    };
    let is_fit = |value: &Value, chars_max: usize| {
        let text = value.as_str().unwrap_or_default();
        (1..=chars_max).contains(&text.chars().count()) && !text.contains('\0')
    };
    let mut shown = serde_json::json!({ "id": Uuid::nil().to_string(), "stack": null });
    let (mut malformed, mut invalid) = (false, false);
    for (index, (name, value)) in members.iter().enumerate() {
        malformed |= members[..index].iter().any(|(earlier, _)| earlier == name);
        malformed |= 1 + depth(value) > JSON_DEPTH_MAX;
        let keeps_its_rule = match name.as_str() {
            "apelido" | "nome" | "nascimento" => {
                malformed |= !value.is_string() && !value.is_null();
                match name.as_str() {
                    "apelido" => is_fit(value, APELIDO_CHARS_MAX),
                    "nome" => is_fit(value, NOME_CHARS_MAX),
                    _ => is_real_date(value.as_str().unwrap_or_default()),
                }
            }
            "stack" => match value {
                Value::Null => true,
                Value::Array(items) => {
                    malformed |= items.iter().any(|item| !item.is_string());
                    items.iter().all(|item| is_fit(item, STACK_ITEM_CHARS_MAX))
                }
                _ => {
                    malformed = true;
                    true
                }
            },
            _ => continue,
        };
        invalid |= !keeps_its_rule;
        shown[name] = value.clone();
    }
    invalid |= ["apelido", "nome", "nascimento"].iter().any(|name| shown.get(name).is_none());
    Some(match (malformed, invalid) {
        (true, _) => Verdict::Malformed,
        (false, true) => Verdict::Invalid,
        (false, false) => Verdict::Accepted(shown),
    })
}

fn verdict(body: &[u8]) -> Verdict {
    match decode(body) {
        Err(Refusal::Malformed(_)) => Verdict::Malformed,
        Err(Refusal::Invalid(_)) => Verdict::Invalid,
        Ok(candidate) => {
            let pessoa = candidate.into_pessoa(Uuid::nil());
            let mut rendered = Vec::new();
            pessoa.render(&mut rendered);
            // The rendered bytes decode to the same pessoa, which renders to the same bytes.
            let again = decode(&rendered).unwrap().into_pessoa(Uuid::nil());
            let mut rendered_again = Vec::new();
            again.render(&mut rendered_again);
            assert_eq!((&pessoa, &rendered), (&again, &rendered_again));
            // The row of the pessoa becomes the same pessoa.
            let items = pessoa.stack.as_ref().map(Stack::items);
            let days = pessoa.nascimento.days_since_2000();
            assert_eq!(
                Pessoa::from_columns(pessoa.id, &pessoa.apelido, &pessoa.nome, days, items).as_ref(),
                Ok(&pessoa)
            );
            let mut search_text = Vec::new();
            pessoa.search_text(&mut search_text);
            let fields = 2 + pessoa.stack.as_ref().map_or(0, Stack::len);
            assert_eq!(search_text.split(|&byte| byte == 0).count(), fields);
            Verdict::Accepted(serde_json::from_slice(&rendered).unwrap())
        }
    }
}

/// `text` as a valid JSON string; `escapes` tells in turns which characters are escaped though they need not be.
fn quoted(text: &str, escapes: &[bool]) -> String {
    let mut out = String::from("\"");
    for (index, character) in text.chars().enumerate() {
        let escape = !escapes.is_empty() && escapes[index % escapes.len()];
        if escape || character < ' ' || matches!(character, '"' | '\\') {
            for unit in character.encode_utf16(&mut [0; 2]) {
                out += &format!("\\u{unit:04x}");
            }
        } else {
            out.push(character);
        }
    }
    out + "\""
}

fn string() -> impl Strategy<Value = String> {
    let text = prop_oneof![
        4 => "\\PC{1,8}",
        2 => "[ -~\u{0}-\u{1f}é🦀]{0,40}",
        2 => "[aé🦀]{31,34}",
        1 => "[aé🦀]{99,102}",
        1 => Just(String::new()),
    ];
    (text, vec(any::<bool>(), 0..4)).prop_map(|(text, escapes)| quoted(&text, &escapes))
}

fn date() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => (0..10_001_u32, 0..14_u32, 0..33_u32).prop_map(|(y, m, d)| format!("\"{y:04}-{m:02}-{d:02}\"")),
        4 => (1..=9999_u32, 1..=12_u32, 1..=28_u32).prop_map(|(y, m, d)| format!("\"{y:04}-{m:02}-{d:02}\"")),
        1 => (1..3000_u32, 1..13_u32, 1..29_u32).prop_map(|(y, m, d)| format!("\"{y}-{m}-{d}\"")),
    ]
}

fn value() -> impl Strategy<Value = String> {
    let scalar = prop_oneof![
        select(vec!["null", "true", "false", "0", "-0", "10", "-1.5", "1E+2", "0.001e-7"])
            .prop_map(str::to_owned),
        "-?(0|[1-9][0-9]{0,70})(\\.[0-9]{1,40})?([eE][-+]?[0-9]{1,2})?",
        string(),
    ];
    scalar.prop_recursive(4, 24, 5, |value| {
        prop_oneof![
            (space(), vec(value.clone(), 0..5))
                .prop_map(|(space, items)| format!("[{space}{}{space}]", items.join(&format!("{space},")))),
            (space(), vec((string(), value), 0..5)).prop_map(|(space, members)| object(&members, space)),
        ]
    })
}

fn space() -> impl Strategy<Value = &'static str> {
    select(vec!["", "", "", " ", "\n\t", "\r\n  "])
}

fn object(members: &[(String, String)], space: &str) -> String {
    let members: Vec<String> =
        members.iter().map(|(name, value)| format!("{name}{space}:{space}{value}{space}")).collect();
    format!("{{{space}{}}}", members.join(&format!(",{space}")))
}

/// Objects with the API's members, most of them right, some absent, wrong or twice.
fn body() -> impl Strategy<Value = String> {
    let short = "[ -~é🦀]{1,30}".prop_map(|text| quoted(&text, &[]));
    let item = prop_oneof![16 => short.clone(), 1 => string(), 1 => value()];
    let stack = prop_oneof![
        6 => (space(), vec(item, 0..5)).prop_map(|(space, items)| format!("[{}]", items.join(&format!("{space},{space}")))),
        2 => Just("null".to_owned()),
        1 => value(),
    ];
    let text = prop_oneof![12 => short, 4 => string(), 1 => value()];
    let nascimento = prop_oneof![12 => date(), 1 => value()];
    let name = |name: &'static str| vec(any::<bool>(), 0..3).prop_map(move |escapes| quoted(name, &escapes));
    let often = || prop::bool::weighted(0.95);
    let members = (
        (name("apelido"), text.clone(), often()),
        (name("nome"), text, often()),
        (name("nascimento"), nascimento, often()),
        (name("stack"), stack, any::<bool>()),
        vec(
            (
                prop_oneof![8 => string(), 1 => select(vec!["apelido", "nome", "stack", "x"]).prop_map(|name| quoted(name, &[]))],
                value(),
            ),
            0..3,
        ),
    );
    let members = members.prop_map(|(apelido, nome, nascimento, stack, others)| {
        let known = [apelido, nome, nascimento, stack];
        let known = known.into_iter().filter_map(|(name, value, present)| present.then_some((name, value)));
        known.chain(others).collect::<Vec<_>>()
    });
    (members.prop_shuffle(), space())
        .prop_map(|(members, space)| format!("{space}{}{space}", object(&members, space)))
}

/// What a mutation inserts: bytes that mean something to JSON or to UTF-8.
fn fragment() -> impl Strategy<Value = Vec<u8>> {
    let known: Vec<&[u8]> = vec![
        b"\"",
        b"\\",
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"0",
        b"1",
        b"-",
        b".",
        b"e",
        b"u",
        b" ",
        b"\n",
        b"\0",
        b"\x7f",
        b"\x80",
        b"\xc3",
        b"\xff",
        b"\xef\xbb\xbf",
        b"\\u",
        b"\\ud800",
        b"\\udc00",
        b"\\u0000",
        b"\\x",
        b"null",
        b"true",
        b"\"\"",
        b"\"x\":1,",
        b"",
    ];
    prop_oneof![8 => select(known).prop_map(<[u8]>::to_vec), 1 => any::<u8>().prop_map(|byte| vec![byte])]
}

fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let mutations = vec((any::<prop::sample::Index>(), 0..3_usize, fragment()), 1..4);
    (body(), mutations).prop_map(|(body, mutations)| {
        let mut body = body.into_bytes();
        for (at, removed, inserted) in mutations {
            let at = at.index(body.len() + 1);
            let end = (at + removed).min(body.len());
            body.splice(at..end, inserted);
        }
        body
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn bodies(body in body()) {
        // The two may differ in nothing but serde_json's range of numbers.
        if let Some(expected) = oracle(body.as_bytes()) {
            prop_assert_eq!(verdict(body.as_bytes()), expected);
        }
    }

    #[test]
    fn mutated_bodies(body in mutated()) {
        if let Some(expected) = oracle(&body) {
            prop_assert_eq!(verdict(&body), expected);
        }
    }

    #[test]
    fn bodies_that_are_any_value(body in value()) {
        if let Some(expected) = oracle(body.as_bytes()) {
            prop_assert_eq!(verdict(body.as_bytes()), expected);
        }
    }

    #[test]
    fn every_truncation_of_a_body(body in body()) {
        let body = body.trim_end();
        for end in (0..body.len()).step_by(1 + body.len() / 64) {
            prop_assert_eq!(verdict(&body.as_bytes()[..end]), Verdict::Malformed);
        }
    }

    #[test]
    fn fragments(fragments in vec(fragment(), 0..40)) {
        let body = fragments.concat();
        if let Some(expected) = oracle(&body) {
            prop_assert_eq!(verdict(&body), expected);
        }
    }

    #[test]
    fn any_bytes(body in vec(any::<u8>(), 0..200)) {
        if let Some(expected) = oracle(&body) {
            prop_assert_eq!(verdict(&body), expected);
        }
    }

    #[test]
    fn dates(text in "[0-9]{4}-[01][0-9]-[0-3][0-9]|[-0-9]{10}|\\PC{0,12}") {
        prop_assert_eq!(BirthDate::parse(text.as_bytes()).is_ok(), is_real_date(&text));
    }
}
