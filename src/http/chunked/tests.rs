//! Unit tests of the chunked decoder. They know its public face and nothing of its state.

use super::*;

/// Decodes `input` in pieces that end at each of `cuts`, and returns the body and the bytes used; `None` = partial.
fn decode_cut(input: &[u8], cuts: impl Iterator<Item = usize>) -> Result<Option<(Vec<u8>, usize)>, Reject> {
    let mut decoder = ChunkedDecoder::default();
    let (mut body, mut used) = (Vec::new(), 0);
    for cut in cuts {
        let (n, progress) = decoder.decode(&input[used..cut], &mut body)?;
        used += n;
        if progress == Progress::Complete(()) {
            return Ok(Some((body, used)));
        }
        assert_eq!(used, cut, "a partial body uses all of its input");
    }
    Ok(None)
}

fn check(input: &[u8], expected: Result<Option<&[u8]>, Reject>) {
    let shown = String::from_utf8_lossy(&input[..input.len().min(100)]);
    let whole = decode_cut(input, [input.len()].into_iter());
    let body = whole.clone().map(|done| done.map(|(body, _)| body));
    assert_eq!(body, expected.map(|done| done.map(<[u8]>::to_vec)), "{shown:?}");
    if let Ok(Some((_, used))) = whole {
        assert_eq!(used, input.len(), "{shown:?}");
    }
    assert_eq!(decode_cut(input, 0..=input.len()), whole, "{shown:?} byte by byte");
    if input.len() < 1000 {
        for cut in 0..input.len() {
            let split = decode_cut(input, [cut, input.len()].into_iter());
            assert_eq!(split, whole, "{shown:?} cut at {cut}");
        }
    }
}

#[test]
fn bodies() {
    for (input, body) in [
        ("0\r\n\r\n", ""),
        ("000\r\n\r\n", ""),
        ("3\r\nabc\r\n0\r\n\r\n", "abc"),
        ("1\r\na\r\n2\r\nbc\r\n0\r\n\r\n", "abc"),
        ("a\r\n0123456789\r\n0\r\n\r\n", "0123456789"),
        ("A\r\n0123456789\r\n0\r\n\r\n", "0123456789"),
        ("00000000000000000000003\r\nabc\r\n0\r\n\r\n", "abc"),
        ("4\r\n\r\n\r\n\r\n0\r\n\r\n", "\r\n\r\n"),
        // Extensions.
        ("1;a\r\nx\r\n0;a\r\n\r\n", "x"),
        ("1;a=b;c=d\r\nx\r\n0\r\n\r\n", "x"),
        ("1 ;\ta = \"b\" ; c\r\nx\r\n0\r\n\r\n", "x"),
        ("1;a=\"\";b=\"\\\"\\\\;\"\r\nx\r\n0\r\n\r\n", "x"),
        ("1;a=\";é\t\\\"\"\r\nx\r\n0\r\n\r\n", "x"),
        // Trailers.
        ("1\r\nx\r\n0\r\nA: b\r\n\r\n", "x"),
        ("1\r\nx\r\n0\r\nA:\r\nContent-Length: 9\r\n\r\n", "x"),
    ] {
        check(input.as_bytes(), Ok(Some(body.as_bytes())));
    }
}

#[test]
fn refusals() {
    for (input, expected) in [
        ("\r\n", Reject::Chunk),
        (" 1\r\n", Reject::Chunk),
        ("-1\r\n", Reject::Chunk),
        ("+1\r\n", Reject::Chunk),
        ("0x1\r\n", Reject::Chunk),
        ("g\r\n", Reject::Chunk),
        (";a\r\n", Reject::Chunk),
        ("1 \r\n", Reject::Chunk),
        ("1 1\r\n", Reject::Chunk),
        ("1\n", Reject::Chunk),
        ("1\rx", Reject::Chunk),
        ("1\r\nx\n", Reject::Chunk),
        ("1\r\nx\rx", Reject::Chunk),
        ("1\r\nxy", Reject::Chunk),
        ("2\r\nx\r\n0\r\n", Reject::Chunk),
        ("1;\r\n", Reject::Chunk),
        ("1;;a\r\n", Reject::Chunk),
        ("1;=a\r\n", Reject::Chunk),
        ("1;a=\r\n", Reject::Chunk),
        ("1;a b\r\n", Reject::Chunk),
        ("1;a \r\n", Reject::Chunk),
        ("1;a=b c\r\n", Reject::Chunk),
        ("1;a=b=c\r\n", Reject::Chunk),
        ("1;a=\"b\r\n", Reject::Chunk),
        ("1;a=\"b\"c\r\n", Reject::Chunk),
        ("1;a=b\"c\"\r\n", Reject::Chunk),
        ("1;a=\"\0\"\r\n", Reject::Chunk),
        ("1;a=\"\r\"\r\n", Reject::Chunk),
        ("1;a=\"\\\r\n\"\r\n", Reject::Chunk),
        ("1;a\nb\r\n", Reject::Chunk),
        ("10001\r\n", Reject::BodyTooLong),
        ("ffffffffffffffff\r\n", Reject::BodyTooLong),
        ("10000000000000000\r\n", Reject::BodyTooLong),
        ("1\r\nx\r\nffffffffffffffff\r\n", Reject::BodyTooLong),
        ("0\r\nA\r\n", Reject::FieldName),
        ("0\r\nA : b\r\n", Reject::FieldName),
        ("0\r\n: b\r\n", Reject::FieldName),
        ("0\r\nA: b\n", Reject::FieldValue),
        ("0\r\nA: \0", Reject::FieldValue),
        ("0\r\nA: b\r\r", Reject::LineEnd),
        ("0\r\nA: b\r\n c\r\n", Reject::FoldedLine),
        ("0\r\n\n", Reject::LineEnd),
        ("0\r\n\rx", Reject::LineEnd),
    ] {
        check(input.as_bytes(), Err(expected));
    }
}

#[test]
#[cfg_attr(miri, ignore = "bodies as long as they may be, cut everywhere")]
fn limits() {
    let body = vec![b'x'; BODY_MAX];
    let text = String::from_utf8(body.clone()).unwrap();
    check(format!("{BODY_MAX:x}\r\n{text}\r\n0\r\n\r\n").as_bytes(), Ok(Some(&body)));
    check(format!("{BODY_MAX:x}\r\n{text}\r\n1\r\n").as_bytes(), Err(Reject::BodyTooLong));
    check("1\r\nx\r\n".repeat(BODY_MAX).as_bytes(), Ok(None));
    let bytewise = "1\r\nx\r\n".repeat(BODY_MAX) + "0\r\n\r\n";
    check(bytewise.as_bytes(), Ok(Some(&body)));

    let line = |length: usize| format!("{}\r\n", "0".repeat(length - 2));
    check(format!("{}\r\n", line(CHUNK_LINE_MAX)).as_bytes(), Ok(Some(b"")));
    check(line(CHUNK_LINE_MAX + 1).as_bytes(), Err(Reject::ChunkLineTooLong));
    check("0".repeat(CHUNK_LINE_MAX + 1).as_bytes(), Err(Reject::ChunkLineTooLong));

    let padded = format!("1;{}\r\nx\r\n", "e".repeat(CHUNK_LINE_MAX - 4));
    let repeats = CHUNK_OVERHEAD_MAX / (CHUNK_LINE_MAX + 2);
    check(padded.repeat(repeats).as_bytes(), Ok(None));
    check(padded.repeat(repeats + 1).as_bytes(), Err(Reject::ChunkOverhead));

    let trailers = |length: usize| format!("0\r\nA: {}\r\n\r\n", "x".repeat(length - 7));
    check(trailers(HEADER_SECTION_MAX).as_bytes(), Ok(Some(b"")));
    check(trailers(HEADER_SECTION_MAX + 1).as_bytes(), Err(Reject::SectionTooLong));
    let fields = |count: usize| format!("0\r\n{}\r\n", "A:\r\n".repeat(count));
    check(fields(HEADER_FIELDS_MAX).as_bytes(), Ok(Some(b"")));
    check(fields(HEADER_FIELDS_MAX + 1).as_bytes(), Err(Reject::TooManyFields));
}

#[test]
fn what_follows_the_body_is_left_alone() {
    let mut decoder = ChunkedDecoder::default();
    let mut body = b"kept".to_vec();
    for _ in 0..2 {
        let input = b"1\r\nx\r\n0\r\n\r\n0\r\n\r\n";
        assert_eq!(decoder.decode(input, &mut body), Ok((11, Progress::Complete(()))));
        assert_eq!(decoder.decode(b"x", &mut body), Err(Reject::Chunk));
        assert_eq!(decoder.decode(b"5\r\nab", &mut body), Ok((5, Progress::Partial)));
        decoder.reset();
    }
    assert_eq!(body, b"keptxabxab");
}
