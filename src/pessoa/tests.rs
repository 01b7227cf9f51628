//! Bodies and what becomes of them: the contract's table row by row, then the traps. It knows only the public surface.

use std::borrow::Cow;

use uuid::Uuid;

use super::*;
use crate::limits::{BODY_MAX, JSON_DEPTH_MAX};

/// What becomes of a body: the rendered members, or the kind of refusal and its detail.
fn outcome(body: &[u8]) -> String {
    match decode(body) {
        Ok(candidate) => {
            let mut out = Vec::new();
            candidate.into_pessoa(Uuid::nil()).render(&mut out);
            String::from_utf8(out).unwrap().replace("\"id\":\"00000000-0000-0000-0000-000000000000\",", "")
        }
        Err(Refusal::Malformed(reason)) => format!("malformed: {reason}"),
        Err(Refusal::Invalid(reason)) => format!("invalid: {reason}"),
    }
}

/// `expected` is the whole outcome, or with `…` at its end the outcome's start.
#[track_caller]
fn check(body: impl AsRef<[u8]>, expected: &str) {
    let body = body.as_ref();
    let got = outcome(body);
    let matches = match expected.strip_suffix('…') {
        Some(start) => got.starts_with(start),
        None => got == expected,
    };
    assert!(matches, "{}\n     got {got}\nexpected {expected}", String::from_utf8_lossy(body));
}

/// A body whose other members are right.
fn with(members: &str) -> String {
    let mut body = String::from("{");
    for (name, member) in [
        ("apelido", r#""apelido":"ana""#),
        ("nome", r#""nome":"Ana""#),
        ("nascimento", r#""nascimento":"2000-02-29""#),
    ] {
        if !members.contains(&format!("\"{name}\"")) {
            body += &format!("{member},");
        }
    }
    body + members + "}"
}

const ACCEPTED: &str = r#"{"apelido":"ana","nome":"Ana","nascimento":"2000-02-29","stack":null}"#;

#[test]
fn accepted() {
    check(with(r#""stack":null"#), ACCEPTED);
    check(with(r#""x":1"#), ACCEPTED);
    check(ACCEPTED, ACCEPTED);
    for stack in ["[]", r#"["C#","Node","C#"]"#, r#"["b","a"," "]"#] {
        let expected = ACCEPTED.replace("null", stack);
        check(&expected, &expected);
    }
    // Any order, whitespace around everything.
    check(
        " \r\n{\t\"stack\" : [ \"Go\" , \"C\" ] ,\n\"nascimento\":\"2000-02-29\", \"nome\":\"Ana\" , \"apelido\":\"ana\"\n}\n ",
        &ACCEPTED.replace("null", r#"["Go","C"]"#),
    );
    // Escapes are undone in values and names.
    check(
        r#"{"\u0061pelido":"\u0061n\u0061","n\u006Fme":"\"\\\/\b\f\n\r\t\u001f\uD83E\uDD80","nascimento":"2000\u002d02-29","stac\u006b":["\u0043"]}"#,
        r#"{"apelido":"ana","nome":"\"\\/\b\f\n\r\t\u001f🦀","nascimento":"2000-02-29","stack":["C"]}"#,
    );
}

#[test]
fn lengths_are_unicode_scalar_values() {
    for (member, max) in [("apelido", 32), ("nome", 100)] {
        for character in ["a", " ", "é", "🦀", "\\n", "\\uD83E\\udd80", "e\u{301}"] {
            let scalars = if character == "e\u{301}" { 2 } else { 1 };
            let body = |times: usize| with(&format!("\"{member}\":\"{}\"", character.repeat(times)));
            assert!(decode(body(1).as_bytes()).is_ok());
            assert!(decode(body(max / scalars).as_bytes()).is_ok(), "{}", body(max / scalars));
            check(
                body(max / scalars + 1),
                &format!(
                    "invalid: `{member}`: expected a string of 1 to {max} characters, got {}",
                    max + scalars
                ),
            );
        }
        check(
            with(&format!("\"{member}\":\"\"")),
            &format!("invalid: `{member}`: expected a string of 1 to {max} characters, got 0"),
        );
    }
    check(with(&format!(r#""stack":["{}"]"#, "🦀".repeat(32))), "{…");
    check(
        with(&format!(r#""stack":["a","{}","b"]"#, "🦀".repeat(33))),
        "invalid: `stack[1]`: expected a string of 1 to 32 characters, got 33",
    );
    check(
        with(r#""stack":["a","b",""]"#),
        "invalid: `stack[2]`: expected a string of 1 to 32 characters, got 0",
    );
}

#[test]
fn required_members() {
    let nascimento = "a string AAAA-MM-DD, a calendar date of the years 0001 to 9999";
    for (member, expected) in [
        ("apelido", "a string of 1 to 32 characters"),
        ("nome", "a string of 1 to 100 characters"),
        ("nascimento", nascimento),
    ] {
        let missing = format!("invalid: `{member}`: expected {expected}, got none");
        check(with(&format!("\"{member}\":null")), &missing);
        let without = with(&format!("\"{member}\":null")).replace(&format!("\"{member}\""), "\"other\"");
        check(without, &missing);
    }
    check("{}", "invalid: `apelido`: expected…");
    // Names are matched whole, and as they are written.
    check(
        r#"{"Apelido":"a","apelido ":"a","apelid":"a","apelido\u0000":"a","":1}"#,
        "invalid: `apelido`: expected…",
    );
}

#[test]
fn dates() {
    for date in ["0001-01-01", "9999-12-31", "2000-02-29", "1999-12-31"] {
        check(with(&format!("\"nascimento\":\"{date}\"")), "{…");
    }
    for date in [
        "",
        "0000-01-01",
        "2000-13-01",
        "2000-00-01",
        "2001-02-29",
        "1900-02-29",
        "2000-04-31",
        "2000-1-1",
        "01-01-2000",
        "infinity",
        "2000-01-01 ",
        " 2000-01-01",
        "2000-01-0١",
        "２０００-01-01",
        "2000-01-01T00:00:00Z",
        "2000-01-0\\u0000",
    ] {
        check(
            with(&format!("\"nascimento\":\"{date}\"")),
            "invalid: `nascimento`: expected a string AAAA-MM-DD, a calendar date of the years 0001 to 9999, got no such date",
        );
    }
}

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
    // Of several broken rules the first is told, one that is missing last.
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
    // What is ignored is not stored, so it may hold one.
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
    // Names inside of ignored values are not the body's.
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
    for levels in [below_root + 1, 128, 256, 11_000] {
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
    // A bad escape swallows the closing quote in a parser that does not look at it, and inverts what is a string.
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

#[test]
fn nothing_is_copied_without_an_escape() {
    let body = r#"{"apelido":"josé","nome":"José Roberto da Silva e mais de trinta e dois bytes","nascimento":"2000-10-01","stack":["C#","Ünï"]}"#;
    let candidate = decode(body.as_bytes()).unwrap();
    let range = body.as_bytes().as_ptr_range();
    for text in candidate.stack.iter().flatten().chain([&candidate.apelido, &candidate.nome]) {
        assert!(matches!(text, Cow::Borrowed(text) if range.contains(&text.as_ptr())), "{text}");
    }
    let escaped = decode(br#"{"apelido":"jos\u00e9","nome":"a","nascimento":"2000-10-01"}"#).unwrap();
    assert!(matches!(&escaped.apelido, Cow::Owned(text) if text == "josé"));
}

#[test]
fn bodies_as_long_as_they_may_be() {
    // As many items as fit; each takes four bytes.
    let frame = with(r#""stack":[]"#).len();
    let items = vec!["\"a\""; (BODY_MAX - frame) / 4];
    let body = with(&format!("\"stack\":[{}]", items.join(",")));
    assert!(body.len() <= BODY_MAX && body.len() > BODY_MAX - 4);
    let pessoa = decode(body.as_bytes()).unwrap().into_pessoa(Uuid::nil());
    assert_eq!(pessoa.stack.as_ref().map(Stack::len), Some(items.len()));
    check(&body, &ACCEPTED.replace("null", &format!("[{}]", items.join(","))));

    // As many unknown members as fit: found to differ in linear time, and the last one to be a repeat.
    let names: Vec<String> = (0..6_000).map(|index| format!("\"{index:x}\":0")).collect();
    check(with(&names.join(",")), ACCEPTED);
    check(with(&format!("{},\"176f\":0", names.join(","))), "malformed: `176f`: expected once, got it again");

    check(
        with(&format!("\"nome\":\"{}\"", "\\u0041".repeat(10_000))),
        "invalid: `nome`: expected a string of 1 to 100 characters, got 10000",
    );
    check(with(&format!("\"{}\":0", "x".repeat(BODY_MAX))), ACCEPTED);
    check(" ".repeat(BODY_MAX), "malformed: …");
}

#[test]
fn rows() {
    let row = |apelido, nome, days, stack: Option<Vec<&str>>| {
        Pessoa::from_columns(Uuid::nil(), apelido, nome, days, stack)
    };
    let rendered = |pessoa: Pessoa| {
        let mut out = Vec::new();
        pessoa.render(&mut out);
        serde_json::from_slice::<serde_json::Value>(&out).unwrap()
    };
    let decoded = decode(with(r#""stack":["C#","",""]"#).replace("\"\"", "\"x\"").as_bytes())
        .unwrap()
        .into_pessoa(Uuid::nil());
    assert_eq!(row("ana", "Ana", 59, Some(vec!["C#", "x", "x"])), Ok(decoded));
    // What breaks only a rule of the API is shown as it is.
    let long = "\u{1}\"é".repeat(1000);
    let shown = rendered(row(&long, "", -730_119, Some(vec!["", &long])).unwrap());
    let expected = serde_json::json!({
        "id": Uuid::nil().to_string(), "apelido": long, "nome": "", "nascimento": "0001-01-01", "stack": ["", long],
    });
    assert_eq!(shown, expected);
    for days in [i32::MIN, -730_120, 2_921_940, i32::MAX] {
        assert_eq!(row("a", "b", days, None), Err(UnfitRow::BirthDate(days)));
    }
    assert_eq!(row("\0", "b", 0, None), Err(UnfitRow::Nul));
    assert_eq!(row("a", "b\0", 0, None), Err(UnfitRow::Nul));
    assert_eq!(row("a", "b", 0, Some(vec!["a\0b"])), Err(UnfitRow::Nul));
}
