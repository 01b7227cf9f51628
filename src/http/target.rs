//! Takes a request target apart: path, query, and form-encoded query members. It must not know any route.

use memchr::{memchr, memchr2};

use super::octets;

/// Why a form-encoded value could not be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadEncoding {
    /// A `%` that two hexadecimal digits do not follow.
    BadPercent,
    /// The decoded bytes are not UTF-8.
    NotUtf8,
}

/// The path and the query (without its `?`) of a target that [`HeadParser`](super::HeadParser) accepted.
///
/// The absolute-form loses its scheme and authority, and its empty path becomes `/` (RFC 9112 section 3.2.2). `*` and
/// the authority-form of CONNECT are returned whole as the path: neither starts with `/`, so no route matches.
#[must_use]
pub fn path_and_query(target: &[u8]) -> (&[u8], Option<&[u8]>) {
    let local = match absolute_form(target) {
        Some((_, local)) => local,
        None => target,
    };
    let (path, query) = match memchr(b'?', local) {
        Some(at) => (&local[..at], Some(&local[at + 1..])),
        None => (local, None),
    };
    (if path.is_empty() { b"/" } else { path }, query)
}

/// The authority of an `http` or `https` URL, and what follows it; `None` when `target` is not one.
pub(super) fn absolute_form(target: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = [&b"http://"[..], b"https://"].iter().find_map(|scheme| {
        let (start, rest) = target.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some(rest)
    })?;
    Some(rest.split_at(memchr2(b'/', b'?', rest).unwrap_or(rest.len())))
}

/// Splits `host[:port]` (RFC 3986 section 3.2) into host and port digits; `None` when it is not that. The host may be
/// empty and so may the port. A light check: it keeps out userinfo, whitespace, commas and paths, not impossible
/// addresses.
pub(super) fn host_and_port(authority: &[u8]) -> Option<(&[u8], Option<&[u8]>)> {
    let host_len = if authority.first() == Some(&b'[') {
        let end = memchr(b']', authority)?;
        let literal = &authority[1..end];
        let allowed = |&byte: &u8| byte.is_ascii_alphanumeric() || b":.%-_~".contains(&byte);
        if literal.is_empty() || !literal.iter().all(allowed) {
            return None;
        }
        end + 1
    } else {
        octets::name_len(authority)
    };
    let (host, rest) = authority.split_at(host_len);
    match rest {
        [] => Some((host, None)),
        [b':', port @ ..] if port.iter().all(u8::is_ascii_digit) => Some((host, Some(port))),
        _ => None,
    }
}

/// The raw value of the first member of `query` whose decoded name is `name`; empty when that member has no `=`.
///
/// Members are separated by `&`. A member whose name cannot be decoded is some other member, and so is no error.
#[must_use]
pub fn first_value<'a>(query: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    query.split(|&byte| byte == b'&').find_map(|member| {
        let (raw_name, value) = match memchr(b'=', member) {
            Some(at) => (&member[..at], &member[at + 1..]),
            None => (member, &[][..]),
        };
        decodes_to(raw_name, name).then_some(value)
    })
}

fn decodes_to(mut raw: &[u8], name: &[u8]) -> bool {
    name.iter().all(|&expected| next_byte(&mut raw) == Some(Ok(expected))) && raw.is_empty()
}

/// Appends the form-decoded `raw` to `out`: `+` is a space, `%XX` a byte, any other byte itself.
///
/// # Errors
///
/// [`BadEncoding::BadPercent`]; `out` is then as it was.
pub fn decode_form(raw: &[u8], out: &mut Vec<u8>) -> Result<(), BadEncoding> {
    let before = out.len();
    let plain = memchr2(b'%', b'+', raw).unwrap_or(raw.len());
    let (start, mut rest) = raw.split_at(plain);
    out.extend_from_slice(start);
    while let Some(byte) = next_byte(&mut rest) {
        match byte {
            Ok(byte) => out.push(byte),
            Err(bad) => {
                out.truncate(before);
                return Err(bad);
            }
        }
    }
    Ok(())
}

/// As [`decode_form`], and returns what was appended as text.
///
/// # Errors
///
/// Either [`BadEncoding`]; `out` is then as it was.
pub fn decode_form_utf8<'a>(raw: &[u8], out: &'a mut Vec<u8>) -> Result<&'a str, BadEncoding> {
    let before = out.len();
    decode_form(raw, out)?;
    // Checked twice, because a borrow that is returned from one arm would forbid the truncation in the other.
    if std::str::from_utf8(&out[before..]).is_err() {
        out.truncate(before);
        return Err(BadEncoding::NotUtf8);
    }
    std::str::from_utf8(&out[before..]).map_err(|_| BadEncoding::NotUtf8)
}

/// Takes one decoded byte off the front of `raw`; `None` at its end.
fn next_byte(raw: &mut &[u8]) -> Option<Result<u8, BadEncoding>> {
    let (&first, rest) = raw.split_first()?;
    *raw = rest;
    Some(match first {
        b'+' => Ok(b' '),
        b'%' => match rest {
            [high, low, rest @ ..] => {
                *raw = rest;
                hex(*high).zip(hex(*low)).map(|(high, low)| high << 4 | low).ok_or(BadEncoding::BadPercent)
            }
            _ => Err(BadEncoding::BadPercent),
        },
        byte => Ok(byte),
    })
}

/// The value of a hexadecimal digit.
pub(super) fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths_and_queries() {
        for (target, path, query) in [
            ("/", "/", None),
            ("/pessoas", "/pessoas", None),
            ("/pessoas?", "/pessoas", Some("")),
            ("/pessoas?t=a", "/pessoas", Some("t=a")),
            ("/a?b?c", "/a", Some("b?c")),
            ("//a", "//a", None),
            ("/http://a/b", "/http://a/b", None),
            ("http://a", "/", None),
            ("http://a/", "/", None),
            ("http://a?t=/", "/", Some("t=/")),
            ("HTTP://a:80/b/c?d", "/b/c", Some("d")),
            ("https://a/b", "/b", None),
            ("http://[::1]:9/b", "/b", None),
            ("*", "*", None),
            ("a:80", "a:80", None),
        ] {
            let expected = (path.as_bytes(), query.map(str::as_bytes));
            assert_eq!(path_and_query(target.as_bytes()), expected, "{target}");
        }
    }

    #[test]
    fn authorities() {
        for (authority, expected) in [
            ("", Some(("", None))),
            ("a", Some(("a", None))),
            ("a.b-c_d~:80", Some(("a.b-c_d~", Some("80")))),
            ("a:", Some(("a", Some("")))),
            (":80", Some(("", Some("80")))),
            ("127.0.0.1:9999", Some(("127.0.0.1", Some("9999")))),
            ("[::1]", Some(("[::1]", None))),
            ("[::1]:1", Some(("[::1]", Some("1")))),
            ("[fe80::1%25eth0]", Some(("[fe80::1%25eth0]", None))),
            ("a%20b", Some(("a%20b", None))),
            ("[]", None),
            ("[::1", None),
            ("[::1]x", None),
            ("[::1/]", None),
            ("a:b", None),
            ("a:-1", None),
            ("a:1:2", None),
            ("a b", None),
            ("a,b", None),
            ("u@a", None),
            ("a/b", None),
            ("a?b", None),
            ("a#b", None),
            ("é", None),
        ] {
            let expected = expected.map(|(h, p): (&str, Option<&str>)| (h.as_bytes(), p.map(str::as_bytes)));
            assert_eq!(host_and_port(authority.as_bytes()), expected, "{authority}");
        }
    }

    #[test]
    fn first_values() {
        for (query, expected) in [
            ("", None),
            ("a", None),
            ("t", Some("")),
            ("t=", Some("")),
            ("t=a", Some("a")),
            ("t=a=b", Some("a=b")),
            ("t=a%2", Some("a%2")),
            ("%74=a", Some("a")),
            ("a=1&t=2", Some("2")),
            ("t=1&t=2", Some("1")),
            ("t&t=2", Some("")),
            ("&&t=2", Some("2")),
            ("%=1&%7=2&t%=3&t=4", Some("4")),
            ("tt=1&T=2&=3", None),
            ("a=t&b=%26t=1", None),
            ("+t=1&t+=2", None),
        ] {
            let expected = expected.map(str::as_bytes);
            assert_eq!(first_value(query.as_bytes(), b"t"), expected, "{query}");
        }
        assert_eq!(first_value(b"x+y=1", b"x y"), Some(&b"1"[..]));
        assert_eq!(first_value(b"%C3%A9=1", "é".as_bytes()), Some(&b"1"[..]));
    }

    #[test]
    fn decoded_forms() {
        for (raw, expected) in [
            ("", Ok("")),
            ("abc", Ok("abc")),
            ("a+b", Ok("a b")),
            ("+", Ok(" ")),
            ("%2B%25", Ok("+%")),
            ("%c3%A9", Ok("é")),
            ("a%00", Ok("a\0")),
            ("%2525", Ok("%25")),
            ("é", Ok("é")),
            ("%", Err(BadEncoding::BadPercent)),
            ("a%4", Err(BadEncoding::BadPercent)),
            ("%4g", Err(BadEncoding::BadPercent)),
            ("%+1", Err(BadEncoding::BadPercent)),
            ("%%41", Err(BadEncoding::BadPercent)),
            ("%FF", Err(BadEncoding::NotUtf8)),
            ("%ED%A0%80", Err(BadEncoding::NotUtf8)),
            ("%C3", Err(BadEncoding::NotUtf8)),
        ] {
            let mut out = b"\xFFkept".to_vec();
            assert_eq!(decode_form_utf8(raw.as_bytes(), &mut out), expected, "{raw}");
            if expected.is_err() {
                assert_eq!(out, b"\xFFkept", "{raw}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_survive_the_encoding(bytes: Vec<u8>, escape_all: bool) {
            let mut raw = Vec::new();
            for &byte in &bytes {
                match byte {
                    b' ' if !escape_all => raw.push(b'+'),
                    byte if byte.is_ascii_alphanumeric() && !escape_all => raw.push(byte),
                    byte => raw.extend_from_slice(format!("%{byte:02x}").as_bytes()),
                }
            }
            let mut out = Vec::new();
            prop_assert_eq!(decode_form(&raw, &mut out), Ok(()));
            prop_assert_eq!(&out, &bytes);
            prop_assert!(decodes_to(&raw, &bytes));
        }

        #[test]
        fn no_query_panics(query: Vec<u8>, name: Vec<u8>) {
            let (path, rest) = path_and_query(&query);
            prop_assert!(!path.is_empty());
            if let Some(value) = first_value(rest.unwrap_or(&query), &name) {
                let _ = decode_form_utf8(value, &mut Vec::new());
            }
        }
    }
}
