//! The head parser and the chunked decoder against parsers of other people, on generated and mutated requests. This
//! test knows only the public face of `rinha::http`. proptest prints the input of a failure, shrunk.

#![allow(clippy::unwrap_used, reason = "clippy knows test functions, not the helpers of a test file")]

mod generated;
mod httparse;
mod monoio_http;

use generated::{TELLING, mutated, request};
use proptest::{prelude::*, sample::select};
use rinha::{
    http::{ChunkedDecoder, Framing, Head, HeadParser, Progress, Reject},
    limits,
};

#[path = "../../src/http/request/cases.rs"]
mod cases;

fn parse(input: &[u8]) -> Result<Progress<Head>, Reject> {
    HeadParser::default().parse(input)
}

fn parse_cut(input: &[u8], cuts: impl Iterator<Item = usize>) -> Result<Progress<Head>, Reject> {
    let mut parser = HeadParser::default();
    cuts.map(|cut| parser.parse(&input[..cut]))
        .find(|outcome| *outcome != Ok(Progress::Partial))
        .unwrap_or(Ok(Progress::Partial))
}

fn check_invariants(input: &[u8], cuts: &[prop::sample::Index]) {
    let whole = parse(input);
    if let Ok(Progress::Complete(head)) = &whole {
        assert!(head.length <= input.len());
        assert!(!head.target.is_empty() && head.target.end < head.length);
        assert!(input[..head.length].ends_with(b"\r\n\r\n"));
        // Not a byte less would have done, and what follows plays no part.
        assert_eq!(parse(&input[..head.length - 1]), Ok(Progress::Partial));
        assert_eq!(parse(&input[..head.length]), whole);
    }
    let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
    cuts.push(input.len());
    cuts.sort_unstable();
    assert_eq!(parse_cut(input, cuts.into_iter()), whole);
    if input.len() < 2000 {
        assert_eq!(parse_cut(input, 0..=input.len()), whole);
    }
}

#[test]
fn every_case_agrees_with_both_oracles() {
    for (input, expected) in cases::cases() {
        assert_eq!(cases::outcome(&parse(&input), &input), expected);
        httparse::compare(&input);
        monoio_http::compare(&input);
        check_invariants(&input, &[]);
    }
}

type Decoded = Result<(Vec<u8>, usize, Progress<()>), Reject>;

fn decode_cut(input: &[u8], cuts: impl Iterator<Item = usize>) -> Decoded {
    let mut decoder = ChunkedDecoder::default();
    let (mut body, mut used) = (Vec::new(), 0);
    for cut in cuts {
        let (n, progress) = decoder.decode(&input[used..cut], &mut body)?;
        used += n;
        if progress == Progress::Complete(()) {
            return Ok((body, used, progress));
        }
        assert_eq!(used, cut);
    }
    Ok((body, used, Progress::Partial))
}

fn check_chunked(input: &[u8], cuts: &[prop::sample::Index]) -> Decoded {
    let whole = decode_cut(input, [input.len()].into_iter());
    let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
    cuts.push(input.len());
    cuts.sort_unstable();
    assert_eq!(decode_cut(input, cuts.into_iter()), whole);
    assert_eq!(decode_cut(input, 0..=input.len()), whole);
    whole
}

fn cuts() -> impl Strategy<Value = Vec<prop::sample::Index>> {
    prop::collection::vec(any::<prop::sample::Index>(), 0..5)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn requests_agree_with_httparse(input in mutated()) {
        httparse::compare(&input);
    }

    #[test]
    fn accepted_requests_agree_with_monoio_http(input in prop_oneof![request(), mutated()]) {
        monoio_http::compare(&input);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn cuts_change_nothing(input in mutated(), cuts in cuts()) {
        check_invariants(&input, &cuts);
    }

    #[test]
    fn no_bytes_panic(
        input in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..200),
            prop::collection::vec(select(TELLING), 0..200),
        ],
        cuts in cuts(),
    ) {
        httparse::compare(&input);
        check_invariants(&input, &cuts);
        let _ = check_chunked(&input, &cuts);
        let _ = check_chunked(&[b"1\r\n", &input[..]].concat(), &cuts);
        let _ = check_chunked(&[b"0;", &input[..]].concat(), &cuts);
        let _ = check_chunked(&[b"0\r\n", &input[..]].concat(), &cuts);
    }

    #[test]
    fn chunks_are_undone(
        chunks in prop::collection::vec(
            (
                prop::collection::vec(any::<u8>(), 1..60),
                select(&["", ";a", " ; a=b", ";a=\"\\\"\";b"][..]),
                any::<bool>(),
            ),
            0..8,
        ),
        trailers in select(&["", "A: b\r\n", "A:\r\nB: c\r\n"][..]),
        behind in prop::collection::vec(any::<u8>(), 0..20),
        cuts in cuts(),
    ) {
        let (mut coded, mut body) = (Vec::new(), Vec::new());
        for (data, extension, upper) in &chunks {
            let size = if *upper { format!("{:X}", data.len()) } else { format!("0{:x}", data.len()) };
            coded.extend_from_slice(format!("{size}{extension}\r\n").as_bytes());
            coded.extend_from_slice(data);
            coded.extend_from_slice(b"\r\n");
            body.extend_from_slice(data);
        }
        coded.extend_from_slice(format!("0\r\n{trailers}\r\n").as_bytes());
        let length = coded.len();
        coded.extend_from_slice(&behind);
        prop_assert_eq!(check_chunked(&coded, &cuts), Ok((body, length, Progress::Complete(()))));
    }
}
