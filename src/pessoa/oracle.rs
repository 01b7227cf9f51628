//! Bodies of all kinds, judged twice: by the decoder, and by a reading that shares no code with it.

mod judge;

use judge::{expected, is_real_date, verdict};
use proptest::{collection::vec, prelude::*, sample::select};

use super::BirthDate;

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
        "-?(0|[1-9][0-9]{0,70})(\\.[0-9]{1,40})?([eE][-+]?[0-9]{1,4})?",
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
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 1 } else { 1024 }))]

    #[test]
    fn bodies(body in body()) {
        prop_assert_eq!(verdict(body.as_bytes()), expected(body.as_bytes()));
    }

    #[test]
    fn mutated_bodies(body in mutated()) {
        prop_assert_eq!(verdict(&body), expected(&body));
    }

    #[test]
    fn bodies_that_are_any_value(body in value()) {
        prop_assert_eq!(verdict(body.as_bytes()), expected(body.as_bytes()));
    }

    #[test]
    fn every_truncation_of_a_body(body in body()) {
        let body = body.trim_end();
        for end in (0..body.len()).step_by(1 + body.len() / if cfg!(miri) { 8 } else { 64 }) {
            prop_assert_eq!(verdict(&body.as_bytes()[..end]), judge::Verdict::Malformed);
        }
    }

    #[test]
    fn fragments(fragments in vec(fragment(), 0..40)) {
        let body = fragments.concat();
        prop_assert_eq!(verdict(&body), expected(&body));
    }

    #[test]
    fn any_bytes(body in vec(any::<u8>(), 0..200)) {
        prop_assert_eq!(verdict(&body), expected(&body));
    }

    #[test]
    fn dates(text in "[0-9]{4}-[01][0-9]-[0-3][0-9]|[-0-9]{10}|\\PC{0,12}") {
        prop_assert_eq!(BirthDate::parse(text.as_bytes()).is_ok(), is_real_date(&text));
    }
}
