//! Bodies and what becomes of them: the contract's table row by row, then the traps. It knows only the public surface.

mod malformed;

use std::borrow::Cow;

use uuid::Uuid;

use super::*;
use crate::limits::BODY_MAX;

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

/// A body with `members`, and with a right value for each required member that they lack.
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
#[cfg_attr(miri, ignore = "they are long")]
fn bodies_as_long_as_they_may_be() {
    // As many items as fit; each takes four bytes.
    let frame = with(r#""stack":[]"#).len();
    let items = vec!["\"a\""; (BODY_MAX - frame) / 4];
    let body = with(&format!("\"stack\":[{}]", items.join(",")));
    assert!(body.len() <= BODY_MAX && body.len() > BODY_MAX - 4);
    let pessoa = decode(body.as_bytes()).unwrap().into_pessoa(Uuid::nil());
    assert_eq!(pessoa.stack.as_ref().map(Stack::len), Some(items.len()));
    check(&body, &ACCEPTED.replace("null", &format!("[{}]", items.join(","))));

    // Many unknown members: it takes linear time to find that their names differ, and that the last one is a repeat.
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
