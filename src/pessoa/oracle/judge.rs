//! What the contract says of a body, by serde_json's reading and the contract's words alone; and what the decoder says.
//! The two share no code but the limits. The fuzzer takes this file too, so it knows only what `pessoa` shows to all.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::limits::{APELIDO_CHARS_MAX, JSON_DEPTH_MAX, NOME_CHARS_MAX, STACK_ITEM_CHARS_MAX};
use crate::pessoa::{Pessoa, Refusal, Stack, decode};

/// What becomes of a body.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    Malformed,
    Invalid,
    /// The members as they are shown.
    Accepted(Value),
}

/// JSON with every member of its objects, in their order: serde_json's own maps would keep only the last of a name.
enum Json {
    Null,
    Other,
    Text(String),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

struct AnyJson;

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(value: D) -> Result<Self, D::Error> {
        value.deserialize_any(AnyJson)
    }
}

impl<'de> Visitor<'de> for AnyJson {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut all = Vec::new();
        while let Some(item) = items.next_element()? {
            all.push(item);
        }
        Ok(Json::Array(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Json, A::Error> {
        let mut all = Vec::new();
        while let Some(member) = members.next_entry()? {
            all.push(member);
        }
        Ok(Json::Object(all))
    }
}

impl Json {
    /// Arrays and objects around the deepest value, counted from this one.
    fn depth(&self) -> usize {
        match self {
            Json::Array(items) => 1 + items.iter().map(Json::depth).max().unwrap_or(0),
            Json::Object(members) => 1 + members.iter().map(|(_, value)| value.depth()).max().unwrap_or(0),
            Json::Null | Json::Other | Json::Text(_) => 0,
        }
    }

    fn as_text(&self) -> Option<&str> {
        match self {
            Json::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// Reads a body; `None` when it is no JSON.
fn read(body: &[u8]) -> Option<Json> {
    match serde_json::from_slice(body) {
        Ok(json) => Some(json),
        // A number outside serde_json's range is JSON all the same.
        Err(error) if error.to_string().contains("number out of range") => {
            serde_json::from_slice(&without_numbers(body)).ok()
        }
        Err(_) => None,
    }
}

/// The body with `true` in place of each number: of no use to a member either, and nothing that follows it can make it
/// another value.
fn without_numbers(body: &[u8]) -> Vec<u8> {
    let (mut out, mut at, mut in_string) = (Vec::with_capacity(body.len()), 0, false);
    while at < body.len() {
        let mut length = 1;
        match body[at] {
            b'"' => in_string = !in_string,
            b'\\' if in_string => length = 2.min(body.len() - at),
            _ if !in_string => {
                if let Some(number) = number_len(&body[at..]) {
                    out.extend_from_slice(b"true");
                    at += number;
                    continue;
                }
            }
            _ => {}
        }
        out.extend_from_slice(&body[at..at + length]);
        at += length;
    }
    out
}

/// The length of the longest number at the start of `text`.
fn number_len(text: &[u8]) -> Option<usize> {
    let digits = |from: usize| text[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let is = |at: usize, any: &[u8]| text.get(at).is_some_and(|byte| any.contains(byte));
    let start = usize::from(is(0, b"-"));
    let mut end = start + if is(start, b"0") { 1 } else { digits(start) };
    if end == start {
        return None;
    }
    if is(end, b".") && digits(end + 1) > 0 {
        end += 1 + digits(end + 1);
    }
    if is(end, b"eE") {
        let exponent = end + 1 + usize::from(is(end + 1, b"+-"));
        if exponent < text.len() && digits(exponent) > 0 {
            end = exponent + digits(exponent);
        }
    }
    Some(end)
}

pub(super) fn is_real_date(text: &str) -> bool {
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

fn is_fit(value: &Json, chars_max: usize) -> bool {
    let text = value.as_text().unwrap_or_default();
    (1..=chars_max).contains(&text.chars().count()) && !text.contains('\0')
}

/// What the contract says of a body.
pub(super) fn expected(body: &[u8]) -> Verdict {
    let Some(Json::Object(members)) = read(body) else {
        return Verdict::Malformed;
    };
    let mut shown = json!({ "id": Uuid::nil().to_string(), "stack": null });
    let (mut malformed, mut invalid) = (false, false);
    for (index, (name, value)) in members.iter().enumerate() {
        malformed |= members[..index].iter().any(|(earlier, _)| earlier == name);
        malformed |= 1 + value.depth() > JSON_DEPTH_MAX;
        match (name.as_str(), value) {
            ("apelido" | "nome" | "nascimento", Json::Text(text)) => {
                invalid |= !match name.as_str() {
                    "apelido" => is_fit(value, APELIDO_CHARS_MAX),
                    "nome" => is_fit(value, NOME_CHARS_MAX),
                    _ => is_real_date(text),
                };
                shown[name] = json!(text);
            }
            ("apelido" | "nome" | "nascimento", Json::Null) => invalid = true,
            ("stack", Json::Null) => {}
            ("stack", Json::Array(items)) => {
                let texts: Option<Vec<&str>> = items.iter().map(Json::as_text).collect();
                malformed |= texts.is_none();
                invalid |= !items.iter().all(|item| is_fit(item, STACK_ITEM_CHARS_MAX));
                shown[name] = json!(texts);
            }
            ("apelido" | "nome" | "nascimento" | "stack", _) => malformed = true,
            _ => {}
        }
    }
    invalid |= ["apelido", "nome", "nascimento"].iter().any(|name| shown.get(name).is_none());
    match (malformed, invalid) {
        (true, _) => Verdict::Malformed,
        (false, true) => Verdict::Invalid,
        (false, false) => Verdict::Accepted(shown),
    }
}

/// What the decoder says of it. What it accepts survives its rendering and its row.
pub(super) fn verdict(body: &[u8]) -> Verdict {
    match decode(body) {
        Err(Refusal::Malformed(_)) => Verdict::Malformed,
        Err(Refusal::Invalid(_)) => Verdict::Invalid,
        Ok(candidate) => {
            let pessoa = candidate.into_pessoa(Uuid::nil());
            let mut rendered = Vec::new();
            pessoa.render(&mut rendered);
            // The rendered bytes decode to the same pessoa, which renders to the same bytes.
            let again = decode(&rendered).expect("what was rendered").into_pessoa(Uuid::nil());
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
            Verdict::Accepted(serde_json::from_slice(&rendered).expect("JSON"))
        }
    }
}
