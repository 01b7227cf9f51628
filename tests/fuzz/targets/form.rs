//! Queries: our form decoding against the crate `percent-encoding`, which leaves a bad `%` as it is.
//!
//! The rules beside it: `+` is a space, members are separated by `&`, the first `=` ends a name, of several members of
//! that name the first counts, and a name that cannot be decoded is another one.
#![no_main]
#![allow(clippy::unwrap_used, reason = "a fuzz target panics on purpose")]

use libfuzzer_sys::fuzz_target;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode, percent_encode};
use rinha::http::{BadEncoding, decode_form, decode_form_utf8, first_value, path_and_query};

const NAME: &[u8] = b"t";

/// The decoded bytes; `None` for a `%` without its two digits.
fn decoded(raw: &[u8]) -> Option<Vec<u8>> {
    let mut parts = raw.split(|&byte| byte == b'%').skip(1).peekable();
    let mut good = true;
    while let Some(part) = parts.next() {
        good &= matches!(part, [high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit());
    }
    let spaced: Vec<u8> = raw.iter().map(|&byte| if byte == b'+' { b' ' } else { byte }).collect();
    good.then(|| percent_decode(&spaced).collect())
}

fn value(query: &[u8]) -> Option<Vec<u8>> {
    let mut members = query.split(|&byte| byte == b'&').map(|member| {
        let mut parts = member.splitn(2, |&byte| byte == b'=');
        (parts.next().unwrap(), parts.next().unwrap_or_default())
    });
    members.find(|(name, _)| decoded(name).is_some_and(|name| name == NAME)).map(|(_, value)| value.to_vec())
}

fuzz_target!(|input: &[u8]| {
    // As a value.
    let mut out = b"\xffkept".to_vec();
    let outcome = decode_form(input, &mut out);
    match decoded(input) {
        Some(expected) => {
            assert_eq!((outcome, &out[5..]), (Ok(()), &expected[..]));
            let mut again = Vec::new();
            let text = decode_form_utf8(input, &mut again);
            assert_eq!(text, str::from_utf8(&expected).map_err(|_| BadEncoding::NotUtf8));
            // What was decoded comes back from every encoding of it.
            let mut back = Vec::new();
            let encoded = percent_encode(&expected, NON_ALPHANUMERIC).to_string();
            assert_eq!((decode_form(encoded.as_bytes(), &mut back), back), (Ok(()), expected));
        }
        None => assert_eq!(outcome, Err(BadEncoding::BadPercent)),
    }
    assert_eq!(out[..5], *b"\xffkept");
    assert_eq!(outcome.is_ok(), decode_form_utf8(input, &mut Vec::new()) != Err(BadEncoding::BadPercent));

    // As a query.
    assert_eq!(first_value(input, NAME).map(<[u8]>::to_vec), value(input));

    // As the rest of a target.
    let target = [b"/pessoas", input].concat();
    let (path, query) = path_and_query(&target);
    let mut parts = target.splitn(2, |&byte| byte == b'?');
    assert_eq!((Some(path), query), (parts.next(), parts.next()));
});
