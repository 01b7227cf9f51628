//! What is malformed, and what only looks so.

use super::{ACCEPTED, check, with};
use crate::limits::{BODY_MAX, JSON_DEPTH_MAX};
use crate::pessoa::{Refusal, decode};

#[test]
fn wrong_types() {
    let others = [
        "true",
        "false",
        "0",
        "-1",
        "1.5",
        "1e999",
        "18446744073709551616",
        "[]",
        "[\"a\"]",
        "{}",
        "{\"apelido\":\"a\"}",
    ];
    for member in ["apelido", "nome", "nascimento"] {
        for value in others {
            check(
                with(&format!("\"{member}\":{value}")),
                &format!("malformed: `{member}`: expected a string…"),
            );
        }
    }
    for value in
        ["true", "0", "1e999", "\"x\"", "\"x at line 1 column 99999999999999999999\"", "{}", "{\"0\":\"a\"}"]
    {
        check(
            with(&format!("\"stack\":{value}")),
            "malformed: `stack`: expected null or an array of strings of 1 to 32 characters, got another JSON type",
        );
    }
    for value in ["null", "1", "true", "[]", "[\"a\"]", "{}", "1e999"] {
        for (items, index) in
            [(format!("[{value}]"), 0), (format!("[\"\",{value}]"), 1), (format!("[{value},\"a\"]"), 0)]
        {
            check(
                with(&format!("\"stack\":{items}")),
                &format!(
                    "malformed: `stack[{index}]`: expected a string of 1 to 32 characters, got another JSON type"
                ),
            );
        }
    }
    for root in [
        "null",
        "true",
        "1",
        "1e999",
        "\"a\"",
        "\" at line 1 column 9\"",
        "[]",
        r#"["ana","Ana","2000-02-29",null]"#,
        "[{}]",
    ] {
        check(root, "malformed: the body: expected a JSON object, got another JSON type");
    }
}

#[test]
fn a_wrong_type_wins_over_a_broken_rule() {
    for broken in [
        r#""apelido":"""#,
        r#""apelido":null"#,
        r#""apelido":"\u0000""#,
        r#""nascimento":"x""#,
        r#""stack":[""]"#,
        r#""a":0"#,
    ] {
        let without_nome = |nome: &str| format!("{{{broken},{nome}}}");
        check(without_nome(r#""nome":1"#), "malformed: `nome`…");
        check(format!(r#"{{"nome":1,{broken}}}"#), "malformed: `nome`…");
        check(without_nome(r#""nome":"","nome":"""#), "malformed: `nome`: expected once, got it again");
        check(
            without_nome(r#""nome":"a"} x"#),
            "malformed: the body: expected one JSON object, got something else…",
        );
        check(
            without_nome(r#""nome":"\ud800""#),
            "malformed: the body: expected surrogate escapes in pairs…",
        );
        check(without_nome(r#""nome":"a""#), "invalid: …");
    }
    // Of several broken rules the first in the body is reported; a missing member comes last.
    check(r#"{"nome":"","apelido":""}"#, "invalid: `nome`…");
    check(r#"{"stack":[""],"nome":"a"}"#, "invalid: `stack[0]`…");
}

#[test]
fn not_json() {
    for body in [
        "",
        " ",
        "{",
        "{}}",
        "{} {}",
        "{}x",
        "{,}",
        "nul",
        "{'apelido':'a'}",
        "{\"a\":01}",
        "{\"a\":1.}",
        "{\"a\":NaN}",
        "{\"a\":\"\\x\"}",
        "{\"a\":\"\n\"}",
        "{\"a\":\"\u{0}\"}",
        "{\"a\":1,}",
        "{\"a\":[1,]}",
        "{\"a\" 1}",
        "{\"a\":\"\\u12g4\"}",
        "\u{feff}{}",
        "{}\u{0}",
        "{}//",
    ] {
        check(body, "malformed: the body: expected one JSON object, got something else at byte …");
    }
    check(format!("\u{feff}{ACCEPTED}"), "malformed: …");
    check(
        format!("{ACCEPTED} 1"),
        "malformed: the body: expected one JSON object, got something else at byte 70",
    );
}

#[test]
fn not_utf8() {
    let cases: [(&[u8], &[u8]); 4] =
        [(br#"{"apelido":""#, br#""}"#), (br#"{"x":""#, br#""}"#), (br#"{""#, br#"":1}"#), (b"{}", b"")];
    for (before, after) in cases {
        // A stray continuation, an overlong NUL, a surrogate, above U+10FFFF, a truncated sequence.
        for bytes in [&b"\x80"[..], b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82"] {
            let body = [before, bytes, after].concat();
            check(
                &body,
                &format!("malformed: the body: expected UTF-8, got something else at byte {}", before.len()),
            );
        }
    }
}

#[test]
fn surrogates() {
    for text in [
        r"\ud800",
        r"\udc00",
        r"\udbff\udbff",
        r"\ud800x",
        r"\ud800\n",
        r"\ud800\u0041",
        r"\udc00\ud800",
        r"a\uDFFFb",
    ] {
        for members in [
            format!(r#""apelido":"{text}""#),
            format!(r#""stack":["{text}"]"#),
            format!(r#""x":"{text}""#),
            format!(r#""x":[{{"y":"{text}"}}]"#),
            format!(r#""x":{{"{text}":1}}"#),
            format!(r#""{text}":1"#),
        ] {
            check(
                with(&members),
                "malformed: the body: expected surrogate escapes in pairs, got half of one before byte …",
            );
        }
    }
}

#[test]
fn nul() {
    for (member, max) in [("apelido", 32), ("nome", 100)] {
        for text in [r"\u0000", r"a\u0000", r"\u0000a"] {
            check(
                with(&format!("\"{member}\":\"{text}\"")),
                &format!("invalid: `{member}`: expected a string of 1 to {max} characters other than U+0000"),
            );
        }
    }
    check(
        with(r#""stack":["a","\u0000"]"#),
        "invalid: `stack[1]`: expected a string of 1 to 32 characters other than U+0000",
    );
    // An ignored member is not stored, so it may hold U+0000.
    for members in [r#""x":"\u0000""#, r#""\u0000":1"#, r#""x":[{"\u0000":"\u0000"}]"#] {
        check(with(members), ACCEPTED);
    }
}

#[test]
fn repeated_members() {
    for (member, value) in [
        ("apelido", "\"a\""),
        ("nome", "\"a\""),
        ("nascimento", "\"2000-01-01\""),
        ("stack", "null"),
        ("x", "1"),
        ("", "1"),
    ] {
        for (first, second) in [(value, value), (value, "null"), ("null", value), ("null", "null")] {
            check(
                with(&format!("\"{member}\":{first},\"z\":0,\"{member}\":{second}")),
                &format!("malformed: `{member}`: expected once, got it again"),
            );
        }
    }
    check(with(r#""nome":"a","n\u006fme":"a""#), "malformed: `nome`: expected once, got it again");
    check(with(r#""\u0078":1,"x":1"#), "malformed: `x`: expected once, got it again");
    check(
        with(&format!(r#""{0}":1,"{0}":1"#, "ü".repeat(1000))),
        &format!("malformed: `{}`: expected once…", "ü".repeat(32)),
    );
    // Names inside ignored values are not names of the body's members.
    check(with(r#""x":{"a":1,"a":2,"nom\u0065":3,"nom\u0065":4},"y":{"a":1}"#), ACCEPTED);
}

#[test]
fn unknown_members() {
    for value in [
        "null",
        "true",
        "0",
        "-0",
        "1e999",
        "-1E-999",
        "\"\"",
        "\"\\u0000\"",
        "[]",
        "{}",
        "[null,[{}],\"\\uD83E\\uDD80\"]",
        "123456789012345678901234567890.123456789012345678901234567890e-12",
        "0.00000000000000000000000000000000000000001",
        "[0.1234567890123456789012345678901234567890123456789E+10,1]",
    ] {
        for members in [
            format!("\"x\":{value}"),
            format!("\"x\":{value},\"stack\":null"),
            format!("\"\":[{value}, {value} ]"),
        ] {
            check(with(&members), ACCEPTED);
        }
    }
    for digits in [1, 19, 31, 32, 33, 63, 64, 65, 400] {
        let nines = "9".repeat(digits);
        for number in [
            nines.clone(),
            format!("-{nines}.{nines}"),
            format!("{nines}e{nines}"),
            format!("0.{nines}E-{nines}"),
        ] {
            check(with(&format!("\"x\":{number},\"y\":[{number}]")), ACCEPTED);
        }
    }
}

#[test]
fn depth() {
    let array = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
    let object = |levels: usize| "{\"a\":".repeat(levels) + "1" + &"}".repeat(levels);
    let below_root = JSON_DEPTH_MAX - 1;
    for nested in [array(below_root), object(below_root)] {
        check(with(&format!("\"x\":{nested}")), ACCEPTED);
        check(with(&format!("\"stack\":{nested}")), "malformed: `stack…");
    }
    for levels in [below_root + 1, 128, 256, if cfg!(miri) { 257 } else { 11_000 }] {
        for nested in [array(levels), object(levels), "[".repeat(levels), "{\"a\":".repeat(levels)] {
            for member in ["x", "apelido", "stack"] {
                let body = with(&format!("\"{member}\":{nested}"));
                check(body, "malformed: the body: expected at most 32 levels of nesting…");
            }
            check(format!("[{nested}]"), "malformed: …");
            check(with(&format!("\"x\":{{{nested}:1}}")), "malformed: …");
        }
    }
    check("{".repeat(11_000), "malformed: …");
    check(
        "[".repeat(BODY_MAX),
        "malformed: the body: expected at most 32 levels of nesting, got more at byte 32",
    );
    // In a parser that does not check escapes, this one swallows the closing quote and inverts what is a string.
    check(
        format!(r#"{{"x":["\u"abc",{}]}}"#, "[".repeat(11_000)),
        "malformed: the body: expected one JSON object…",
    );
    check(with(&format!("\"x\":\"{}\"", "[{".repeat(100))), ACCEPTED);
}

#[test]
fn every_truncation_is_malformed() {
    let body = r#" {"apelido":"jos\u00e9","x":[1.5e-3,{"y":"\uD83E\udd80"},null,true],"nome":"José 🦀","nascimento":"2000-10-01","stack":["C#",""]}"#;
    assert!(matches!(decode(body.as_bytes()), Err(Refusal::Invalid(_))));
    for end in 0..body.len() {
        check(&body.as_bytes()[..end], "malformed: the body: …");
    }
}
